"""What made a result: the code behind a command, file hashes, the state of input folders."""

import ast
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from stat import S_IROTH, S_ISDIR, S_ISLNK, S_ISREG

PACKAGE = "paravert"
_ROOT = Path(__file__).parent.parent
# Wording that changes no result: left out of code fingerprints like docstrings and comments.
_PROSE_KEYWORDS = {"meaning", "help"}
# What asking for a path raises where nothing can be; ValueError: no name on this system is so.
NOTHING_THERE = (FileNotFoundError, NotADirectoryError, ValueError)


def digest(value: object) -> str:
    """Return the SHA-256 (hex) of a JSON-able value; the order of dict keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_of(path: Path) -> str:
    """Return a digest of the names, sizes and modification times below a path; "absent" if none.

    Cheap enough to ask for every subject before a run: no file is opened, and each is asked once.
    Never raises for what may not be read: that enters as such, so that the state changes once it
    may be.
    """
    try:
        own = os.stat(path)
    except NOTHING_THERE:
        return "absent"
    except OSError as error:
        return digest(_state("", error))
    if S_ISREG(own.st_mode):
        return digest(_state(str(path), own))
    if not S_ISDIR(own.st_mode):
        return "absent"
    start = len(os.path.join(path, ""))
    return digest(sorted((place[start:], *_state(place, found)) for place, found in _walk(path)))


def _state(path: str, found: os.stat_result | OSError) -> list:
    if isinstance(found, OSError):
        return ["unreadable", found.errno]
    # What everybody may read needs no second question.
    readable = found.st_mode & S_IROTH or S_ISLNK(found.st_mode) or os.access(path, os.R_OK)
    return [found.st_size, found.st_mtime_ns, *([] if readable else ["unreadable"])]


def files_below(folder: Path) -> list[Path]:
    """Return all files below a folder in order, links to folders followed, each folder once.

    Links that lead nowhere count as files: what is missing must not go unnoticed.
    Raises OSError where a folder may not be read, or something in it not be asked.
    """
    files = []
    for place, found in _walk(folder):
        if isinstance(found, OSError):
            raise found
        files.append(Path(place))
    return sorted(files)


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result | OSError]]:
    """Yield the files below a folder, each with its state; a broken link with its own.

    Folders that may not be read, and what is in them but may not be asked, come with the error.
    """
    waiting, seen = [str(folder)], set()
    while waiting:
        path = waiting.pop()
        try:
            found = _followed(path)
            if S_ISDIR(found.st_mode):
                if (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    waiting += [f"{path}/{name}" for name in os.listdir(path)]
                continue
        except OSError as error:
            yield path, error
            continue
        if S_ISREG(found.st_mode) or S_ISLNK(found.st_mode):
            yield path, found


def _followed(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError:
        return os.lstat(path)


@cache
def code_fingerprint(module: str) -> str:
    """Return a digest of a module and of every project module that it imports, directly or not.

    module: dotted name inside the package, such as "measure.fat". Comments, layout, docstrings and
    help texts are left out, so that editing them reruns nothing.
    """
    return digest({name: _module(name).code for name in sorted(_closure(f"{PACKAGE}.{module}"))})


@cache
def _closure(module: str) -> frozenset[str]:
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        # The package itself holds only the version: a release alone changes no result.
        if name not in seen and name != PACKAGE and _file_of(name) is not None:
            seen.add(name)
            waiting.extend(_module(name).imports)
    return frozenset(seen)


def _file_of(module: str) -> Path | None:
    path = _ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


@dataclass(frozen=True)
class _Module:
    imports: tuple[str, ...]
    code: str


@cache
def _module(name: str) -> _Module:
    tree = ast.parse(_file_of(name).read_text(encoding="utf-8"))
    return _Module(tuple(_imports(tree)), ast.dump(_WithoutProse().visit(tree)))


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield the project modules, and perhaps names in them, that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in found if name.split(".")[0] == PACKAGE)


class _WithoutProse(ast.NodeTransformer):
    def _drop_docstring(self, node):
        self.generic_visit(node)
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _drop_docstring

    def visit_Call(self, node):
        self.generic_visit(node)
        node.keywords = [word for word in node.keywords if word.arg not in _PROSE_KEYWORDS]
        return node
