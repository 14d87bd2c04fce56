"""What the workflow does to Snakemake beyond its documented interface, and why.

Only workflow/rules/common.smk calls this. CPU seconds were measured with Snakemake 9.27.1 in dry runs
of shards of 64 subjects (means of three runs).
"""

import atexit
import gc
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.workflow import Workflow


class FaultyInput(WorkflowError):
    """A fault in the user's files, which Snakemake prints without a place in the rule files.

    Snakemake takes this place from the traceback of a WorkflowError; it helps no user.
    """

    __traceback__ = None


def collect_garbage_rarely() -> None:
    """Run Python's garbage collector less often: the graph of jobs is never garbage.

    10,000 subjects: 3.5 s instead of 3.7 s; 50,000 subjects: 10.1 s instead of 11.5 s.
    """
    gc.set_threshold(50_000, 20, 20)


def keep_jobs_from_searching_plugins() -> None:
    """Keep the working directory out of sys.path of the Snakemake processes that run jobs.

    Otherwise each of them searches every folder there for plugins: 2.0 s instead of 1.3 s per job
    where the images of 10,000 subjects lie in the working directory, a folder each.
    """
    os.environ["PYTHONSAFEPATH"] = "1"


def pass_configuration_to_jobs(workflow: Workflow, file: Path) -> None:
    """Pass a configuration file to jobs in place of those that the user gave.

    workflow: Snakemake's, changed in place. file: the configuration (YAML). Jobs read the user's
    files when they start; an edit while a run is in progress would reach them.
    """
    workflow.config_settings.configfiles = [file.absolute()]


def force(workflow: Workflow, output: str) -> None:
    """Make the job run that produces this output file, as --forcerun does.

    workflow: Snakemake's, changed in place. output: path of the file. Snakemake has no provenance of
    jobs that ended after the main process; `plan` compares digests. To be called in an input
    function of the job's rule, before Snakemake checks the job's outputs.
    """
    workflow.dag.forcefiles.add(output)


def print_last(line: str) -> None:
    """Print a line on stderr at exit: Snakemake logs its own last lines after onsuccess and onerror.

    line: text without line break.
    """
    atexit.register(print, line, file=sys.stderr)
