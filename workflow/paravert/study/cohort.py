"""Gathers the shards into the tables of the cohort; every subject of the sheet is in the ledger."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer
import yaml

from paravert import __version__, codebook, plan, records, shard_tables, steps, tables
from paravert.errors import Caution, some_of
from paravert.network.model_file import Card, learnt_from, read_card, split_digest
from paravert.provenance import digest
from paravert.sheet import COVARIATES, NUMBER_COLUMNS, PATH_COLUMNS, read_sheet
from paravert.study.aggregate import cohort_muscles, cohort_slices, cohort_subjects
from paravert.study.cohort_warnings import (
    Cautions,
    covariate_differences,
    image_warnings,
    with_differences,
)
from paravert.study.dictionary import write_codebook, write_datapackage
from paravert.study.summary import summary_of

log = logging.getLogger(__name__)

SUBJECTS_AT_ONCE = 256  # bounds the memory and changes no number; a shard may hold more


def merged_outcome(outcomes: list[records.Outcome]) -> records.Outcome:
    """Return the outcome of a subject over all steps, given in their order.

    It is the first quarantine, or analysed, with the warnings and messages of all steps.
    """
    warnings = tuple(sorted({warning for outcome in outcomes for warning in outcome.warnings}))
    first = next((o for o in outcomes if o.status == records.QUARANTINED), outcomes[0])
    told = [outcome.message for outcome in outcomes if outcome.message]
    message = first.message if first.status == records.QUARANTINED else "; ".join(told) or None
    fields = {"stage": first.stage, "reason": first.reason, "message": message}
    return records.Outcome(first.subject, first.status, "", warnings, **fields)


# --- some shards ---------------------------------------------------------------------------------


def chunks(
    by_shard: Mapping[str, Sequence[str]], most: int
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield groups of shards and their subjects: at most `most` subjects, but at least one shard.

    by_shard: the subjects of each shard, in order.
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
    method: str,
    trained_on: Set[str],
    warned: Cautions,
) -> dict[str, pd.DataFrame]:
    """Return the rows of each cohort table from some shards.

    people: covariates by subject. trained_on: subjects that the model was trained on. warned:
    further warnings by subject.
    """
    ledger = pd.concat([_ledger_rows(shard, warned) for shard in folders], ignore_index=True)
    analysed = ledger.loc[ledger.status == records.ANALYSED, "subject"]
    parts = {
        step.name: _rows_of(folders, step, analysed)
        for step in steps.COHORT_STEPS
        if step.name != "draw_preview"
    }
    differences = covariate_differences(people, parts["convert_dicom"])
    for subject, difference in differences.items():
        log.info("gather_cohort: %s: %s", subject, difference)
    ledger = with_differences(ledger, differences)
    slices = cohort_slices(parts["measure_area"], parts["measure_fat"], method)
    muscles = cohort_muscles(slices)
    subjects = cohort_subjects(
        muscles, slices, parts["convert_dicom"], parts["segment_muscles"], people
    )
    overlap = parts["score_overlap"]
    overlap["held_out"] = ~(overlap.labels_given.astype(bool) | overlap.subject.isin(trained_on))
    subjects["n_warnings"] = subjects.subject.map(ledger.set_index("subject").warnings.map(len))
    return {
        "slices": slices.join(people, on="subject"),
        "muscles": muscles.join(people, on="subject"),
        "subjects": subjects,
        "overlap": overlap.join(people, on="subject"),
        "ledger": ledger,
    }


def _ledger_rows(shard: Path, warned: Cautions) -> pd.DataFrame:
    by_subject: dict[str, list[records.Outcome]] = {}
    for step in steps.COHORT_STEPS:
        for outcome in shard_tables.read_outcomes(shard / f"{step.table.name}.parquet"):
            by_subject.setdefault(outcome.subject, []).append(outcome)
    merged = {subject: merged_outcome(outcomes) for subject, outcomes in by_subject.items()}
    rows = [
        shard_tables.told_by(replace(outcome, warnings=_joined(outcome, warned.get(subject, ()))))
        for subject, outcome in merged.items()
    ]
    return pd.DataFrame(rows, columns=[column.name for column in tables.OUTCOME])


def _joined(outcome: records.Outcome, more: Iterable[Caution]) -> tuple[str, ...]:
    return tuple(sorted({*outcome.warnings, *map(str, more)}))


def _rows_of(folders: Sequence[Path], step: steps.Step, analysed: pd.Series) -> pd.DataFrame:
    files = [shard / f"{step.table.name}.parquet" for shard in folders]
    rows = pa.concat_tables(
        [shard_tables.read_shard_rows(file).replace_schema_metadata(None) for file in files]
    ).to_pandas()
    return rows[rows.subject.isin(analysed)].reset_index(drop=True)


def _covariates(rows: list[dict[str, str]]) -> pd.DataFrame:
    """Return the covariates by subject."""
    columns = {name: [row[name] or None for row in rows] for name in COVARIATES}
    types = {name: float if name in NUMBER_COLUMNS else object for name in COVARIATES}
    names = pd.Index([row["subject"] for row in rows], name="subject", dtype=object)
    return pd.DataFrame(columns, index=names, dtype=object).astype(types)


# --- the cohort ----------------------------------------------------------------------------------


def gather_cohort(
    sheet: Annotated[Path, typer.Option(help="Subject sheet.")],
    folder: Annotated[Path, typer.Option(help="Folder of the shards.")],
    out: Annotated[Path, typer.Option(help="Folder of the cohort tables.")],
    fat_fraction: Annotated[str, typer.Option(help="Method that becomes fat_fraction.")],
    configuration: Annotated[str, typer.Option(help="Resolved configuration, as JSON.")],
    model: Annotated[Path, typer.Option(help="Model; its card (.json) lies beside it.")],
    model_sha256: Annotated[str, typer.Option(help="SHA-256 of the model.")],
    subjects_per_shard: Annotated[int, typer.Option(help="Subjects in a shard.")] = 64,
    subjects: Annotated[str, typer.Option(help="Subjects at hand, comma-separated.")] = "",
) -> None:
    """Gather the shards into the cohort's tables, codebook and ledger.

    Reads a few shards at a time; of memory, only that of the subject sheet grows with the cohort.
    Raises RuntimeError if ledger and sheet list different subjects, which would be a bug.
    """
    rows = read_sheet(sheet)
    by_shard = plan.shard_plan([row["subject"] for row in rows], subjects_per_shard, subjects)
    settings = json.loads(configuration)
    plan.check_shard_tables(folder, by_shard, plan.step_settings(settings))
    metadata = {
        "software_version": __version__,
        "model_sha256": model_sha256,
        "model_notice": _notice(read_card(model)),
        "run_id": _run_id(settings, rows),
    }
    out.mkdir(parents=True, exist_ok=True)
    people = _covariates(rows)
    by_subject = {row["subject"]: row for row in rows}
    made_from = plan.cohort_made_from(by_shard, by_subject, configuration, split_digest(model))
    warned = image_warnings(folder, by_shard, by_subject)
    del rows, by_subject
    trained_on = learnt_from(model)
    if named := trained_on & set(people.index):
        log.info("gather_cohort: the model was trained on subjects %s", some_of(sorted(named)))
    parts = _parts(folder, by_shard, people, fat_fraction, trained_on, warned)
    _write_tables(out, parts, metadata | {"made_from": made_from})
    _check_all_subjects_are_listed(out, by_shard)
    write_codebook(out / "codebook.csv")
    write_datapackage(out / "datapackage.json", metadata)
    (out / "configuration.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    log.info("gather_cohort: %s", summary_of(out / "ledger.parquet"))


def _parts(
    folder: Path,
    by_shard: dict,
    people: pd.DataFrame,
    method: str,
    trained_on: Set[str],
    warned: Cautions,
) -> Iterator[dict]:
    for names, subjects in chunks(by_shard, SUBJECTS_AT_ONCE):
        own = people.loc[subjects]
        yield _rows_of_chunk([folder / name for name in names], own, method, trained_on, warned)


def _run_id(settings: dict, rows: list[dict[str, str]]) -> str:
    """Return a short digest of settings, sheet (without its paths) and software version."""
    covariates = [{k: v for k, v in row.items() if k not in PATH_COLUMNS} for row in rows]
    return digest([settings, covariates, __version__])[:12]


def _notice(card: Card) -> str:
    """Return the notice of the report: training data and note of the model's card."""
    trained_on = card.trained_on and f"The model was trained on {card.trained_on}."
    return f"{trained_on} {card.note}".strip()


def _write_tables(out: Path, parts: Iterator[dict], metadata: dict[str, str]) -> None:
    with tables.Writers(out, codebook.COHORT_TABLES, metadata) as writers:
        for part in parts:
            for table in codebook.COHORT_TABLES:
                rows = part[table.name][table.schema().names]
                data = pa.Table.from_pandas(rows, schema=table.schema(), preserve_index=False)
                writers.add(table, data.replace_schema_metadata(None))


def _check_all_subjects_are_listed(out: Path, by_shard: dict[str, list[str]]) -> None:
    expected = sorted(subject for subjects in by_shard.values() for subject in subjects)
    found = sorted(pq.read_table(out / "ledger.parquet", columns=["subject"])[0].to_pylist())
    if found != expected:
        lost, extra = set(expected) - set(found), set(found) - set(expected)
        raise RuntimeError(f"the ledger lacks {sorted(lost)} and has in excess {sorted(extra)}")
