"""Snakemake for tests: a process that has imported it, and forks for each run.

Importing Snakemake takes about half of the processor time of a dry run. `run_snakemake` gives the same
as `python -m snakemake` in a process of its own. The server imports nothing of paravert: each study
has its own copy of the package.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

AT_FIRST_USE = (  # what Snakemake imports in each run, later than at its start
    "snakemake_executor_plugin_slurm",
    "snakemake.persistence",
    "snakemake.report.html_reporter",
    "snakemake.scheduling.job_scheduler",
)


def run_snakemake(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    python: str | Path = sys.executable,
) -> subprocess.CompletedProcess:
    """Run Snakemake to its end in a folder; return its exit code and what it printed, as text.

    python: that runs the commands of its jobs.
    """
    server = _server()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        places = [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (out, err)]
        asked = [list(arguments), str(folder), dict(environment), str(python), *places]
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        assert answer, "the server of Snakemake has ended"
        told = []
        for file in (out, err):
            file.seek(0)
            told.append(file.read().decode(errors="replace"))
    return subprocess.CompletedProcess(["snakemake", *arguments], int(answer), *told)


@cache
def _server() -> subprocess.Popen:
    """Return the server of this process; it ends when this process does."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.Popen(
        [sys.executable, "-P", __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment | {"OPENBLAS_NUM_THREADS": "1"},
    )


def serve() -> None:
    """Answer each line of standard input, a run, by a line with its exit code."""
    from snakemake import cli

    for module in AT_FIRST_USE:
        import_module(module)

    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        process = os.fork()
        if not process:
            answers.close()
            _run(cli.main, *json.loads(line))
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def _run(
    main,
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    python: str,
    out: str,
    err: str,
) -> None:
    """Become a process of Snakemake in a folder; never returns."""
    for number, place in enumerate((os.devnull, out, err)):
        os.dup2(os.open(place, os.O_RDWR), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, folder)
    sys.argv = ["snakemake", *arguments]
    sys.executable = python
    code = 1
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # as the interpreter does it
        sys.excepthook(*sys.exc_info())
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
