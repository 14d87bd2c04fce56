"""Snakemake and commands of paravert for tests: a process that has imported what they need, and forks.

Imports take most of the processor time of a dry run, and of a command on a small cohort. A server
imports the packages that Snakemake and paravert need, but nothing of paravert: each study has its own
copy of the package. All processes of a session of pytest share a server. All its forks share one seed
of string hashes, so of two runs whose tables are compared one takes a server with another seed.
"""

import ast
import atexit
import fcntl
import gc
import json
import os
import runpy
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

import psutil

PACKAGE = Path(__file__).parents[1] / "workflow/paravert"
OF_SNAKEMAKE = (  # the last four it imports in each run, later than at its start
    "snakemake.cli",
    "snakemake_executor_plugin_slurm",
    "snakemake.persistence",
    "snakemake.report.html_reporter",
    "snakemake.scheduling.job_scheduler",
)
NOT_IMPORTED = {"paravert", "torch"}  # torch is for trainings alone, and takes long
MOST_BYTES = 1 << 20  # of arguments and environment
CLIENT = """#!{python} -IS
import json, os, socket, sys
if sys.argv[1:3] != ["-m", "paravert"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({socket!r})
    asked = ["paravert", sys.argv[3:], os.getcwd(), dict(os.environ), ""]
    socket.send_fds(server, [json.dumps(asked).encode()], [0, 1, 2])
    code = int(server.recv(16) or 1)
if code < 0:  # by a signal
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


# --- in the test ---------------------------------------------------------------------------------


def run_snakemake(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    hash_seed: int,
    *,
    commands_fork: bool,
) -> subprocess.CompletedProcess:
    """Run Snakemake to its end in a folder; return its exit code and what it printed, as text.

    hash_seed: PYTHONHASHSEED of Snakemake, and of commands that fork. commands_fork: whether the
    commands of its jobs fork from the server, too, or are processes that import what they need.
    """
    home = _home_of_server(hash_seed)
    python = str(home / "python") if commands_fork else sys.executable
    asked = ["snakemake", list(arguments), str(folder), dict(environment), python]
    with (
        open(os.devnull) as nothing,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server,
    ):
        server.connect(str(home / "socket"))
        files = [file.fileno() for file in (nothing, out, err)]
        socket.send_fds(server, [json.dumps(asked).encode()], files)
        answer = server.recv(16)
        assert answer, "the server has ended"
        told = []
        for file in (out, err):
            file.seek(0)
            told.append(file.read().decode(errors="replace"))
    return subprocess.CompletedProcess(["snakemake", *arguments], int(answer), *told)


@cache
def _home_of_server(hash_seed: int) -> Path:
    """Return the folder of a server of this session, which ends with the session.

    It holds the server's `socket`, and a `python` that does the same as the real one, but whose
    `-m paravert` forks from the server. The first process that asks for it starts the server.
    """
    owner = psutil.Process(os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid())
    name = f"paravert-forks-{owner.pid}-{owner.create_time():.0f}-{hash_seed}"
    home = Path(tempfile.gettempdir()) / name
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "socket").exists():
            client = home / "python"
            client.write_text(CLIENT.format(python=sys.executable, socket=str(home / "socket")))
            client.chmod(0o755)
            _start_server(home, owner.pid, hash_seed)
    return home


def _start_server(home: Path, owner: int, hash_seed: int) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    server = subprocess.Popen(
        [sys.executable, "-P", __file__, home, str(owner)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment | {"PYTHONHASHSEED": str(hash_seed)},
    )
    assert server.stdout.readline(), "the server has ended"
    server.stdout.close()


# --- in the server -------------------------------------------------------------------------------


def imported_modules() -> set[str]:
    """Return the modules of other packages that paravert imports anywhere, but NOT_IMPORTED."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if not NOT_IMPORTED & set(name.split("."))}


def serve(home: Path, owner: int) -> None:
    """Run what is asked for, with the sender's files, in a fork each; end when the owner has ended."""
    for module in sorted({*imported_modules(), *OF_SNAKEMAKE}):
        with suppress(ImportError):  # a name in a module, or a package that is optional
            import_module(module)
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(home / "socket"))
        listener.listen(64)
        os.write(1, b"ready\n")
        while psutil.pid_exists(owner):
            if select.select([listener], [], [], 1)[0]:
                connection, _ = listener.accept()
                if not os.fork():
                    listener.close()
                    _answer(connection)
                connection.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    shutil.rmtree(home)


def _answer(connection: socket.socket) -> None:
    """Run what the other side of a connection asks for, and send the exit code; never returns."""
    asked, files, _, _ = socket.recv_fds(connection, MOST_BYTES, 3)
    child = os.fork()
    if not child:
        connection.close()
        program, *given = json.loads(asked)
        _become({"paravert": _command, "snakemake": _snakemake}[program], *given, files)
    _, status = os.waitpid(child, 0)
    connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(
    program: Callable[[list[str], str, str], None],
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    python: str,
    files: list[int],
) -> None:
    """Do as a process of its own would that runs a program in a folder; never returns."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code = 1
    try:
        program(arguments, folder, python)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # as the interpreter does it
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _command(arguments: list[str], folder: str, python: str) -> None:
    """Run `python -m paravert`."""
    sys.path[:0] = os.environ.get("PYTHONPATH", "").split(":")
    sys.argv = ["-m", *arguments]
    sys.modules.pop("sitecustomize", None)
    with suppress(ModuleNotFoundError):
        import_module("sitecustomize")
    sys.path.insert(0, folder)
    runpy.run_module("paravert", run_name="__main__", alter_sys=True)


def _snakemake(arguments: list[str], folder: str, python: str) -> None:
    """Run Snakemake, whose jobs run `python`."""
    from snakemake import cli

    sys.path.insert(0, folder)
    sys.argv = ["snakemake", *arguments]
    sys.executable = python
    cli.main(arguments)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
