"""Gathers the shard tables into the cohort tables; every selected subject is in the ledger."""

import hashlib
import json
import logging
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer
import yaml
from pandas.api.types import is_bool_dtype

from paravert import __version__, codebook, plan, records, shard_tables, steps, tables
from paravert.anatomy import MUSCLES, level_name
from paravert.errors import Caution, some_of
from paravert.network.model_file import Card, card_file, learnt_from, read_card, split_digest
from paravert.outputs import EXPORTS
from paravert.provenance import digest
from paravert.sheet import N_LUMBAR, YEARS, read_sheet, scan_name, scan_of, selected_scans
from paravert.study.aggregate import (
    cohort_muscles,
    cohort_series,
    cohort_slices,
    cohort_subjects,
)
from paravert.study.centiles import MEASURES, with_z_scores
from paravert.study.flags import (
    FAT_OUTLIER,
    FLAG_CODES,
    doubtful_sections,
    fat_outliers,
    flagged,
    scan_quality,
)
from paravert.study.level_areas import (
    areas_at_levels,
    at_standard_level,
    without_missing_levels,
)
from paravert.study.people import carried_columns, carried_values, covariates_of
from paravert.study.ratings import (
    ANY,
    Place,
    Rating,
    RatingFiles,
    RatingRule,
    check_rule,
    check_scans,
    failed,
    in_failed_muscle,
    read_ratings,
    without_failed_muscles,
)
from paravert.study.scans import scan_keys, scan_names, split_scans
from paravert.study.standard_level import LEVEL_METADATA, USUAL_LEVEL, standard_number
from paravert.study.summary import IN_SHEET, summary_of
from paravert.tables import LABELS_DIGEST, OLDEST_AGE_YEARS, REVIEW_FAILED

log = logging.getLogger(__name__)

EXCLUDED = "excluded"  # status of a subject that failed the review
SUBJECTS_AT_ONCE = 256  # bounds the memory and changes no number; a shard may hold more
AGE_TOLERANCE_YEARS = 1.0  # headers give whole years, the sheet perhaps the age at another visit
BMI_TOLERANCE = 0.5  # kg/m2; more than rounding of height and weight
Cautions = Mapping[str, set[Caution]]  # by subject


def gather_cohort(
    sheet: Annotated[Path, typer.Option(help="Subject sheet.")],
    folder: Annotated[Path, typer.Option(help="Folder of the shards.")],
    out: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    fat_fraction: Annotated[str, typer.Option(help="Method that becomes fat_fraction.")],
    configuration: Annotated[str, typer.Option(help="Resolved configuration, as JSON.")],
    model: Annotated[Path, typer.Option(help="Model; its card (.json) lies beside it.")],
    model_sha256: Annotated[str, typer.Option(help="SHA-256 of the model.")],
    subjects_per_shard: Annotated[int, typer.Option(min=1, help="Subjects in a shard.")] = 64,
    subjects: Annotated[str, typer.Option(help="Subjects at hand, comma-separated.")] = "",
    ratings: RatingFiles = None,
    rating_rule: RatingRule = ANY,
    level_standard: Annotated[
        str, typer.Option(help="Vertebra or disc of csa_at_level_mm2, from L1 to L5/S1.")
    ] = USUAL_LEVEL,
) -> None:
    """Gather the shards into the cohort's tables, codebook and ledger.

    The ledger is the table with one row per subject (with visits: per scan) that was taken from the
    sheet: analysed, quarantined or excluded, and why. Shards (tables of groups of subjects) are read a
    few at a time, which saves memory. Beside the tables (Parquet) are codebook.csv, datapackage.json
    and configuration.yaml. Exports of earlier tables (folders csv, stata and spss in `out`) are
    removed. fat_fraction: a method of tables.HEADLINES, such as "linear". subjects: names of the
    subjects or scans of the sheet to take; "" takes all. rating_rule: "any", "all" or the name of a
    rater, as in `ratings.failed`. Raises InputError for a faulty sheet, selection, model card or file
    of ratings, ratings of scans under other names than in the sheet, a rating_rule that names a rater
    without ratings, a damaged or outdated shard table, and an unknown level_standard; RuntimeError if
    the ledger does not list the subjects taken, which would be a bug.
    """
    standard = standard_number(level_standard)
    people_sheet = read_sheet(sheet)
    rows = people_sheet.rows
    by_scan = {scan_of(row): row for row in rows}
    by_shard = plan.shard_plan(list(by_scan), subjects_per_shard, selected_scans(rows, subjects))
    settings = json.loads(configuration)
    plan.check_shard_tables(folder, by_shard, plan.step_settings(settings), by_scan)
    people = covariates_of(rows)
    columns = carried_columns(people_sheet, settings["columns"])
    carried = carried_values(rows, columns)
    scans = {name: (row["subject"], row["visit"]) for name, row in by_scan.items()}
    cohort_tables = codebook.tables_with(columns, any(visit for _, visit in scans.values()))
    away = plan.subjects_away(by_shard, by_scan)
    resolved = yaml.safe_dump(settings, sort_keys=False)
    made_by = [settings, [*map(plan.without_paths, rows)], __version__, steps.VERSIONS]
    metadata = {
        "software_version": __version__,
        "model_sha256": model_sha256,
        "configuration_sha256": hashlib.sha256(resolved.encode()).hexdigest(),
        "model_notice": _notice(read_card(model)),
        LEVEL_METADATA: level_name(standard),
        "run_id": digest(made_by)[:12],
    }
    if subjects:
        metadata[IN_SHEET] = str(len({row["subject"] for row in rows}))
    judged = read_ratings(ratings or ())
    files = [card_file(model), *(ratings or ())]
    cohort = plan.cohort_made_from(
        by_shard, by_scan, away, configuration, split_digest(model), files
    )
    made_from = plan.gathered_from(cohort, folder, by_shard)
    del people_sheet, rows, by_scan
    check_rule(judged, rating_rule)
    if judged:
        check_scans(judged, scans, _labels_digests(folder, by_shard))
    trained_on = learnt_from(model)
    if named := trained_on & {subject for subject, _ in scans.values()}:
        log.info("gather_cohort: the model was trained on subjects %s", some_of(sorted(named)))
    warned = _image_warnings(folder, by_shard, away)
    thresholds = settings["flags"]
    parts = (
        _rows_of_chunk(
            [folder / name for name in names],
            people.loc[own],
            carried.loc[own],
            fat_fraction,
            standard,
            trained_on,
            warned,
            (judged, rating_rule),
            {scan: scans[scan] for scan in own},
        )
        for names, own in chunks(by_shard, SUBJECTS_AT_ONCE)
    )
    out.mkdir(parents=True, exist_ok=True)
    for name in EXPORTS:  # of earlier tables
        shutil.rmtree(out / name, ignore_errors=True)
    _write_tables(out, cohort_tables, parts, metadata | {"made_from": made_from}, thresholds)
    _check_all_subjects_are_listed(out, by_shard)
    codebook.write_codebook(out / "codebook.csv", cohort_tables)
    codebook.write_datapackage(out / "datapackage.json", metadata, cohort_tables)
    (out / "configuration.yaml").write_text(resolved, encoding="utf-8")
    log.info("gather_cohort: %s", summary_of(out / "ledger.parquet"))


def _labels_digests(folder: Path, by_shard: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
    """Return {scan: digest of its present labels}. folder: with a folder of tables per shard."""
    found = {}
    for shard in by_shard:
        table = steps.STEPS["draw_preview"].table_file(folder / shard)
        rows = pq.read_table(table, columns=["subject", LABELS_DIGEST.name]).to_pydict()
        found |= zip(rows["subject"], rows[LABELS_DIGEST.name], strict=True)
    return found


def _notice(card: Card) -> str:
    """Return the notice of the report: training data and note of the model's card."""
    trained_on = card.trained_on and f"The model was trained on {card.trained_on}."
    return f"{trained_on} {card.note}".strip()


def _write_tables(
    out: Path,
    cohort_tables: Sequence[tables.Table],
    parts: Iterator[dict[str, pd.DataFrame]],
    metadata: dict[str, str],
    thresholds: Mapping[str, float],
) -> None:
    """Write the cohort tables; `subjects` and `ledger` at the end, as their flags need all scans.

    thresholds: of the flags, see `flags.flagged`.
    """
    per_scan = ("subjects", "ledger")
    kept = []
    with tables.whole_tables(out, cohort_tables, metadata) as append:

        def write(part: dict[str, pd.DataFrame]) -> None:
            for table in cohort_tables:
                if table.name in part:
                    rows = part[table.name][table.schema().names]
                    data = pa.Table.from_pandas(rows, schema=table.schema(), preserve_index=False)
                    append(table, data.replace_schema_metadata(None))

        for part in parts:
            kept.append({name: part.pop(name) for name in per_scan})
            slices = part["slices"]
            doubtful = doubtful_sections(slices.predicted_iou, thresholds["section_iou"])
            write(part | {"slices": slices.assign(doubtful=doubtful)})
        for part in with_flags(kept, thresholds):
            write(part)


def with_flags(
    parts: Sequence[dict[str, pd.DataFrame]], thresholds: Mapping[str, float]
) -> Iterator[dict[str, pd.DataFrame]]:
    """Yield the tables of subjects and ledger with the columns that depend on all scans of the cohort.

    parts: {"subjects": rows, "ledger": rows} of groups of scans. subjects: the cohort table without the
    columns added here. ledger: one row per scan, analysed or not, with sex, age_years, warnings,
    codebook.QUALITY_COLUMNS but fat_outlier_sd, and fat_fraction (0-1) from before scans and muscles
    that raters failed were left out. thresholds: section `flags` of the configuration, {key: value}.
    Yields copies of the parts in their order. Both tables get fat_outlier_sd (`flags.fat_outliers`:
    residual given sex and age, in SD). The ledger's warnings get the codes of the automatic flags,
    which mark unusual measurements (`flags.FLAGS`). `subjects` gets n_warnings (number of the scan's
    warnings, these flags included) and z-scores z_<measure>_<muscle> (`codebook.z_column`).
    """
    columns = ["sex", "age_years", "fat_fraction"]
    names = [scan_names(part["ledger"]) for part in parts]
    scans = [part["ledger"][columns].set_axis(own) for part, own in zip(parts, names, strict=True)]
    outliers = fat_outliers(pd.concat(scans).sort_index()) if scans else pd.Series(dtype=float)
    scores = _z_scores([part["subjects"] for part in parts]) if parts else {}
    for part, own in zip(parts, names, strict=True):
        found = own.map(outliers)
        ledger = flagged(part["ledger"].assign(**{FAT_OUTLIER: found}), thresholds)
        counts = pd.Series(ledger.warnings.map(len).to_numpy(), own)
        subjects = part["subjects"]
        of_subjects = scan_names(subjects)
        more = {FAT_OUTLIER: of_subjects.map(outliers), "n_warnings": of_subjects.map(counts)}
        more |= {name: of_subjects.map(values) for name, values in scores.items()}
        yield {"subjects": subjects.assign(**more), "ledger": ledger}


def _z_scores(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the z-scores of all scans, indexed by their names. parts: of the table of subjects."""
    measures = [measure.column_of(muscle) for measure in MEASURES for muscle in MUSCLES]
    columns = [*scan_keys(parts[0]), "sex", "age_years", *measures]
    columns += [name for name in parts[0] if name.lower() == YEARS]
    subjects = pd.concat([part[columns] for part in parts], ignore_index=True)
    scores = with_z_scores(subjects).drop(columns=columns)
    return scores.set_axis(scan_names(subjects))


def _check_all_subjects_are_listed(out: Path, by_shard: dict[str, list[str]]) -> None:
    expected = sorted(subject for subjects in by_shard.values() for subject in subjects)
    ledger = out / "ledger.parquet"
    keys = [name for name in ("subject", "visit") if name in pq.read_schema(ledger).names]
    rows = pq.read_table(ledger, columns=keys).to_pylist()
    found = sorted(scan_name(row["subject"], row.get("visit")) for row in rows)
    if found != expected:
        lost, extra = set(expected) - set(found), set(found) - set(expected)
        raise RuntimeError(f"the ledger lacks {sorted(lost)} and has in excess {sorted(extra)}")


# --- some shards ---------------------------------------------------------------------------------


def chunks(
    by_shard: Mapping[str, Sequence[str]], most: int
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield groups of consecutive shards, each as (names of the shards, names of their scans).

    by_shard: {shard: names of its scans}. most: largest number of scans in a group; a shard with more
    is a group of its own. Shards are not split.
    """
    names: list[str] = []
    subjects: list[str] = []
    for shard, own in by_shard.items():
        if names and len(subjects) + len(own) > most:
            yield names, subjects
            names, subjects = [], []
        names.append(shard)
        subjects.extend(own)
    if names:
        yield names, subjects


def _rows_of_chunk(
    folders: Sequence[Path],
    people: pd.DataFrame,
    carried: pd.DataFrame,
    method: str,
    standard: float,
    trained_on: Set[str],
    warned: Cautions,
    judged: tuple[Sequence[Rating], str],
    scans: Mapping[str, tuple[str, str]],
) -> dict[str, pd.DataFrame]:
    """Return the rows of each cohort table, by table name, from some shards.

    folders: of the shards. people: covariates by scan. carried: other columns of the sheet by scan.
    method: key of tables.HEADLINES. standard: level of csa_at_level_mm2. trained_on: subjects that the
    model was trained on. warned: warnings that are in no shard table. judged: ratings, and the rule
    where raters differ. scans: subject and visit by the name of the scan; until the tables are
    complete, their column subject holds that name.
    """
    ledger = pd.concat([_ledger_rows(shard, warned) for shard in folders], ignore_index=True)
    analysed = ledger.loc[ledger.status == records.ANALYSED, "subject"]
    pictures = _rows_of(folders, steps.STEPS["draw_preview"], analysed).set_index("subject")
    ledger[LABELS_DIGEST.name] = ledger.subject.map(pictures.labels_digest).astype(object)
    parts = {
        step.name: _rows_of(folders, step, analysed)
        for step in steps.COHORT_STEPS
        if step.name != "draw_preview"
    }
    slices = cohort_slices(
        parts["measure_area"], parts["measure_fat"], parts["find_levels"], method
    )
    quality = scan_quality(slices)
    ledger, failed_muscles = _reviewed(ledger.join(quality, on="subject"), *judged)
    analysed = ledger.loc[ledger.status == records.ANALYSED, "subject"]
    overlap = parts.pop("score_overlap")
    seen = {scan for scan, (subject, _) in scans.items() if subject in trained_on}
    overlap["held_out"] = ~(overlap.labels_given.astype(bool) | overlap.subject.isin(seen))
    failed_scan = ~overlap.subject.isin(analysed)
    overlap["review_failed"] = failed_scan | in_failed_muscle(overlap, failed_muscles)
    if failed_muscles:
        measured = (
            without_failed_muscles(parts[step], failed_muscles, step)
            for step in ("measure_area", "measure_fat")
        )
        slices = cohort_slices(*measured, parts["find_levels"], method)
    slices, converted, segmented = (
        rows[rows.subject.isin(analysed)].reset_index(drop=True)
        for rows in (slices, parts["convert_dicom"], parts["segment_muscles"])
    )
    of_headers = covariate_differences(people, converted)
    for caution, differences in (
        (Caution.COVARIATE_DIFFERS_FROM_HEADER, of_headers),
        (Caution.BMI_DIFFERS, bmi_differences(people, carried)),
    ):
        for subject, difference in differences.items():
            log.info("gather_cohort: %s: %s", subject, difference)
        ledger = with_differences(ledger, differences, caution)
    levels, muscles = areas_at_levels(slices), cohort_muscles(slices)
    if N_LUMBAR in carried:
        levels, muscles = without_missing_levels(levels, muscles, carried[N_LUMBAR])
    muscles = at_standard_level(muscles, levels, standard)
    subjects = cohort_subjects(muscles, slices, converted, segmented, people)
    quality = quality.drop(columns="fat_fraction")
    subjects = subjects.join(quality, on="subject").join(carried, on="subject")
    # Not in the other tables, where a column of the sheet may have this name.
    slices, overlap = (rows.rename(columns={"stack": "stack_id"}) for rows in (slices, overlap))
    found = {
        "slices": slices.join(people, on="subject"),
        "levels": levels.join(people, on="subject"),
        "muscles": muscles.join(people, on="subject"),
        "subjects": subjects,
        "overlap": overlap.join(people, on="subject"),
        "series": cohort_series(converted).join(people, on="subject"),
        "ledger": ledger.join(people, on="subject").join(carried, on="subject"),
    }
    return {name: split_scans(frame, scans) for name, frame in found.items()}


def _ledger_rows(shard: Path, warned: Cautions) -> pd.DataFrame:
    by_subject: dict[str, list[records.Outcome]] = defaultdict(list)
    for step in steps.COHORT_STEPS:
        for outcome in shard_tables.read_outcomes(step.table_file(shard)):
            by_subject[outcome.subject].append(outcome)
    rows = [
        shard_tables.outcome_row(merged_outcome(outcomes, warned.get(subject, set())))
        for subject, outcomes in by_subject.items()
    ]
    return pd.DataFrame(rows, columns=[column.name for column in tables.OUTCOME])


def _reviewed(
    ledger: pd.DataFrame, ratings: Sequence[Rating], rule: str
) -> tuple[pd.DataFrame, Mapping[str, frozenset[Place]]]:
    """Return the ledger with failed scans as excluded, and the failed muscles of the others by subject.

    ledger: with labels_digest. A scan with a rating of other labels gets a warning.
    """
    known = ledger[ledger.status == records.ANALYSED].set_index("subject").labels_digest
    found = failed(ratings, known.to_dict(), rule)
    out = ledger.subject.isin(found.scans)
    columns = ["status", "stage", "reason", "message"]
    ledger[columns] = ledger[columns].astype(object)
    told = "rated as failed on the review page"
    ledger.loc[out, columns] = [EXCLUDED, "gather_cohort", REVIEW_FAILED, told]
    changed = dict.fromkeys(found.outdated, "the labels have changed since they were rated")
    for subject, words in changed.items():
        log.info("gather_cohort: %s: %s", subject, words)
    return with_differences(ledger, changed, Caution.RATING_OUTDATED), found.muscles


def merged_outcome(
    outcomes: list[records.Outcome], more: Set[Caution] = frozenset()
) -> records.Outcome:
    """Return the outcome (analysed, or quarantined and why) of one scan over all steps, for the ledger.

    outcomes: of this scan, one per step, in the order of the steps; at least one. more: further
    warnings. The result is the outcome of the first step that quarantined the scan. If none did, it is
    analysed, with the messages of all steps joined by "; ", None without messages. In both cases the
    warnings are those of all steps and `more`, sorted, without those of the automatic flags
    (FLAG_CODES), which `with_flags` adds, and the fingerprint (digest of what a step was computed from)
    is "".
    """
    warnings = {warning for outcome in outcomes for warning in outcome.warnings} | {*map(str, more)}
    warnings -= FLAG_CODES  # results of earlier versions have some
    first = next((o for o in outcomes if o.status == records.QUARANTINED), outcomes[0])
    if first.status != records.QUARANTINED:
        told = [outcome.message for outcome in outcomes if outcome.message]
        first = replace(first, message="; ".join(told) or None)
    return replace(first, fingerprint="", warnings=tuple(sorted(warnings)))


def _rows_of(folders: Sequence[Path], step: steps.Step, analysed: pd.Series) -> pd.DataFrame:
    files = [step.table_file(shard) for shard in folders]
    rows = pa.concat_tables(
        [shard_tables.read_shard_rows(file).replace_schema_metadata(None) for file in files]
    ).to_pandas()
    return rows[rows.subject.isin(analysed)].reset_index(drop=True)


# --- warnings that are in no shard table: a corrected covariate computes no image again -------------


def _image_warnings(
    folder: Path, by_shard: Mapping[str, Sequence[str]], away: Set[str]
) -> Cautions:
    """Return {scan: warnings about its images}: images-offline and images-shared.

    folder: with a folder of tables per shard. by_shard: {shard: scans}. away: scans whose images
    cannot be read (images-offline); only analysed ones are warned of. images-shared: two scans have
    a stack with the same voxels, by the column image_digests.
    """
    found: dict[str, set[Caution]] = defaultdict(set)
    owners: dict[bytes, list[str]] = defaultdict(list)
    columns = ["subject", "status", "image_digests"]
    for shard in by_shard:
        table = steps.STEPS["convert_dicom"].table_file(folder / shard)
        for row in pq.read_table(table, columns=columns).to_pylist():
            if row["status"] == records.ANALYSED and row["subject"] in away:
                found[row["subject"]].add(Caution.IMAGES_OFFLINE)
            for image in set(row["image_digests"] or ()):
                owners[image].append(row["subject"])
    for group in sorted({tuple(sorted(group)) for group in owners.values() if len(group) > 1}):
        log.info("gather_cohort: the same images: %s", some_of(group))
        for subject in group:
            found[subject].add(Caution.IMAGES_SHARED)
    return found


def covariate_differences(people: pd.DataFrame, converted: pd.DataFrame) -> dict[str, str]:
    """Return {scan: sentence} for scans whose sex or age differs between sheet and image header.

    people: columns sex and age_years of the sheet, indexed by scan. converted: columns subject (the
    scan), header_sex (0010,0040) and header_age_years (0010,1010), as in tables.CONVERT; its scans
    are compared, one row each. Ages differ if they are more than AGE_TOLERANCE_YEARS (1) apart; 90
    in the header means 90 and older. Unknown values are not compared.
    """
    header = converted.set_index("subject")
    own = people.reindex(header.index)
    sex = own.sex.notna() & header.header_sex.notna() & (own.sex != header.header_sex)
    difference = _age_difference(own.age_years.astype(float), header.header_age_years.astype(float))
    age = difference > AGE_TOLERANCE_YEARS
    found = {}
    for subject in header.index[sex | age]:
        words = ["sex differs from PatientSex (0010,0040)"] if sex[subject] else []
        if age[subject]:
            words.append(
                f"age_years differs from PatientAge (0010,1010) by {difference[subject]:.1f}"
            )
        found[subject] = "; ".join(words)
    return found


def _age_difference(sheet: pd.Series, header: pd.Series) -> pd.Series:
    """Return the absolute difference in years; a header age of 90 means 90 or older."""
    oldest = (header == OLDEST_AGE_YEARS) & (sheet > OLDEST_AGE_YEARS)
    return (sheet - header).abs().where(~oldest, 0.0)


def bmi_differences(people: pd.DataFrame, carried: pd.DataFrame) -> dict[str, str]:
    """Return {scan: sentence} for scans whose BMI in the sheet differs from weight / height^2.

    people: column bmi_kg_m2 (from height and weight), indexed by scan. carried: the sheet's columns
    that paravert does not define, indexed by scan; its column bmi (BMI, Bmi) is compared, unless it
    is of yes/no. A difference is more than BMI_TOLERANCE (0.5 kg/m2). Values that are unknown or
    not numbers are not compared; without a column bmi the result is empty.
    """
    found = {}
    for name in (column for column in carried if column.lower() == "bmi"):
        if is_bool_dtype(carried[name].dropna().infer_objects()):
            continue
        own = pd.to_numeric(carried[name], errors="coerce")
        difference = (own - people.bmi_kg_m2).abs()
        for subject in difference.index[difference > BMI_TOLERANCE]:
            found[subject] = f"bmi differs from weight and height by {difference[subject]:.1f}"
    return found


def with_differences(
    ledger: pd.DataFrame, differences: dict[str, str], caution: Caution
) -> pd.DataFrame:
    """Return a copy of the ledger in which some subjects have one more warning and message.

    ledger: columns subject, warnings (tuples of codes) and message (text or null). differences: {name
    in the column subject: message}, names that are not there are ignored; the message is appended to
    one that is already there, after "; ". caution: code of the warning, the same for all. Warnings stay
    sorted.
    """
    ledger = ledger.copy()
    for row in ledger.index[ledger.subject.isin(differences)]:
        message, before = differences[ledger.at[row, "subject"]], ledger.at[row, "message"]
        codes = {*ledger.at[row, "warnings"], str(caution)}
        ledger.at[row, "warnings"] = tuple(sorted(codes))
        ledger.at[row, "message"] = message if pd.isna(before) else f"{before}; {message}"
    return ledger
