"""Assignment of subjects to shards, and detection of out-of-date tables.

Snakemake records the provenance of an output when it sees the job end. It has no record of jobs that
end while it is not running. So each table stores a digest of its inputs, settings and step version
(`made_from`), and every run compares these digests when it plans.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path

from paravert import provenance
from paravert.anatomy import USUAL_LUMBAR
from paravert.errors import InputError
from paravert.label_sources import OWN, LabelSource
from paravert.provenance import digest
from paravert.shard_tables import read_made_from, read_outcomes
from paravert.sheet import CONVERTED_COLUMNS, N_LUMBAR, PATH_COLUMNS, lumbar_count, scan_of
from paravert.steps import COHORT_STEPS, STEPS, VERSIONS, Step

FIRST = STEPS["convert_dicom"]
COHORT_RULES = (
    "gather_cohort",
    "export_tables",
    "fit_models",
    "fit_centiles",
    "write_tables",
    "draw_figures",
    "write_report",
)


# --- shards --------------------------------------------------------------------------------------


def shard_names(subjects: Sequence[str], subjects_per_shard: int) -> dict[str, str]:
    """Return the name of each subject's shard, by subject.

    The number of shards is a power of two, so that it changes only when the cohort doubles; the shard
    follows from a stable hash of the name. With one subject per shard its name is the subject's.
    """
    if subjects_per_shard == 1:
        return {subject: subject for subject in subjects}
    shards = 1 << max(0, (-(-len(subjects) // subjects_per_shard) - 1)).bit_length()
    width = len(f"{shards - 1:x}")
    return {subject: f"{_stable_hash(subject) % shards:0{width}x}" for subject in subjects}


def shard_plan(
    subjects: Sequence[str], subjects_per_shard: int, selection: str = ""
) -> dict[str, list[str]]:
    """Return the subjects of each shard that has any; shards and subjects are sorted.

    subjects: names; of scans where subjects have several (`sheet.scan_of`). selection: those to
    process, comma-separated; empty for all. A selection changes no subject's shard. Raises
    LookupError if a selected subject is not in the cohort.
    """
    wanted = [name.strip() for name in selection.split(",") if name.strip()] or list(subjects)
    unknown = sorted(set(wanted) - set(subjects))
    if unknown:
        raise LookupError(f"subjects {', '.join(unknown)} are not in the sheet")
    chosen = set(wanted)
    plan: dict[str, list[str]] = {}
    for subject, shard in shard_names(subjects, subjects_per_shard).items():
        if subject in chosen:
            plan.setdefault(shard, []).append(subject)
    return {shard: sorted(plan[shard]) for shard in sorted(plan)}


def _stable_hash(subject: str) -> int:
    return int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "big")


# --- what a subject's conversion depends on ------------------------------------------------------


def conversion_inputs(
    row: Mapping[str, str], series_description: Sequence[str], source: LabelSource = OWN
) -> dict:
    """Return what the conversion of a subject depends on besides the step's version, JSON-able.

    row: line of the sheet, by column. series_description: patterns of the configuration. source: of the
    sheet's labels. By each of CONVERTED_COLUMNS the dict has a digest of names, sizes and times of the files
    ("none" without a path), under series_description the patterns, and under labels_from the values of
    another source than ours, if the row has labels; truth2 is left out without a path.
    """
    states = {name: _state(row.get(name, "")) for name in CONVERTED_COLUMNS}
    if not row.get("truth2"):
        del states["truth2"]  # the column is younger than the results of some studies
    foreign = row.get("labels") and not source.is_own
    values = {"labels_from": sorted(source.values.items())} if foreign else {}
    return {**states, "series_description": list(series_description), **values}


def _state(path: str) -> str:
    return provenance.state_of(Path(path)) if path else "none"


def images_away(row: Mapping[str, str]) -> bool:
    """Return whether the path of a subject's images is missing or unreadable. row: line of the sheet."""
    return bool(row["images"]) and not os.access(row["images"], os.R_OK)


# --- what a table was made from ------------------------------------------------------------------


def result_fingerprint(step: Step, depends_on: Mapping) -> str:
    """Return the fingerprint of a subject's result: SHA-256 of step, version and dependencies.

    A stored result is kept while its fingerprint is the same. depends_on: JSON-able, see
    `shards.Task`.
    """
    return digest([step.name, step.version, depends_on])


def segmentation_settings(model_sha256: str, section: Mapping) -> dict:
    """Return the settings on which the network's labels depend, JSON-able.

    model_sha256: of the model file. section: `segment_muscles` of the configuration.
    """
    return {
        "model_sha256": model_sha256,
        "flip": section["flip"],
        "neighbours_mm": float(section["neighbours_mm"]),
        "keep_largest": section["keep_largest"],
        "fill_holes": section["fill_holes"],
    }


def step_settings(configuration: Mapping) -> dict[str, dict]:
    """Return the settings that change results, by step; steps without such settings are left out.

    configuration: all sections.
    """
    section = configuration["segment_muscles"]
    return {
        "segment_muscles": segmentation_settings(configuration["model"]["sha256"], section),
        "find_levels": level_settings(
            configuration["find_levels"]["sha256"], configuration["find_levels"]["axial_sha256"]
        ),
    }


def level_settings(model_sha256: str, axial_sha256: str = "") -> dict:
    """Return the settings on which the levels of slices depend: the SHA-256 of both models, or ""."""
    axial = {"axial_sha256": axial_sha256} if axial_sha256 else {}
    return {"model_sha256": model_sha256} | axial


def settings_of(
    step: Step,
    settings: Mapping[str, Mapping],
    rows: Mapping[str, Mapping[str, str]],
    subjects: Sequence[str],
) -> dict:
    """Return what a table of a step after convert_dicom depends on beside the previous step's table.

    step: its name decides. settings: see `step_settings`. rows: lines of the sheet by subject.
    subjects: of the table. Returns the step's settings, and for find_levels the unusual numbers of
    lumbar vertebrae and the state of the files in the sheet's column levels, JSON-able.
    """
    of_step = dict(settings.get(step.name, {}))
    if step.name != "find_levels":
        return of_step
    files = {name: rows[name].get("levels", "") for name in subjects}
    own = lumbar_settings({name: rows[name] for name in subjects})
    return with_subjects(of_step, own, file_states(files))


def lumbar_settings(rows: Mapping[str, Mapping[str, str]]) -> dict[str, dict]:
    """Return the number of lumbar vertebrae of each subject, by subject, where it is unusual.

    rows: lines of the sheet by subject.
    """
    counts = {subject: lumbar_count(row) for subject, row in rows.items()}
    return {subject: {N_LUMBAR: n} for subject, n in counts.items() if n != USUAL_LUMBAR}


def file_states(files: Mapping[str, str]) -> dict[str, str]:
    """Return a digest of size and time of each subject's file, by subject; none for an empty path.

    files: paths by subject.
    """
    return {subject: _state(path) for subject, path in files.items() if path}


def with_subjects(settings: Mapping, own: Mapping[str, Mapping], states: Mapping[str, str]) -> dict:
    """Return settings with those of single subjects and the states of further input files.

    own, states: by subject; if both are empty, the settings are returned as they are.
    """
    more = {"own": dict(own)} if own else {}
    return {**settings, **more, **({"files": dict(states)} if states else {})}


def conversions(fingerprints: Mapping[str, str]) -> str:
    """Return the digest `made_from` of a shard table of convert_dicom.

    fingerprints: of the subjects' results, by subject.
    """
    return digest([FIRST.name, fingerprints])


def made_after(step: Step, settings: Mapping, upstream: Mapping[str, str | None]) -> str:
    """Return the digest `made_from` of a shard table of a step after convert_dicom.

    settings: of the step, see `step_settings`. upstream: `made_from` of the tables of the steps that it
    follows (`after` and `besides`), by step.
    """
    besides = [upstream[name] for name in step.besides]
    return digest([step.name, step.version, settings, upstream[step.after], *besides])


def subjects_away(
    plan: Mapping[str, Sequence[str]], rows: Mapping[str, Mapping[str, str]]
) -> set[str]:
    """Return the subjects whose images are missing or unreadable.

    plan: subjects of each shard. rows: lines of the sheet by subject.
    """
    return {name for names in plan.values() for name in names if images_away(rows[name])}


def cohort_made_from(
    plan: Mapping[str, Sequence[str]],
    rows: Mapping[str, Mapping[str, str]],
    away: Set[str],
    configuration: str,
    split: str,
) -> str:
    """Return the digest `made_from` of the cohort tables: of all inputs but the shard tables.

    plan: subjects of each shard. rows: lines of the sheet by subject; their paths do not count. away:
    see `subjects_away`. configuration: as JSON. split: digest of the model's list of training
    subjects. If the digest changes, Snakemake makes the cohort tables, and what follows, again.
    """
    at_hand = [without_paths(rows[subject]) for subjects in plan.values() for subject in subjects]
    versions = [VERSIONS[rule] for rule in COHORT_RULES]
    return digest([plan, at_hand, sorted(away), configuration, split, versions])


def corrected_labels(
    rows: Iterable[dict[str, str]], folder: Path
) -> tuple[list[dict[str, str]], list[str]]:
    """Return the lines of the sheet with corrected labels, and the scans that have any.

    rows: lines of the sheet. folder: with a folder of NIfTI files, one per stack, for each corrected
    scan; these take the place of the sheet's column labels.
    """
    corrected = sorted(
        home.name
        for home in folder.glob("*")
        if any(home.glob("*.nii")) or any(home.glob("*.nii.gz"))
    )
    found = set(corrected)
    changed = [
        row | {"labels": str((folder / scan_of(row)).absolute())} if scan_of(row) in found else row
        for row in rows
    ]
    return changed, sorted(found & {scan_of(row) for row in changed})


def without_paths(row: Mapping[str, str]) -> dict[str, str]:
    """Return a line of the sheet (by column) without its paths, which change if a study is copied."""
    return {column: value for column, value in row.items() if column not in PATH_COLUMNS}


def stale_steps(
    shard: Path,
    subjects: Sequence[str],
    rows: Mapping[str, Mapping[str, str]],
    series_description: Sequence[str],
    settings: Mapping[str, Mapping],
    source: LabelSource = OWN,
) -> set[str]:
    """Return the names of the steps whose table does not match today's sheet, images and settings.

    shard: folder of the shard's tables. subjects: of the shard. rows: lines of the sheet by subject.
    series_description: patterns of the configuration. settings: see `step_settings`. source: of the
    sheet's labels. Steps after a missing or stale table are not listed: Snakemake runs them anyway.
    """
    stale: set[str] = set()
    expected: dict[str, str] = {}
    for step in STEPS.values():
        table = step.table_file(shard)
        before = set() if step is FIRST else {step.after, *step.besides}
        if not table.exists() or before - expected.keys():
            continue
        try:
            if step is FIRST:
                wanted = _expected_conversions(table, subjects, rows, series_description, source)
            else:
                own = settings_of(step, settings, rows, subjects)
                wanted = made_after(step, own, expected)
            fits = wanted == read_made_from(table)
        except InputError:  # damaged
            fits = False
        if fits:
            expected[step.name] = wanted
        else:
            stale.add(step.name)
    return stale


def _expected_conversions(
    table: Path,
    subjects: Sequence[str],
    rows: Mapping[str, Mapping[str, str]],
    series_description: Sequence[str],
    source: LabelSource,
) -> str:
    finished = {outcome.subject: outcome.fingerprint for outcome in read_outcomes(table)}
    fingerprints = {}
    for subject in subjects:
        if subject in finished and images_away(rows[subject]):
            fingerprints[subject] = finished[subject]
        else:
            inputs = conversion_inputs(rows[subject], series_description, source)
            fingerprints[subject] = result_fingerprint(FIRST, inputs)
    return conversions(fingerprints)


def made_from(table: Path) -> str | None:
    """Return the digest stored in a table file, None if the file is damaged or has none."""
    try:
        return read_made_from(table)
    except InputError:
        return None


def check_shard_tables(
    folder: Path,
    plan: Mapping[str, Sequence[str]],
    settings: Mapping[str, Mapping],
    rows: Mapping[str, Mapping[str, str]],
) -> None:
    """Raise InputError for a shard table of other subjects, or made from another upstream table.

    folder: with a folder per shard. plan: subjects of each shard. settings: see `step_settings`. rows:
    lines of the sheet by subject.
    """
    for shard, subjects in plan.items():
        made: dict[str, str | None] = {}
        for step in COHORT_STEPS:
            table = step.table_file(folder / shard)
            made[step.name] = read_made_from(table)
            if step is FIRST:
                fits = [outcome.subject for outcome in read_outcomes(table)] == list(subjects)
            else:
                own = settings_of(step, settings, rows, subjects)
                wanted = made_after(step, own, made)
                fits = made[step.name] == wanted
            if not fits:
                raise InputError(
                    table,
                    "made from another sheet, other settings or other results than those of this "
                    f"run; run Snakemake again, with --forcerun {step.name} if that does not help",
                )
