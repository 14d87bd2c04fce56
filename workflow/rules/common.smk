# What all rules share: the package, the checked configuration, and who works on whom.
import atexit
import functools
import gc
import inspect
import json
import os
import re
import shlex
import sys
import time
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

# The jobs of a large cohort live to the end: looking for waste as often as usual took a sixth.
gc.set_threshold(50_000, 20, 20)
# Jobs start Snakemake in the study; without this, it looks for plugins in all the folders there.
os.environ.update(PYTHONSAFEPATH="1")

REPOSITORY = Path(workflow.basedir)
sys.path.insert(0, str(REPOSITORY / "workflow"))

from paravert import codebook, provenance, resources, shards, sheet, steps
from paravert.configuration import check_configuration
from paravert.errors import InputError
from paravert.network.split import split_file

# The prefix repeats the strict mode, otherwise a failing pipe would return 0. A job runs the Python
# of this Snakemake, except in an environment of its own (conda, container).
OWN_ENVIRONMENT = bool(workflow.deployment_settings.deployment_method)
PYTHON_FOLDER = "" if OWN_ENVIRONMENT else f"{shlex.quote(str(Path(sys.executable).parent))}:"
shell.prefix(
    f"set -euo pipefail; export PATH={PYTHON_FOLDER}$PATH"
    f" PYTHONPATH={shlex.quote(str(REPOSITORY / 'workflow'))}; "
)

STEP_TABLES = {step.name: step.table.name for step in steps.STEPS.values()}
FIGURES = (
    "fig1_network",
    "fig2_examples",
    "fig3_reconstructions",
    "fig4_iou",
    "fig5_csa",
    "fig6_fat_fraction",
    "agreement",
    "flow",
)
TABLES = {  # and the captions that tell them from figures of the same name
    "table1_iou": "table1_iou",
    "cohort": "cohort",
    "normal_values": "normal_values",
    "agreement": "agreement_table",
    "flow": "flow",
    "fat_methods": "fat_methods",
}
COHORT = tuple(table.name for table in codebook.COHORT_TABLES)
STARTED = time.time()


def checked_config():
    """Stop before anything runs if the configuration or the sheet is faulty."""
    try:
        check_configuration(config)
    except InputError as error:
        raise WorkflowError(str(error)) from None
    for pattern in config["convert_dicom"]["series_description"]:
        try:
            re.compile(pattern)
        except re.error as error:
            fault = f"{pattern!r} is no regular expression ({error})"
            raise WorkflowError(f"convert_dicom.series_description: {fault}") from None
    try:
        rows = sheet.read_sheet(Path(config["sheet"]))
        names = [row["subject"] for row in rows]
        plan = shards.shard_plan(names, config["subjects_per_shard"], str(config["subjects"]))
        check_not_own_results(rows)
    except (InputError, LookupError) as error:
        raise WorkflowError(str(error)) from None
    return {row["subject"]: row for row in rows}, plan


def check_not_own_results(rows):
    """Stop at inputs that a run would overwrite: a corrected mask belongs outside the results."""
    own = os.path.join(os.path.abspath("results/subjects"), "")
    for row in rows:
        for column in sheet.PATH_COLUMNS:
            if os.path.join(row[column], "").startswith(own):
                fault = f"{column} of {row['subject']} lies in results/subjects"
                raise InputError(config["sheet"], f"{fault}, expected a copy elsewhere")


@functools.cache
def model_file():
    """Return the configured model's path: beside the file that configures it, or as `found_model`."""
    configured = config["model"]["file"]
    for file in map(Path, reversed(workflow.configfiles)):
        own = (yaml.safe_load(file.read_text()) or {}).get("model") or {}
        if own.get("file") == configured:
            beside = file.parent / Path(configured).name
            return found_model(beside if beside.exists() else configured)
    return found_model(configured)


def found_model(configured):
    """Return a model's path: as configured, or below the repository.

    That of a model that was trained here is absolute: otherwise Snakemake would take it for an
    output of train_network, and train it again for every study.
    """
    configured = Path(configured)
    path = os.path.relpath(configured if configured.exists() else REPOSITORY / configured)
    return os.path.abspath(path) if path.startswith("results/models/") else path


def trained_model(training):
    return "results/models/{}.safetensors".format(config[training]["name"])


def start_model(training):
    """Return the model that train_network or pretrain_network starts from, or an empty list."""
    configured = config[training]["start_from"]
    if not configured:
        return []
    path = found_model(configured)
    if not Path(path).is_file():
        fault = f"no such file, neither in {os.getcwd()} nor in {REPOSITORY}"
        raise WorkflowError(f"{training}.start_from: {configured}: {fault}")
    if path == os.path.abspath(trained_model(training)):
        fault = f"{configured} is what this training writes, and would be lost before it is read"
        raise WorkflowError(f"{training}.start_from: {fault}; give the new model another name")
    return path


def model_card():
    return str(Path(model_file()).with_suffix(".json"))


def model_split():
    """Return a digest of the file that says whom the model learnt from, or an empty text."""
    file = split_file(Path(model_file()))
    return provenance.file_sha256(file) if file.is_file() else ""


def check_model():
    """Stop before anything runs if the model is not the one that the configuration pins."""
    from paravert.network import model_file as model

    try:
        model.check_model(Path(model_file()), config["model"]["sha256"])
    except InputError as error:
        raise WorkflowError(str(error)) from None
    if not Path(model_card()).is_file():
        raise WorkflowError(f"{model_card()}: no such file, expected the card beside the model")


SUBJECTS, SHARDS = checked_config()
if workflow.is_main_process:
    check_model()
PHANTOM_FOLDER = "results/phantoms"
PHANTOM = re.compile(
    re.escape(os.path.join(os.path.abspath(PHANTOM_FOLDER), "")) + r"([ST]\d{4})(?:/.*)?"
)


wildcard_constraints:
    shard="[A-Za-z0-9][A-Za-z0-9_-]*",


def phantom_of(subject):
    """Return whose phantom a subject's images show, or None if make_phantoms does not make them."""
    found = PHANTOM.fullmatch(SUBJECTS[subject]["images"])
    return found and found[1]


def phantoms_at_hand(subjects):
    return sorted({phantom_of(subject) for subject in subjects} - {None})


def signed(function):
    """Return a function with its signature beside it: Snakemake asks for it several times a job."""
    function.__signature__ = inspect.signature(function)
    return function


@signed
def phantoms_of_shard(wildcards):
    return [f"{PHANTOM_FOLDER}/truth.parquet"] if phantoms_at_hand(SHARDS[wildcards.shard]) else []


def options(name, values):
    """Return an option of a command once for each value."""
    return " ".join(f"--{name} {shlex.quote(str(value))}" for value in values)


@signed
def sheet_rows(wildcards):
    """Return what the sheet says of a shard's images and masks: a change reruns the shard."""
    columns = ("subject", *sheet.PATH_COLUMNS)
    rows = [[SUBJECTS[s][column] for column in columns] for s in SHARDS[wildcards.shard]]
    return provenance.digest(rows)


class AskedLater(str):
    """A parameter that nobody asks for before Snakemake compares it with what it recorded."""

    def __new__(cls, tell):
        parameter = super().__new__(cls, "asked later")
        parameter.tell = tell
        return parameter

    def __repr__(self):
        return repr(self.tell())


@signed
def image_states(wildcards):
    """Return the state of a shard's images and masks: files that change rerun the shard.

    Phantoms are followed through the output of their rule instead. A dry run, which records
    nothing, leaves alone the files of shards that are new anyway: there may be millions.
    """
    tell = functools.partial(states_of_shard, wildcards.shard)
    return AskedLater(tell) if workflow.dryrun else tell()


def states_of_shard(shard):
    states = [
        provenance.state_of(Path(SUBJECTS[subject][column]))
        for subject in SHARDS[shard]
        if phantom_of(subject) is None
        for column in sheet.PATH_COLUMNS
        if SUBJECTS[subject][column]
    ]
    return provenance.digest(states)


def code(module):
    """Return a fingerprint of the code behind a command: Snakemake does not follow imports.

    The process of a job finds out only its own.
    """

    def fingerprint(wildcards=None):
        return provenance.digest([provenance.code_fingerprint(module)])

    return fingerprint() if workflow.is_main_process else fingerprint


def memory_mb(step):
    """Return the memory of a shard's job: by its processes, and more with each attempt."""
    return signed(lambda wildcards, threads, attempt: attempt * resources.memory_mb(step, threads))


def minutes(step):
    """Return the time of a shard's job: by its subjects, and more with each attempt."""
    return signed(
        lambda wildcards, attempt: attempt * resources.minutes(step, len(SHARDS[wildcards.shard]))
    )


def cohort_minutes(step):
    """Return the time of a job over the cohort: by its subjects, and more with each attempt."""
    subjects = sum(map(len, SHARDS.values()))
    return signed(lambda wildcards, attempt: attempt * resources.cohort_minutes(step, subjects))


def shard_outputs(step):
    return [f"results/shards/{shard}/{STEP_TABLES[step]}.parquet" for shard in SHARDS]


def train_options(wildcards):
    """Return the options of train_network: the shards' tables and every key of its section."""
    tables = options("convert", shard_outputs("convert_dicom"))
    return " ".join([tables, training_options("train_network")])


def pretrain_options(wildcards):
    return training_options("pretrain_network")


def training_options(training):
    """Return every key of the section of a training as an option."""
    values = config[training] | {"start_from": start_model(training) or ""}
    return " ".join(options(key.replace("_", "-"), [value]) for key, value in values.items())


def captioned(path, caption, category):
    return report(path, caption=f"../report/{caption}.rst", category=category)


def sheet_digest(wildcards):
    return provenance.digest([SUBJECTS, SHARDS])


def configuration_json(wildcards):
    """Return the resolved configuration without folders, which may name persons or places."""
    told = dict(config, sheet=Path(config["sheet"]).name)
    for section, key in (
        ("model", "file"),
        ("train_network", "start_from"),
        ("pretrain_network", "start_from"),
    ):
        told[section] = dict(config[section], **{key: Path(config[section][key]).name})
    return json.dumps(told, sort_keys=True)


def report_texts(wildcards):
    """Return a digest of the report's template and captions."""
    files = sorted((REPOSITORY / "workflow/report").iterdir())
    return provenance.digest([provenance.file_sha256(file) for file in files])


def start_on_slurm():
    """Stop if Slurm does not answer; otherwise let its commands be those of profiles/slurm/commands."""
    from paravert import cluster

    if workflow.executor_plugin.name != "slurm":
        return
    try:
        cluster.check_controller()
    except InputError as error:
        raise WorkflowError(str(error)) from None
    cluster.replace_commands(REPOSITORY / "profiles/slurm/commands")


def tell_summary():
    """Make the counts of analysed and quarantined subjects the last line of the run.

    Snakemake tells its log file and time after its own hooks, hence at exit. Nothing is said of a
    ledger that an earlier run left.
    """
    from paravert.study.summary import summary_of

    ledger, made = Path("results/cohort/ledger.parquet"), Path("results/report.html")
    fresh = any(file.is_file() and file.stat().st_mtime >= STARTED for file in (ledger, made))
    if fresh and ledger.is_file():
        atexit.register(print, summary_of(ledger), file=sys.stderr)
