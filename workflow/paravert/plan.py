"""Assignment of subjects to shards (groups that one job processes); detection of stale tables.

Snakemake records the provenance of an output when it sees the job end. It has no record of jobs
that end while it is not running. So each table stores a digest of its inputs, settings and step
version (`made_from`), and every run compares these digests when it plans.

Subject here, in `shards` and in all shard tables: the name of a scan (`sheet.scan_of`), such as A001; where
a subject has several visits, A001_2 for the second.
"""

import difflib
import hashlib
import os
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Set
from functools import cache
from pathlib import Path
from types import MappingProxyType

from paravert import provenance
from paravert.anatomy import USUAL_LUMBAR
from paravert.errors import InputError, some_of
from paravert.label_sources import CORRECTED, OWN, LabelSource
from paravert.provenance import digest
from paravert.records import ANALYSED
from paravert.shard_tables import read_lasting_made_from, read_made_from, read_outcomes
from paravert.sheet import CONVERTED_COLUMNS, N_LUMBAR, PATH_COLUMNS, is_nifti, lumbar_count
from paravert.steps import COHORT_STEPS, STEPS, VERSIONS, Step

FIRST, LAST = STEPS["convert_dicom"], STEPS["draw_preview"]
NONE_CORRECTED: Mapping[str, Path] = MappingProxyType({})
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
    """Return {subject: name of its shard}; a shard is a group of subjects that one job processes.

    subjects: names of all scans of the cohort. subjects_per_shard: from 1; the mean size of a shard
    is this at most. The number of shards is the smallest power of two that allows it, so that it
    seldom changes while a cohort grows; the shard of a subject follows from a SHA-256 of its name,
    and the name of the shard is its number in hexadecimal, with leading zeros. If
    subjects_per_shard is 1, the shard has the subject's name.
    """
    if subjects_per_shard == 1:
        return {subject: subject for subject in subjects}
    shards = 1 << max(0, (-(-len(subjects) // subjects_per_shard) - 1)).bit_length()
    width = len(f"{shards - 1:x}")
    return {subject: f"{_stable_hash(subject) % shards:0{width}x}" for subject in subjects}


def shard_plan(
    subjects: Sequence[str], subjects_per_shard: int, selection: str = "", sheet: str = "the sheet"
) -> dict[str, list[str]]:
    """Return {shard: its subjects}, both sorted; one job processes the subjects of a shard.

    subjects: names of all scans of the cohort (the subject, or subject_visit in a sheet with
    visits). subjects_per_shard: largest mean size of a shard, for `shard_names`. selection: names
    of the scans to process, comma-separated; empty for all. Other scans and shards without a
    selected scan are left out; a selection does not move a subject to another shard. sheet: its
    name, for the message of InputError, which is raised for a selected name that is not in
    subjects.
    """
    wanted = [name.strip() for name in selection.split(",") if name.strip()] or list(subjects)
    unknown = sorted(set(wanted) - set(subjects))
    if unknown:
        verb = "is" if len(unknown) == 1 else "are"
        near = ", ".join(difflib.get_close_matches(unknown[0], subjects, n=3, cutoff=0))
        told = f"{some_of(unknown)} {verb} not in {sheet}, nearest to {unknown[0]}: {near}"
        raise InputError("subjects", told)
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
    row: Mapping[str, str],
    series_description: Sequence[str],
    source: LabelSource = OWN,
    corrected: Path | None = None,
) -> dict:
    """Return what one subject's conversion depends on, as a JSON-able dict.

    The version of the step is not included. row: row of the subject sheet, {column: text}.
    series_description: patterns of the setting convert_dicom.series_description. source: meaning of
    the voxel values of the label map that the sheet names. corrected: folder of corrected label
    maps, None without. Keys of the result: images, water, fat, truth, truth2 and labels
    (CONVERTED_COLUMNS), each with the state of the files at its path (`provenance.state_of`; an
    empty cell gives "none", an empty truth2 no key); corrected, likewise, no key without;
    series_description, with the patterns; and, if the row has labels of another program,
    labels_from, with the sorted pairs (value of the program, own value).
    """
    states = {name: _state(row.get(name, "")) for name in CONVERTED_COLUMNS}
    if not row.get("truth2"):
        del states["truth2"]  # results of older versions lack it
    if corrected:
        states[CORRECTED] = _state(str(corrected))
    foreign = row.get("labels") and not source.is_own
    values = {"labels_from": sorted(source.values.items())} if foreign else {}
    return {**states, "series_description": list(series_description), **values}


def _state(path: str) -> str:
    return provenance.state_of(Path(path)) if path else "none"


def images_away(row: Mapping[str, str]) -> bool:
    """Return whether the path in the column images is missing or may not be read.

    row: row of the subject sheet, {column: text}. False if the column is empty. Of a folder, the
    files are not examined.
    """
    return bool(row["images"]) and not os.access(row["images"], os.R_OK)


# --- what a table was made from ------------------------------------------------------------------


def result_fingerprint(step: Step, depends_on: Mapping) -> str:
    """Return the fingerprint of one subject's result of a step, 64 hexadecimal digits.

    It is the SHA-256 of the step's name, its version and depends_on. depends_on: JSON-able dict of
    everything else on which the result depends, as in `shards.Task`. A stored result is kept as
    long as its fingerprint and its files stay the same.
    """
    return digest([step.name, step.version, depends_on])


def segmentation_settings(model_sha256: str, section: Mapping) -> dict:
    """Return the JSON-able settings on which the label maps of the network depend.

    model_sha256: SHA-256 of the model file, under this name in the result. section: section
    `segment_muscles` of the configuration; its keys flip, neighbours_mm, keep_largest and fill_holes
    are copied.
    """
    return {
        "model_sha256": model_sha256,
        "flip": section["flip"],
        "neighbours_mm": float(section["neighbours_mm"]),
        "keep_largest": section["keep_largest"],
        "fill_holes": section["fill_holes"],
    }


def step_settings(configuration: Mapping) -> dict[str, dict]:
    """Return {step: JSON-able settings that change the results of the step}.

    configuration: the whole configuration as the workflow completes it, {section: settings}; the
    SHA-256 of a model that is not used is "". Only steps after convert_dicom that have such settings
    are in the result: segment_muscles and find_levels.
    """
    section = configuration["segment_muscles"]
    return {
        "segment_muscles": segmentation_settings(configuration["model"]["sha256"], section),
        "find_levels": level_settings(
            configuration["find_levels"]["sha256"], configuration["find_levels"]["axial_sha256"]
        ),
    }


def level_settings(model_sha256: str, axial_sha256: str = "") -> dict:
    """Return the JSON-able settings on which the vertebral levels of slices depend.

    model_sha256, axial_sha256: SHA-256 of the model files that find levels in sagittal and in axial
    images; "" if there is no such model. The result has them under these names; axial_sha256 is
    left out if "".
    """
    axial = {"axial_sha256": axial_sha256} if axial_sha256 else {}
    return {"model_sha256": model_sha256} | axial


def _settings_of(
    step: Step,
    settings: Mapping[str, Mapping],
    rows: Mapping[str, Mapping[str, str]],
    subjects: Sequence[str],
) -> dict:
    """Return the JSON-able settings and further inputs of a step's table for one shard.

    step: any after convert_dicom. settings: {step: settings}, from `step_settings`. rows: {subject:
    row of the subject sheet}. subjects: of the shard. For find_levels the result also has, under
    "own", subjects with an unusual number of lumbar vertebrae, and under "files" digests of the
    files in the sheet's column levels; for dicomseg, under "own", the subjects of visits.
    """
    of_step = dict(settings.get(step.name, {}))
    own_rows = {name: rows[name] for name in subjects}
    if step.name == "dicomseg":
        return with_subjects(of_step, visit_settings(own_rows), {})
    if step.name != "find_levels":
        return of_step
    files = {name: row.get("levels", "") for name, row in own_rows.items()}
    return with_subjects(of_step, lumbar_settings(own_rows), file_states(files))


def lumbar_settings(rows: Mapping[str, Mapping[str, str]]) -> dict[str, dict]:
    """Return {subject: {"n_lumbar": number}} of subjects with other than five lumbar vertebrae.

    rows: {subject: row of the subject sheet as {column: text}}. The column n_lumbar is read; empty or
    absent means five (`lumbar_count`). Raises ValueError if it is not a whole number.
    """
    counts = {subject: lumbar_count(row) for subject, row in rows.items()}
    return {subject: {N_LUMBAR: n} for subject, n in counts.items() if n != USUAL_LUMBAR}


def visit_settings(rows: Mapping[str, Mapping[str, str]]) -> dict[str, dict]:
    """Return {scan: {"subject": name}} of scans that are a visit of a subject.

    rows: {name of the scan: row of the subject sheet as {column: text}}.
    """
    return {
        scan: {"subject": row["subject"]} for scan, row in rows.items() if row["subject"] != scan
    }


def file_states(files: Mapping[str, str]) -> dict[str, str]:
    """Return {subject: digest of the size and time of its file}.

    files: {subject: path}; subjects whose path is "" are left out. The digest of a file that does
    not exist is "absent".
    """
    return {subject: _state(path) for subject, path in files.items() if path}


def with_subjects(settings: Mapping, own: Mapping[str, Mapping], states: Mapping[str, str]) -> dict:
    """Return the settings of a step, extended by settings and input files of single subjects.

    settings: of the step, for all subjects. own: {subject: settings for it alone}, stored under the
    key "own". states: {subject: digest of a further input file, from `file_states`}, stored under
    the key "files". An empty dict adds no key.
    """
    more = {"own": dict(own)} if own else {}
    return {**settings, **more, **({"files": dict(states)} if states else {})}


def conversion_made_from(fingerprints: Mapping[str, str]) -> str:
    """Return the digest `made_from` (SHA-256, hexadecimal) of a shard's table of convert_dicom.

    fingerprints: {subject: `result_fingerprint` of its conversion}, of all subjects of the shard,
    in any order. The digest is stored in the table. A later run computes it again; a difference
    means that subjects, their files, settings or the version of the step have changed since.
    """
    return digest([FIRST.name, fingerprints])


def step_made_from(step: Step, settings: Mapping, upstream: Mapping[str, str | None]) -> str:
    """Return the digest `made_from` (SHA-256, hexadecimal) of a later step's table for one shard.

    step: any after convert_dicom. settings: JSON-able, the step's settings and further input files,
    from `with_subjects`. upstream: {step: `made_from` of its table}, for the steps in `step.after`
    and `step.besides`; None if the table has none or was not read. The digest is stored in the
    table. A later run computes it again; a difference means that settings, inputs or the version of
    the step have changed since.
    """
    besides = [upstream[name] for name in step.besides]
    return digest([step.name, step.version, settings, upstream[step.after], *besides])


def subjects_away(
    plan: Mapping[str, Sequence[str]], rows: Mapping[str, Mapping[str, str]]
) -> set[str]:
    """Return the scans of a plan whose images are missing or may not be read (`images_away`).

    plan: {shard: names of its scans}, from `shard_plan`. rows: {name of a scan: its row of the subject
    sheet as {column: text}}, with every scan of the plan.
    """
    return {name for names in plan.values() for name in names if images_away(rows[name])}


def cohort_made_from(
    plan: Mapping[str, Sequence[str]],
    rows: Mapping[str, Mapping[str, str]],
    away: Set[str],
    configuration: str,
    split: str,
    files: Iterable[Path],
) -> str:
    """Return the digest (SHA-256, hexadecimal) of inputs of the cohort tables, shard tables left out.

    For the shard tables see `gathered_from`. Of input files Snakemake compares the times alone, so
    their content enters the digest. plan: {shard: names of its scans}, from `shard_plan`. A
    scan has the name of its subject, or subject_visit in a sheet with visits. rows: {name of a scan:
    its row of the subject sheet as {column: text}}, of all scans of the plan; columns that hold paths
    are ignored. away: names of scans whose images are missing or may not be read, from
    `subjects_away`. configuration: the whole configuration as JSON text. split: digest of the
    model's list of training and validation subjects, "" without a list. files: the model's card, then
    the ratings in the order of the configuration; their order changes the digest. The versions of the
    rules over the cohort (COHORT_RULES: gather_cohort to write_report) are included. If the digest
    changes, Snakemake makes the cohort tables and then everything after them again. Raises OSError if
    one of the files cannot be read.
    """
    at_hand = [without_paths(rows[subject]) for subjects in plan.values() for subject in subjects]
    versions = [VERSIONS[rule] for rule in COHORT_RULES]
    contents = [provenance.file_sha256(file) for file in files]
    return digest([plan, at_hand, sorted(away), configuration, split, contents, versions])


def gathered_from(cohort: str, folder: Path, shards: Iterable[str]) -> str:
    """Return the digest `made_from` (SHA-256, hexadecimal) of the cohort tables, shard tables included.

    Shard tables that were computed on another computer and copied with their times may be older than
    the cohort tables here, so that Snakemake would keep these. cohort: digest from `cohort_made_from`.
    folder: contains one folder of tables per shard. shards: names of the shards. The tables of
    draw_preview are read: what they were made from follows from the tables of conversion, segmentation
    and levels. A missing or damaged table enters the digest as one without `made_from`. Raises OSError
    if one may not be read.
    """
    tables = {shard: made_from(LAST.table_file(folder / shard)) for shard in shards}
    return digest([cohort, tables])


def path_test(folder: Path) -> Callable[[str], bool]:
    """Return a function of a path that tells whether it leads into a folder, perhaps through links.

    The path, an absolute text, need not exist. It leads there if one of its parts has the folder's name
    (if the folder is a link, also that of the folder it leads to) and is, links resolved, the folder; so
    another link of another name to the folder itself gives False. The folder itself counts as inside.
    folder: relative to the working directory, or absolute.
    """
    own, real = os.path.realpath(folder), cache(os.path.realpath)
    names = {re.escape(name) for name in (folder.name, os.path.basename(own))}
    part = re.compile(f"{os.sep}(?:{'|'.join(names)})(?={os.sep})")

    def leads_there(path: str) -> bool:
        path = os.path.join(path, "")
        ends = [one.end() for one in part.finditer(path)]
        return any(real(path[:end]) == own for end in ends)

    return leads_there


def corrected_labels(sheet: Path, scans: Container[str]) -> tuple[dict[str, Path], list[str]]:
    """Return the folders of label maps that were corrected by hand, and what is used for no scan.

    sheet: path of the subject sheet. Beside it the folder CORRECTED, if there is one, has a folder of
    NIfTI files (.nii, .nii.gz) for each corrected scan, named after the scan (the subject, or
    subject_visit). A folder that may not be read counts as one: conversion quarantines its scan. scans:
    names of all scans of the sheet. Returns ({scan: its folder}; sorted names of all other files and
    folders there, those without a NIfTI file included, hidden ones left out). Raises OSError if
    CORRECTED may not be read.
    """
    home = sheet.parent / CORRECTED
    names = sorted(_names_in(home))
    found = {name: home / name for name in names if name in scans and _has_nifti(home / name)}
    return found, [name for name in names if name not in found and name[0] != "."]


def _names_in(folder: Path) -> list[str]:
    """Return the names in a folder; [] if there is no such folder."""
    try:
        return os.listdir(folder)
    except provenance.NOTHING_THERE:
        return []


def _has_nifti(folder: Path) -> bool:
    try:
        return any(is_nifti(Path(name)) for name in _names_in(folder))
    except OSError:
        return True


def without_paths(row: Mapping[str, str]) -> dict[str, str]:
    """Return a row of the subject sheet, {column: text}, without the columns that hold paths.

    These are images, water, fat, truth, truth2, labels and levels. Paths change if a study is
    copied to another place; its results do not.
    """
    return {column: value for column, value in row.items() if column not in PATH_COLUMNS}


def stale_steps(
    shard: Path,
    subjects: Sequence[str],
    rows: Mapping[str, Mapping[str, str]],
    series_description: Sequence[str],
    settings: Mapping[str, Mapping],
    source: LabelSource = OWN,
    corrected: Mapping[str, Path] = NONE_CORRECTED,
) -> set[str]:
    """Return the names of the steps whose table does not match the current inputs and settings.

    shard: folder of the tables of one shard. subjects: names of its subjects. rows: {subject: row of
    the subject sheet as {column: text}}. series_description: patterns of the setting
    convert_dicom.series_description. settings: {step: settings}, from `step_settings`. source: meaning
    of the voxel values of the label maps that the sheet names. corrected: {subject: folder of corrected
    label maps}, from `corrected_labels`. A table of an older version of the step, that is not Parquet,
    or with a subject that is to be tried again (`SubjectFault.passing`), is stale. Subjects that the
    table of convert_dicom lists, also as quarantined, count as unchanged while their images are away
    (`images_away`). A missing table, and the tables of steps after a missing or stale one, are not
    listed: Snakemake makes them anyway.
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
                how = series_description, source, corrected
                wanted = _expected_conversions(table, subjects, rows, *how)
            else:
                own = _settings_of(step, settings, rows, subjects)
                wanted = step_made_from(step, own, expected)
            fits = wanted == read_lasting_made_from(table)
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
    corrected: Mapping[str, Path],
) -> str:
    finished = {outcome.subject: outcome.fingerprint for outcome in read_outcomes(table)}
    fingerprints = {}
    for subject in subjects:
        if subject in finished and images_away(rows[subject]):
            fingerprints[subject] = finished[subject]
        else:
            own = corrected.get(subject)
            inputs = conversion_inputs(rows[subject], series_description, source, own)
            fingerprints[subject] = result_fingerprint(FIRST, inputs)
    return conversion_made_from(fingerprints)


def refuse_to_lose(shard: Path, folder: Path, rows: Mapping[str, Mapping[str, str]]) -> None:
    """Raise InputError if a new table of conversion would lose subjects that cannot be made again.

    These are subjects that the shard's table has as analysed, while their images (`images_away`) and
    their own results are gone, as in a study of which the tables alone were kept. shard: folder of the
    tables of one shard. folder: holds a folder per subject. rows: {subject: row of the subject sheet as
    {column: text}}; the images of a subject that is not in rows count as gone. Also raises InputError
    if the shard's table of convert_dicom is missing or not a shard table.
    """
    table = FIRST.table_file(shard)
    lost = [
        outcome.subject
        for outcome in read_outcomes(table)
        if outcome.status == ANALYSED
        and not (folder / outcome.subject / FIRST.record).exists()
        and (outcome.subject not in rows or images_away(rows[outcome.subject]))
    ]
    if lost:
        raise InputError(
            table,
            f"would be made again without {some_of(lost)}, whose images and converted images are"
            " away; bring back either, or take the sheet and settings that it was made with",
        )


def made_from(table: Path) -> str | None:
    """Return the digest (hexadecimal) of what a table of a shard or of the cohort was made from.

    table: path of the Parquet file. None if it is missing, not Parquet or contains no digest. Raises
    OSError if it may not be read.
    """
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
    """Raise InputError unless all shard tables were made from the current subjects and settings.

    The tables are those of COHORT_STEPS: of all steps but dicomseg. folder: contains one folder of
    tables per shard. plan: {shard: subjects}, from `shard_plan`. settings: {step: settings}, from
    `step_settings`. rows: {subject: row of the subject sheet as {column: text}}. The error is about
    the first table that is missing or not Parquet, lists other subjects, or was made from other
    settings or another table of an earlier step. What convert_dicom depends on
    (`conversion_inputs`) is not compared.
    """
    for shard, subjects in plan.items():
        made: dict[str, str | None] = {}
        for step in COHORT_STEPS:
            table = step.table_file(folder / shard)
            made[step.name] = read_made_from(table)
            if step is FIRST:
                fits = [outcome.subject for outcome in read_outcomes(table)] == list(subjects)
            else:
                own = _settings_of(step, settings, rows, subjects)
                wanted = step_made_from(step, own, made)
                fits = made[step.name] == wanted
            if not fits:
                raise InputError(
                    table,
                    "made from another sheet, other settings or other results than those of this "
                    f"run; run Snakemake again, with --forcerun {step.name} if that does not help",
                )
