"""Gather the shards into the tables of the cohort, and account for every subject of the sheet."""

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
from paravert.network.card_file import Card, read_card
from paravert.network.split import learnt_from, split_digest
from paravert.provenance import digest
from paravert.sheet import COVARIATES, NUMBER_COLUMNS, PATH_COLUMNS, read_sheet
from paravert.study.aggregate import muscle_rows, slice_rows, subject_rows
from paravert.study.cohort_cautions import Cautions, cohort_cautions
from paravert.study.description import write_codebook, write_datapackage
from paravert.study.header_check import covariate_differences, with_differences
from paravert.study.summary import summary_of

log = logging.getLogger(__name__)

SUBJECTS_AT_ONCE = 256  # bounds the memory, changes no number; one shard may be larger


def merged_outcome(outcomes: list[records.Outcome]) -> records.Outcome:
    """Return what became of a subject after all steps, given in their order.

    The first quarantine counts; the warnings of all steps are kept.
    """
    warnings = tuple(sorted({warning for outcome in outcomes for warning in outcome.warnings}))
    first = next((o for o in outcomes if o.status == records.QUARANTINED), outcomes[0])
    fields = {"stage": first.stage, "reason": first.reason, "message": first.message}
    return records.Outcome(first.subject, first.status, "", warnings, **fields)


# --- some shards ---------------------------------------------------------------------------------


def chunks(
    by_shard: Mapping[str, Sequence[str]], most: int
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield shards that are gathered together, and their subjects: at most so many, or one shard.

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
    folders: Sequence[Path], people: pd.DataFrame, method: str, known: Set[str], told: Cautions
) -> dict[str, pd.DataFrame]:
    """Return the rows that some shards give to each cohort table.

    people: covariates by subject. known: the subjects that the model was trained on. told: warnings
    that the cohort as a whole gives cause to.
    """
    ledger = pd.concat([_ledger_rows(shard, told) for shard in folders], ignore_index=True)
    analysed = ledger.loc[ledger.status == records.ANALYSED, "subject"]
    parts = {
        step.name: _rows_of(folders, step, analysed)
        for step in steps.COHORT_STEPS
        if step.name != "draw_preview"
    }
    differences = covariate_differences(people, parts["convert_dicom"])
    for subject, told in differences.items():
        log.info("gather_cohort: %s: %s", subject, told)
    ledger = with_differences(ledger, differences)
    slices = slice_rows(parts["measure_area"], parts["measure_fat"], method)
    muscles = muscle_rows(slices)
    subjects = subject_rows(
        muscles, slices, parts["convert_dicom"], parts["segment_muscles"], people
    )
    overlap = parts["score_overlap"]
    overlap["judges_network"] = ~(overlap.labels_given.astype(bool) | overlap.subject.isin(known))
    subjects["n_warnings"] = subjects.subject.map(ledger.set_index("subject").warnings.map(len))
    return {
        "slices": slices.join(people, on="subject"),
        "muscles": muscles.join(people, on="subject"),
        "subjects": subjects,
        "overlap": overlap.join(people, on="subject"),
        "ledger": ledger,
    }


def _ledger_rows(shard: Path, told: Cautions) -> pd.DataFrame:
    by_subject: dict[str, list[records.Outcome]] = {}
    for step in steps.COHORT_STEPS:
        for outcome in shard_tables.read_outcomes(shard / f"{step.table.name}.parquet"):
            by_subject.setdefault(outcome.subject, []).append(outcome)
    merged = {subject: merged_outcome(outcomes) for subject, outcomes in by_subject.items()}
    rows = [
        shard_tables.told_by(replace(outcome, warnings=_joined(outcome, told.get(subject, ()))))
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

    Reads a few shards at a time: only the subject sheet takes more memory in a larger cohort.
    Raises RuntimeError when the ledger and the sheet differ: that would be a fault of this program.
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
    told = cohort_cautions(folder, by_shard, by_subject)
    del rows, by_subject
    known = learnt_from(model)
    if named := known & set(people.index):
        log.info(
            "gather_cohort: the model learnt from subjects so named: %s", some_of(sorted(named))
        )
    parts = _parts(folder, by_shard, people, fat_fraction, known, told)
    _write_tables(out, parts, metadata | {"made_from": made_from})
    _check_nobody_is_lost(out, by_shard)
    write_codebook(out / "codebook.csv")
    write_datapackage(out / "datapackage.json", metadata)
    (out / "configuration.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    log.info("gather_cohort: %s", summary_of(out / "ledger.parquet"))


def _parts(
    folder: Path,
    by_shard: dict,
    people: pd.DataFrame,
    method: str,
    known: Set[str],
    told: Cautions,
) -> Iterator[dict]:
    for names, subjects in chunks(by_shard, SUBJECTS_AT_ONCE):
        own = people.loc[subjects]
        yield _rows_of_chunk([folder / name for name in names], own, method, known, told)


def _run_id(settings: dict, rows: list[dict[str, str]]) -> str:
    """Return a short digest of settings, sheet and version; where the files lie does not count."""
    told = [{k: v for k, v in row.items() if k not in PATH_COLUMNS} for row in rows]
    return digest([settings, told, __version__])[:12]


def _notice(card: Card) -> str:
    """Return what the model's card says of its training data and of its use."""
    trained_on = card.trained_on and f"The model was trained on {card.trained_on}."
    return f"{trained_on} {card.note}".strip()


def _write_tables(out: Path, parts: Iterator[dict], metadata: dict[str, str]) -> None:
    with tables.Writers(out, codebook.COHORT_TABLES, metadata) as writers:
        for part in parts:
            for table in codebook.COHORT_TABLES:
                rows = part[table.name][table.schema().names]
                data = pa.Table.from_pandas(rows, schema=table.schema(), preserve_index=False)
                writers.add(table, data.replace_schema_metadata(None))


def _check_nobody_is_lost(out: Path, by_shard: dict[str, list[str]]) -> None:
    expected = sorted(subject for subjects in by_shard.values() for subject in subjects)
    found = sorted(pq.read_table(out / "ledger.parquet", columns=["subject"])[0].to_pylist())
    if found != expected:
        lost, extra = set(expected) - set(found), set(found) - set(expected)
        raise RuntimeError(f"the ledger lacks {sorted(lost)} and has too much {sorted(extra)}")
