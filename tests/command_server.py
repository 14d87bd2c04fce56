"""Commands of paravert for tests: a process that has imported what they need, and forks for each.

Imports take most of the processor time of a command on a small cohort. A folder holds a `python` that
does the same as the real one, but `python -m paravert` becomes a fork of the server. The server imports
nothing of paravert: each study has its own copy of the package. All forks of a server share one seed of
string hashes, so of two runs whose tables are compared one takes a server with another seed.
"""

import ast
import atexit
import gc
import json
import os
import runpy
import select
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "workflow/paravert"
MOST_BYTES = 1 << 20  # of arguments and environment
SERVERS: list[subprocess.Popen] = []
CLIENT = """#!{python} -IS
import json, os, socket, sys
if sys.argv[1:3] != ["-m", "paravert"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({socket!r})
    asked = [sys.argv[3:], os.getcwd(), dict(os.environ)]
    socket.send_fds(server, [json.dumps(asked).encode()], [0, 1, 2])
    code = int(server.recv(16) or 1)
if code < 0:  # by a signal
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@cache
def python_of_forks(hash_seed: int) -> Path:
    """Return a `python` whose `-m paravert` forks from a server; the server ends with this process.

    hash_seed: PYTHONHASHSEED of the server and of all that fork from it.
    """
    folder = Path(tempfile.mkdtemp(prefix="paravert-commands-"))
    atexit.register(_remove, folder)
    client, address = folder / "python", folder / "socket"
    client.write_text(CLIENT.format(python=sys.executable, socket=str(address)))
    client.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    server = subprocess.Popen(
        [sys.executable, "-P", __file__, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment | {"PYTHONHASHSEED": str(hash_seed)},
    )
    assert server.stdout.readline(), "the server of commands has ended"
    SERVERS.append(server)  # its standard input stays open as long as this process lives
    return client


def _remove(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def imported_modules() -> set[str]:
    """Return the modules of other packages that paravert imports anywhere."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.partition(".")[0] != "paravert"}


def serve(address: str) -> None:
    """Run each command that is sent to a socket, with the sender's files, in a fork."""
    for module in sorted(imported_modules()):
        with suppress(ImportError):  # a name in a module, or a package that is optional
            import_module(module)
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen(64)
        os.write(1, b"ready\n")
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if not os.fork():
                listener.close()
                _answer(connection)
            connection.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _answer(connection: socket.socket) -> None:
    """Run the command that the other side of a connection asks for; never returns."""
    asked, files, _, _ = socket.recv_fds(connection, MOST_BYTES, 3)
    command = os.fork()
    if not command:
        connection.close()
        _run(*json.loads(asked), files)
    _, status = os.waitpid(command, 0)
    connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run(arguments: list[str], folder: str, environment: dict[str, str], files: list[int]) -> None:
    """Become `python -m paravert` in a folder; never returns."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(":")
    sys.argv = ["-m", *arguments]
    code = 1
    try:
        sys.modules.pop("sitecustomize", None)
        with suppress(ModuleNotFoundError):
            import_module("sitecustomize")
        sys.path.insert(0, folder)
        runpy.run_module("paravert", run_name="__main__", alter_sys=True)
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


if __name__ == "__main__":
    serve(sys.argv[1])
