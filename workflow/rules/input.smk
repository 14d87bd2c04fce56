# Before Snakemake reads the configuration: the package, and how input at fault is told.
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

REPOSITORY = Path(workflow.basedir)
SHIPPED_CONFIGURATION = REPOSITORY / "config/config.yaml"
sys.path.insert(0, str(REPOSITORY / "workflow"))

from paravert.configuration import check_files
from paravert.errors import InputError


class FaultyInput(WorkflowError):
    """A fault of the user's files, told without the places in these rules that found it."""

    __traceback__ = None  # Snakemake reads it to tell file and line


def check_configuration_files(files):
    """Stop at a file that is no configuration, or holds a key twice."""
    try:
        check_files(files)
    except InputError as error:
        raise FaultyInput(str(error)) from None


if workflow.is_main_process and SHIPPED_CONFIGURATION.exists():
    check_configuration_files([SHIPPED_CONFIGURATION])
