"""The commands of paravert: `paravert COMMAND` or `python -m paravert COMMAND`."""

import ast
import errno
import importlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from paravert.errors import InputError

if TYPE_CHECKING:
    import typer

NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
WRONG_PATH = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
# Our matrices are small, and OpenBLAS takes 0.05 s to start one thread per core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Waiting OpenMP threads sleep instead of spinning, and leave their cores to other processes, such as
# those that draw training slices.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

COMMANDS = {
    "make_sheet": "archive.make_sheet",
    "make_phantoms": "synthesis.phantoms",
    "draw_anatomies": "synthesis.anatomies",
    "convert_dicom": "imaging.convert",
    "pretrain_network": "network.pretrain",
    "calibrate_network": "network.pretrain",
    "train_network": "network.train",
    "train_levels": "network.train_levels",
    "train_axial_levels": "network.train_axial_levels",
    "segment_muscles": "network.segment",
    "find_levels": "network.find_levels",
    "measure_area": "measure.area",
    "measure_fat": "measure.fat",
    "score_overlap": "measure.score_overlap",
    "draw_preview": "measure.preview",
    "dicomseg": "measure.dicomseg",
    "gather_cohort": "study.cohort",
    "export_tables": "study.export",
    "accept_ledger": "study.summary",
    "fit_models": "study.models",
    "fit_centiles": "study.centiles",
    "apply_centiles": "study.centiles",
    "write_tables": "study.describe",
    "draw_figures": "study.figures",
    "write_report": "study.report",
    "write_review": "study.review",
    "write_dictionary": "codebook",
    "compare_labels": "study.label_agreement",
}


def main(arguments: list[str]) -> int:
    """Run one command of paravert and return the exit code of the process.

    arguments: name of the command (a key of COMMANDS) and its options, without the program's name;
    empty, -h or --help prints the list of commands. A command that succeeds does not return: Typer
    raises SystemExit with code 0, and with code 2 for faulty options, 130 after Ctrl-C, 1 if nobody
    reads its output any more (closed pipe). Returns 0 after --help; 1 if a worker process died, a disk
    is full or read-only, access to a file is denied, or a path among the arguments is missing, or a
    folder in place of a file or the reverse; 2 for a faulty input (InputError), an unknown command, or
    no arguments. The list of commands goes to stdout, for an unknown command to stderr like all
    messages. Other exceptions are not caught.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_overview())
        return 0 if arguments else 2
    if arguments[0] not in COMMANDS:
        sys.stderr.write(f"paravert: no command {arguments[0]!r}, expected one of these\n\n")
        sys.stderr.write(_overview())
        return 2
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        _run(*arguments)
    except InputError as error:
        sys.stderr.write(f"paravert {arguments[0]}: {error}\n")
        return 2
    except ChildProcessError as error:  # a worker process died
        sys.stderr.write(f"paravert {arguments[0]}: {error}\n")
        return 1
    except OSError as error:
        path = error.filename2 or error.filename
        given = isinstance(error, WRONG_PATH) and path and _is_given(path, arguments[1:])
        if error.errno not in NOT_WRITABLE and not given:
            raise
        where = f" ({path})" if path else ""
        sys.stderr.write(f"paravert {arguments[0]}: {os.strerror(error.errno)}{where}\n")
        return 1
    return 0


def run_command() -> int:
    """Run the command in `sys.argv` as `main` does, and return its exit code.

    This is the entry point of the console script `paravert`.
    """
    return main(sys.argv[1:])


def application(command: str) -> "typer.Typer":
    """Return the Typer application of one command; a call with a list of options runs the command.

    command: key of COMMANDS, such as "measure_area"; KeyError for others. Its module is imported. The
    call, such as application(command)(["--workers", "2"]), ends with SystemExit; with
    standalone_mode=False it returns what the command returns, and faulty options raise an exception.
    Exceptions of the command pass through.
    """
    import typer

    function = getattr(importlib.import_module(f"paravert.{COMMANDS[command]}"), command)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name=command)(function)
    return app


def _is_given(path: str, words: list[str]) -> bool:
    """Return whether a path, or one that leads through it, is among the words of a command."""
    given = [Path(word.partition("=")[2] if word.startswith("--") else word) for word in words]
    return any(Path(path) in (one, *one.parents) for one in given)


def _run(command: str, *options: str) -> None:
    application(command)(list(options), standalone_mode=True, prog_name=f"paravert {command}")


def _overview() -> str:
    lines = ["usage: paravert COMMAND [OPTIONS]   (paravert COMMAND --help lists the options)", ""]
    lines += [f"  {command:17s} {_summary(command)}" for command in COMMANDS]
    return "\n".join(lines) + "\n"


def _summary(command: str) -> str:
    """Return the first line of a command's docstring without importing its module."""
    file = Path(__file__).parent.joinpath(*COMMANDS[command].split(".")).with_suffix(".py")
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == command:
            return (ast.get_docstring(node) or "").split("\n")[0]
    raise LookupError(f"{file} has no function {command}")


if __name__ == "__main__":
    sys.exit(run_command())
