"""python -m paravert COMMAND: the rules of the workflow, one command each."""

import ast
import errno
import importlib
import logging
import os
import sys
from pathlib import Path

from paravert.errors import InputError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# Matrices are small here, and numpy takes 0.05 s to start a thread for each core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Threads that wait for each other leave their core to others: to the process that draws slices for a
# training, or to whatever else runs on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

COMMANDS = {
    "make_phantoms": "synthesis.phantoms",
    "draw_anatomies": "synthesis.anatomies",
    "convert_dicom": "imaging.convert",
    "pretrain_network": "network.pretrain",
    "train_network": "network.train",
    "segment_muscles": "network.segment",
    "measure_area": "measure.area",
    "measure_fat": "measure.fat",
    "score_overlap": "measure.overlap",
    "draw_preview": "measure.preview",
    "dicomseg": "measure.dicomseg",
    "gather_cohort": "study.cohort",
    "accept_ledger": "study.summary",
    "fit_models": "study.inference",
    "write_tables": "study.describe",
    "draw_figures": "study.figures",
    "write_report": "study.report",
    "write_dictionary": "study.dictionary",
}


def main(arguments: list[str]) -> int:
    """Run a command; 0 if it worked, 1 if the machine let it down, 2 for input not to be used."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_overview())
        return 0 if arguments else 2
    if arguments[0] not in COMMANDS:
        sys.stderr.write(f"paravert: no command {arguments[0]!r}, expected one of those below\n\n")
        sys.stderr.write(_overview())
        return 2
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        _run(*arguments)
    except InputError as error:
        sys.stderr.write(f"paravert {arguments[0]}: {error}\n")
        return 2
    except ChildProcessError as error:  # of a worker that died
        sys.stderr.write(f"paravert {arguments[0]}: {error}\n")
        return 1
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        where = f" ({error.filename})" if error.filename else ""
        sys.stderr.write(f"paravert {arguments[0]}: {os.strerror(error.errno)}{where}\n")
        return 1
    return 0


def _run(command: str, *options: str) -> None:
    """Import only the module of this command: the start-up is part of every job's time."""
    import typer

    function = getattr(importlib.import_module(f"paravert.{COMMANDS[command]}"), command)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name=command)(function)
    app(list(options), standalone_mode=True, prog_name=f"paravert {command}")


def _overview() -> str:
    lines = ["usage: python -m paravert COMMAND [OPTIONS]   (COMMAND --help tells the options)", ""]
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
    sys.exit(main(sys.argv[1:]))
