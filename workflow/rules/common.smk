# What all rules share: the checked configuration, and who works on whom.
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

# The jobs of a large cohort live to the end: looking for waste as often as usual took a sixth.
gc.set_threshold(50_000, 20, 20)
# Jobs start Snakemake in the study; without this, it looks for plugins in all the folders there.
os.environ.update(PYTHONSAFEPATH="1")

from paravert import codebook, plan, provenance, resources, sheet, steps
from paravert.configuration import check_configuration
from paravert.errors import InputError
from paravert.network.card_file import card_file
from paravert.network.split import learnt_from, split_digest

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


def check_config():
    """Stop before anything runs if the configuration is faulty."""
    check_configuration_files(workflow.configfiles)
    check_configuration(config)
    for pattern in config["convert_dicom"]["series_description"]:
        try:
            re.compile(pattern)
        except re.error as error:
            fault = f"{pattern!r} is no regular expression ({error})"
            raise InputError("convert_dicom.series_description", fault) from None


def subjects_and_shards(file):
    """Return the sheet's rows by subject, and the subjects at hand of each shard."""
    rows = sheet.read_sheet(Path(file))
    names = [row["subject"] for row in rows]
    shards = plan.shard_plan(names, config["subjects_per_shard"], str(config["subjects"]))
    return {row["subject"]: row for row in rows}, shards


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
        raise FaultyInput(f"{training}.start_from: {configured}: {fault}")
    if path == os.path.abspath(trained_model(training)):
        fault = f"{configured} is what this training writes, and would be lost before it is read"
        raise FaultyInput(f"{training}.start_from: {fault}; give the new model another name")
    return path


def model_card():
    return str(card_file(Path(model_file())))


def check_model():
    """Stop before anything runs at another model than the pinned one, or a faulty card or split."""
    from paravert.network import model_file as model

    path = Path(model_file())
    model.check_model(path, config["model"]["sha256"])
    model.check_card(path)
    learnt_from(path)


def keep_for_jobs():
    """Write the configuration and the sheet that jobs read, unless another run is at work here."""
    if any(Path(".snakemake/locks").glob("*")):
        return
    RUN_SHEET.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = dict(config, model=dict(config["model"], file=model_file()))
    RUN_CONFIGURATION.write_text(yaml.safe_dump(settings), encoding="utf-8")
    sheet.write_sheet(RUN_SHEET, SUBJECTS.values())
    workflow.config_settings.configfiles = [RUN_CONFIGURATION.absolute()]


# Jobs read these, so that an edit during a run concerns the next run.
RUN_CONFIGURATION = Path(".snakemake/paravert/configuration.yaml")
RUN_SHEET = Path(".snakemake/paravert/sheet.csv")
LEDGER = Path("results/cohort/ledger.parquet")
try:
    if workflow.is_main_process:
        check_config()
        SUBJECTS, SHARDS = subjects_and_shards(config["sheet"])
        check_not_own_results(SUBJECTS.values())
        check_model()
    else:
        SUBJECTS, SHARDS = subjects_and_shards(RUN_SHEET)
except (InputError, LookupError) as error:
    raise FaultyInput(str(error)) from None
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
    force_if_stale("convert_dicom", wildcards.shard)
    return [f"{PHANTOM_FOLDER}/truth.parquet"] if phantoms_at_hand(SHARDS[wildcards.shard]) else []


def table_before(step):
    """Return the input function of a shard rule that takes the table of the step before."""

    @signed
    def table(wildcards):
        force_if_stale(step, wildcards.shard)
        return shard_table(steps.STEPS[step].after, wildcards.shard)

    return table


def shard_tables(wildcards):
    """Return the tables of all shards that become those of the cohort."""
    if workflow.is_main_process and LEDGER.exists():
        if plan.made_from(LEDGER) != cohort_made_from():
            workflow.dag.forcefiles.add(str(LEDGER))
    return [table for step in steps.COHORT_STEPS for table in shard_outputs(step.name)]


def force_if_stale(step, shard):
    """Have a table made anew that was made from something else than is asked for.

    Snakemake compares what it recorded itself, and knows nothing of jobs that ended unseen.
    """
    if workflow.is_main_process and step in stale_steps(shard):
        workflow.dag.forcefiles.add(shard_table(step, shard))


@functools.cache
def stale_steps(shard):
    settings = config["convert_dicom"]["series_description"], plan.step_settings(config)
    return plan.stale_steps(Path("results/shards", shard), SHARDS[shard], SUBJECTS, *settings)


def shard_table(step, shard):
    return f"results/shards/{shard}/{STEP_TABLES[step]}.parquet"


def options(name, values):
    """Return an option of a command once for each value."""
    return " ".join(f"--{name} {shlex.quote(str(value))}" for value in values)


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
    return [shard_table(step, shard) for shard in SHARDS]


def training_settings(training):
    """Return the section of a training as JSON, with the path of the model that it starts from."""
    return json.dumps(config[training] | {"start_from": start_model(training) or ""})


def captioned(path, caption, category):
    return report(path, caption=f"../report/{caption}.rst", category=category)


def cohort_made_from(wildcards=None):
    split = split_digest(Path(model_file()))
    return plan.cohort_made_from(SHARDS, SUBJECTS, configuration_json(wildcards), split)


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


if workflow.is_main_process:
    keep_for_jobs()
