# Where the package and the shipped files are, the checked configuration, and functions for the rules.
import functools
import json
import os
import re
import shlex
import sys
import time
from pathlib import Path

import yaml
from snakemake.io import contains_wildcard
from snakemake.logging import logger
from snakemake.utils import update_config

# In a clone the package is beside the rules. Without a clone (`module` with a remote snakefile) it must
# be installed, and brings the configuration and the model with it.
WORKFLOW_FOLDER = Path(workflow.snakefile).parents[1]
IS_CLONE = (WORKFLOW_FOLDER / "paravert").is_dir()
if IS_CLONE and str(WORKFLOW_FOLDER) not in sys.path:
    sys.path.insert(0, str(WORKFLOW_FOLDER))

import paravert
from paravert import cluster, codebook, outputs, plan, provenance, sheet, snakemake_hooks, steps
from paravert.configuration import as_written, check_configuration, check_files
from paravert.errors import InputError, some_of
from paravert.label_sources import CORRECTED, as_option, label_source
from paravert.network.model_file import card_file, learnt_from, split_digest
from paravert.snakemake_hooks import FaultyInput

SHIPPED = WORKFLOW_FOLDER.parent if IS_CLONE else Path(paravert.__file__).parent
snakemake_hooks.collect_garbage_rarely()
snakemake_hooks.keep_jobs_from_searching_plugins()
snakemake_hooks.keep_updated_outputs(workflow)


def check_configuration_files(files):
    """Raise FaultyInput for a file that is no configuration, or that has a key twice."""
    try:
        check_files(files)
    except InputError as error:
        raise FaultyInput(str(error)) from None


IS_MODULE = not workflow.modifier.is_main_snakefile()
SHIPPED_CONFIGURATION = SHIPPED / "config/config.yaml"
if workflow.is_main_process and SHIPPED_CONFIGURATION.exists():
    check_configuration_files([SHIPPED_CONFIGURATION])


configfile: SHIPPED_CONFIGURATION


# The folder of all results, which Snakemake writes as <results> in paths. A workflow that imports this
# one may set another: `pathvars: results="lumbar/results"` in its `module` statement.
RESULTS = workflow.pathvars.get("results")
# It stands in commands without quotes, and is compared with the paths of outputs.
if not re.fullmatch(r"[\w@%+=:,./-]+", RESULTS) or os.path.normpath(RESULTS) != RESULTS:
    expected = "a path such as a/b, without blanks, signs of the shell, ./ or a slash at its end"
    raise FaultyInput(f"pathvars.results is {RESULTS!r}, expected {expected}")
# Configuration and sheet are copied here for the jobs, so that an edit during a run affects the next run.
RUN_FOLDER = Path(".snakemake/paravert", __name__ if IS_MODULE else "")
RUN_CONFIGURATION = RUN_FOLDER / "configuration.yaml"
RUN_SHEET = RUN_FOLDER / "sheet.csv"
LEDGER = Path(RESULTS, "cohort/ledger.parquet")
STARTED = time.time()


def prepend(variable, folder):
    """Put a folder at the front of an environment variable that lists folders, for all jobs."""
    others = [one for one in os.environ.get(variable, "").split(":") if one and one != folder]
    os.environ[variable] = ":".join([folder, *others])


# `python -m paravert` in a rule is this package, run by the Python of this Snakemake unless the rule has
# an environment of its own (--sdm conda). Not by shell.prefix, which belongs to the importing workflow.
PACKAGE_FOLDER = WORKFLOW_FOLDER if IS_CLONE else (RUN_FOLDER / "package").absolute()
prepend("PATH", os.path.dirname(sys.executable))
prepend("PYTHONPATH", str(PACKAGE_FOLDER))

COHORT = tuple(table.name for table in codebook.COHORT_TABLES)


def complete(given):
    """Return a configuration with the shipped value for every setting that it does not give.

    Snakemake skips `configfile:` in a module to which the importing workflow passes a `config`.
    """
    settings = yaml.safe_load(SHIPPED_CONFIGURATION.read_text(encoding="utf-8"))
    update_config(settings, given)
    return settings


def check_config():
    """Raise InputError or FaultyInput if the configuration is faulty, before anything runs."""
    if not IS_MODULE:
        check_configuration_files(workflow.configfiles)
        keep_names_of_digits()
    check_configuration({key: config[key] for key in config if key != "pathvars"})
    for pattern in config["convert_dicom"]["series_description"]:
        try:
            re.compile(pattern)
        except re.error as error:
            fault = f"{pattern!r} is no regular expression ({error})"
            raise InputError("convert_dicom.series_description", fault) from None
    label_source(config["convert_dicom"]["labels_from"])
    for file in config["review"]["ratings"]:
        if not Path(file).is_file():
            raise InputError(f"review.ratings: {file}", f"no such file in {os.getcwd()}")
        check_words_in(file)


def keep_names_of_digits():
    """Put the setting subjects back as it was written, if it was read as a number."""
    if isinstance(config.get("subjects"), (int, float)):
        given = workflow.config_settings
        written = as_written("subjects", given.configfiles, given.config_args)
        config["subjects"] = written or config["subjects"]


def check_words_in(path):
    """Raise FaultyInput for the path of an input in which Snakemake would replace words."""
    if contains_wildcard(path) or any(f"<{name}>" in path for name in workflow.pathvars.items):
        fault = "a word in braces, or a name such as <results>, which Snakemake replaces"
        raise FaultyInput(f"{path}: {fault}; rename the file or folder")


def checked_sheet():
    """Return the subject sheet, checked, and log how it was read."""
    file = Path(config["sheet"])
    found = sheet.read_sheet(file, config["sheet_name"], config["sex_codes"])
    found.check_names(config["columns"], config["fit_models"]["covariates"])
    for notice in found.notices():
        logger.info(f"{file.name}: {notice}")
    return found


def scans_and_shards(rows):
    """Return the sheet's rows by the name of the scan, and the selected scans of each shard."""
    by_scan = {sheet.scan_of(row): row for row in rows}
    selection = sheet.selected_scans(rows, str(config["subjects"]))
    size, name = config["subjects_per_shard"], Path(config["sheet"]).name
    return by_scan, plan.shard_plan(list(by_scan), size, selection, name)


def corrected_labels():
    """Return the folders of corrected label maps by scan, and doubts about what else is beside them."""
    file = Path(config["sheet"])
    found, others = plan.corrected_labels(file, SCANS)
    if found:
        logger.info(f"corrected labels: {some_of(list(found))}")
    expected = f"expected folders of NIfTI files, named as the scans of {file.name}"
    doubts = [f"{CORRECTED}: not used: {some_of(others)}; {expected}"] if others else []
    if away := [scan for scan in found if plan.images_away(SCANS[scan])]:
        told = "changes are not read while the images are away"
        doubts.append(f"{CORRECTED}: {told}: {some_of(away)}")
    return found, doubts


def ratings_doubts():
    """Return doubts about the ratings; raise InputError if a file or review.rule is faulty."""
    files = list(map(Path, config["review"]["ratings"]))
    if not files:
        return []
    from paravert.study.ratings import check_rule, read_ratings, unknown_scans  # imports pandas

    rated = read_ratings(files)
    check_rule(rated, config["review"]["rule"])
    told = f"ratings of scans that are not in {Path(config['sheet']).name} are not used"
    unknown = unknown_scans(rated, SCANS)
    return [f"{file}: {told}: {some_of(scans)}" for file, scans in unknown.items()]


def check_not_own_results(rows):
    """Raise InputError for inputs that a run would overwrite, such as a mask corrected in place."""
    leads_there = plan.path_test(Path(RESULTS, "subjects"))
    for row in rows:
        for column in sheet.PATH_COLUMNS:
            if leads_there(row[column]):
                fault = f"{column} of {sheet.scan_of(row)} lies in {RESULTS}/subjects"
                raise InputError(config["sheet"], f"{fault}, expected a copy elsewhere")


@functools.cache
def model_file():
    """Return the configured model's path: beside the file that configures it, or as `found_model`."""
    configured = config["model"]["file"]
    for file in map(Path, [] if IS_MODULE else reversed(workflow.configfiles)):
        own = (yaml.safe_load(file.read_text()) or {}).get("model") or {}
        if own.get("file") == configured:
            beside = file.parent / Path(configured).name
            return found_model(beside if beside.exists() else configured)
    return found_model(configured)


def levels_model():
    """Return [path] of the model that finds discs in sagittal images, [] if none is configured."""
    configured = config["find_levels"]["model"]
    return [found_model(configured)] if configured else []


def axial_model():
    """Return [path] of the model that finds levels in axial slices, [] if none is configured."""
    configured = config["find_levels"]["axial_model"]
    return [found_model(configured)] if configured else []


def found_model(configured):
    """Return a model's path: as configured, or a shipped one's.

    The path of a model that was trained here is absolute: otherwise Snakemake would take the file for
    an output of train_network, and train it again for every study.
    """
    configured = Path(configured)
    path = os.path.relpath(configured if configured.exists() else SHIPPED / configured)
    path = os.path.abspath(path) if path.startswith(f"{RESULTS}/models/") else path
    check_words_in(path)
    return path


def kept(files):
    """Return output files, of which earlier ones are kept until the job is done, and if it fails.

    Without update() Snakemake deletes them before the job begins. After a failure the job is planned again,
    as its benchmark file is missing.
    """
    return [update(file) if os.path.exists(file) else file for file in files]


def model_files(name, *suffixes):
    """Return files of a model that a training writes."""
    return kept([f"{RESULTS}/models/{name}.{suffix}" for suffix in suffixes])


def start_model(training):
    """Return the model that train_network or pretrain_network starts from, or an empty list."""
    configured = config[training]["start_from"]
    if not configured:
        return []
    path = found_model(configured)
    if not Path(path).is_file():
        fault = f"no such file, neither in {os.getcwd()} nor in {SHIPPED}"
        raise FaultyInput(f"{training}.start_from: {configured}: {fault}")
    [own] = model_files(config[training]["name"], "safetensors")
    if os.path.exists(own) and os.path.samefile(path, own):
        fault = f"{configured} is what this training writes, and would be lost before it is read"
        raise FaultyInput(f"{training}.start_from: {fault}; give the new model another name")
    return path


def start_split(training):
    """Return the digest of the list of the starting model's subjects, which decides who may validate."""
    start = start_model(training)
    return split_digest(Path(start)) if start else ""


def model_card():
    return str(card_file(Path(model_file())))


def check_model():
    """Raise InputError if a model is not the pinned one or of another kind, or its card or split is faulty."""
    from paravert.network import level_model
    from paravert.network import model_file as model

    path = Path(model_file())
    model.check_model(path, config["model"]["sha256"])
    model.check_card(path)
    learnt_from(path)
    for paths, key, form in (
        (levels_model(), "sha256", level_model.SAGITTAL_FORM),
        (axial_model(), "axial_sha256", level_model.AXIAL_FORM),
    ):
        for path in map(Path, paths):
            model.check_sha256(path, config["find_levels"][key], f"find_levels.{key}")
            form.check(path)


def link_corrected_labels():
    """Link the folder of corrected labels beside the sheet that jobs read, if there is one."""
    link, folder = (Path(file).parent / CORRECTED for file in (RUN_SHEET, config["sheet"]))
    link.unlink(missing_ok=True)
    if CORRECTED_LABELS:
        link.symlink_to(folder.absolute())


def keep_for_jobs():
    """Write the configuration and the sheet that jobs read, unless another run is in progress here."""
    if any(Path(".snakemake/locks").glob("*")):
        return
    RUN_FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not IS_CLONE:  # the package alone: a job's own environment brings the others
        PACKAGE_FOLDER.mkdir(exist_ok=True)
        (PACKAGE_FOLDER / "paravert").unlink(missing_ok=True)
        (PACKAGE_FOLDER / "paravert").symlink_to(Path(paravert.__file__).parent)
    settings = dict(config, model=dict(config["model"], file=model_file()))
    found = {"model": "".join(levels_model()), "axial_model": "".join(axial_model())}
    settings["find_levels"] = dict(config["find_levels"], **found)
    RUN_CONFIGURATION.write_text(yaml.safe_dump(settings), encoding="utf-8")
    sheet.write_sheet(RUN_SHEET, SCANS.values())
    link_corrected_labels()
    if not IS_MODULE:
        snakemake_hooks.pass_configuration_to_jobs(workflow, RUN_CONFIGURATION)


if workflow.modifier.modify_path("results") != "results":
    raise FaultyInput("module with `prefix`, expected `pathvars: results=...` in its place")
try:
    if workflow.is_main_process:
        config = complete(config) if IS_MODULE else config
        check_config()
        levels = config["find_levels"]
        config["find_levels"] = {
            **levels,
            "sha256": levels["model"] and levels["sha256"],
            "axial_sha256": levels["axial_model"] and levels["axial_sha256"],
        }
        people = checked_sheet()
        config["columns"] = {**people.meanings, **config["columns"]}
        SCANS, SHARDS = scans_and_shards(people.rows)
        CORRECTED_LABELS, doubts = corrected_labels()
        DOUBTS = [*doubts, *ratings_doubts()]
        for doubt in DOUBTS:
            logger.info(doubt)
        check_not_own_results(SCANS.values())
        check_model()
        keep_for_jobs()
    else:
        config = yaml.safe_load(RUN_CONFIGURATION.read_text(encoding="utf-8"))
        SCANS, SHARDS = scans_and_shards(sheet.read_sheet(RUN_SHEET).rows)
except InputError as error:
    raise FaultyInput(str(error)) from None
HAS_VISITS = any(row["visit"] for row in SCANS.values())
PHANTOM_FOLDER = f"{RESULTS}/phantoms"
PHANTOM = re.compile(
    re.escape(os.path.join(os.path.abspath(PHANTOM_FOLDER), "")) + r"([ST]\d{4,}(?:_2)?)(?:/.*)?"
)


wildcard_constraints:
    shard="[A-Za-z0-9][A-Za-z0-9_-]*",


def phantom_of(scan):
    """Return the phantom of a scan's images, such as S0001_2; None if make_phantoms does not make them."""
    found = PHANTOM.fullmatch(SCANS[scan]["images"])
    return found and found[1]


def phantoms_at_hand(scans):
    return sorted({phantom_of(scan) for scan in scans} - {None})


def phantoms_of_shard(wildcards):
    force_if_stale("convert_dicom", wildcards.shard)
    return [f"{PHANTOM_FOLDER}/truth.parquet"] if phantoms_at_hand(SHARDS[wildcards.shard]) else []


def table_before(step):
    """Return an input function: the previous step's table of the same shard."""

    def table(wildcards):
        force_if_stale(step, wildcards.shard)
        return shard_table(steps.STEPS[step].after, wildcards.shard)

    return table


def shard_tables(wildcards):
    """Return the tables of all shards, from which the cohort tables are gathered."""
    if workflow.is_main_process and LEDGER.exists():
        shards = Path(RESULTS, "shards")
        if plan.made_from(LEDGER) != plan.gathered_from(cohort_made_from(), shards, SHARDS):
            snakemake_hooks.force(workflow, str(LEDGER))
    return [table for step in steps.COHORT_STEPS for table in shard_outputs(step.name)]


def force_if_stale(step, shard):
    """Force a step's job if its table was made from other inputs or settings than the present ones."""
    if workflow.is_main_process and step in stale_steps(shard):
        snakemake_hooks.force(workflow, shard_table(step, shard))


@functools.cache
def stale_steps(shard):
    settings = config["convert_dicom"]["series_description"], plan.step_settings(config)
    source = label_source(config["convert_dicom"]["labels_from"])
    folder = Path(RESULTS, "shards", shard)
    return plan.stale_steps(folder, SHARDS[shard], SCANS, *settings, source, CORRECTED_LABELS)


def refuse_to_lose():
    """Raise FaultyInput before Snakemake deletes tables whose subjects cannot be converted again.

    Called while the rules are read: Snakemake takes an error of an input function for a missing rule.
    """
    folder = Path(RESULTS, "subjects")
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    if there.issuperset(SCANS):  # not only those of a selection, beside which a table holds others
        return
    try:
        for shard, scans in SHARDS.items():
            if os.path.exists(shard_table("convert_dicom", shard)) and not phantoms_at_hand(scans):
                if "convert_dicom" in stale_steps(shard):
                    plan.refuse_to_lose(Path(RESULTS, "shards", shard), folder, SCANS)
    except InputError as error:
        raise FaultyInput(str(error)) from None


def shard_table(step, shard):
    return str(steps.STEPS[step].table_file(Path(RESULTS, "shards", shard)))


def results_folder(wildcards, output):
    """Return the folder of all results as a parameter of rules; --lint wants outputs as the source."""
    return RESULTS


def options(name, values):
    """Return one `--name value` per value, quoted for the shell.

    Parameters that hold words of the user are functions: Snakemake would take {words} in a text for wildcards.
    """
    return " ".join(f"--{name} {shlex.quote(str(value))}" for value in values)


def study_name(wildcards):
    return options("study-name", filter(None, [config["write_report"]["study_name"]]))


def memory_mb(step):
    """Return the memory of a shard's job (MB), a function of its processes and of the attempt."""
    return lambda wildcards, threads, attempt: attempt * cluster.memory_mb(step, threads)


def minutes(step):
    """Return the time of a shard's job (minutes), a function of its subjects and of the attempt."""
    return lambda wildcards, attempt: attempt * cluster.minutes(step, len(SHARDS[wildcards.shard]))


def cohort_minutes(step):
    """Return the time of a job over the cohort (minutes), a function of the attempt."""
    subjects = sum(map(len, SHARDS.values()))
    return lambda wildcards, attempt: attempt * cluster.cohort_minutes(step, subjects)


def shard_outputs(step):
    return [shard_table(step, shard) for shard in SHARDS]


def known_dicomseg(wildcards):
    """Return the tables of the shards in which some scan has DICOM segmentations, to keep these up to date.

    Scans move to other shards, which have no table yet, when a cohort grows.
    """
    step = steps.STEPS["dicomseg"]
    if not any(Path(RESULTS, "shards").glob(f"*/{step.table.name}.parquet")):
        return []
    return [
        table
        for shard, table in zip(SHARDS, shard_outputs("dicomseg"), strict=True)
        if os.path.exists(table)
        or any(Path(RESULTS, "subjects", scan, step.record).exists() for scan in SHARDS[shard])
    ]


def training_settings(training):
    """Return the section of a training as JSON, with the path of the model that it starts from."""
    return json.dumps(config[training] | {"start_from": start_model(training) or ""})


def exported(formats):
    """Return the files that export_tables writes, for these formats."""
    return [
        f"<results>/cohort/{name}/{table}.{outputs.EXPORTS[name]}"
        for name in formats
        for table in COHORT
    ]


def export_memory_mb():
    """Return the memory of export_tables (MB): Stata and SPSS files are written from whole tables."""
    whole = {"stata", "spss"} & set(config["export"])
    return 2000 + (sum(map(len, SHARDS.values())) // 4 if whole else 0)


def captioned(path, output, category):
    """Mark a file for Snakemake's report, with caption and title."""
    return report(
        path,
        caption=f"../report/{output.caption}.rst",
        category=category,
        labels={"Title": output.title},
    )


def cohort_made_from():
    """Return the digest of what the cohort tables are made from today, shard tables left out."""
    away, split = plan.subjects_away(SHARDS, SCANS), split_digest(Path(model_file()))
    files = map(Path, [model_card(), *config["review"]["ratings"]])
    return plan.cohort_made_from(SHARDS, SCANS, away, configuration_json(None), split, files)


def configuration_json(wildcards):
    """Return the resolved configuration without folders, which may name persons or places."""
    told = dict(config, sheet=Path(config["sheet"]).name)
    for section in ("sex_codes", "columns"):
        told[section] = {str(key): value for key, value in config[section].items()}
    told["review"] = dict(
        config["review"], ratings=[Path(file).name for file in config["review"]["ratings"]]
    )
    told.pop("pathvars", None)
    for section, key in (
        ("model", "file"),
        ("find_levels", "model"),
        ("find_levels", "axial_model"),
        ("train_network", "start_from"),
        ("pretrain_network", "start_from"),
    ):
        told[section] = dict(told[section], **{key: Path(config[section][key]).name})
    return json.dumps(told, sort_keys=True)


def report_texts(wildcards):
    """Return a digest of the report's template and captions."""
    files = sorted((Path(paravert.__file__).parent / "report").iterdir())
    return provenance.digest([provenance.file_sha256(file) for file in files])


def start_on_slurm():
    """On Slurm: raise FaultyInput if it does not answer; put profiles/slurm/commands first in PATH."""
    if workflow.executor_plugin.name != "slurm":
        return
    try:
        cluster.check_controller()
    except InputError as error:
        raise FaultyInput(str(error)) from None
    cluster.replace_commands(SHIPPED / "profiles/slurm/commands")


def print_summary():
    """Print the counts of analysed and quarantined subjects as the last line of the run.

    Doubts about the sheet, corrected labels and ratings stand before it.
    Nothing is printed for a ledger that an earlier run left.
    """
    from paravert.study.summary import summary_of

    fresh = any(
        file.is_file() and file.stat().st_mtime >= STARTED
        for file in (LEDGER, Path(RESULTS, "report.html"))
    )
    if fresh and LEDGER.is_file():
        doubts = [f"{Path(config['sheet']).name}: {doubt}" for doubt in people.doubts]
        snakemake_hooks.print_last("\n".join([*doubts, *DOUBTS, summary_of(LEDGER)]))


if workflow.is_main_process:
    refuse_to_lose()
