"""What made a result: the code behind a command, file hashes, the state of input folders."""

import ast
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG

PACKAGE = "paravert"
_ROOT = Path(__file__).parent.parent
# Wording that changes no result: left out of code fingerprints like docstrings and comments.
_PROSE_KEYWORDS = {"meaning", "help"}


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
    """
    if path.is_file():
        stat = path.stat()
        return digest([stat.st_size, stat.st_mtime_ns])
    if not path.is_dir():
        return "absent"
    start = len(os.path.join(path, ""))
    return digest(
        sorted((name[start:], stat.st_size, stat.st_mtime_ns) for name, stat in _walk(path))
    )


def files_below(folder: Path) -> list[Path]:
    """Return all files below a folder in order, links to folders followed, each folder once.

    Links that lead nowhere count as files: what is missing must not go unnoticed.
    """
    return sorted(Path(name) for name, _ in _walk(folder)) if folder.is_dir() else []


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files below a folder, each with its state; a broken link with its own."""
    waiting, seen = [(str(folder), os.stat(folder))], set()
    while waiting:
        home, own = waiting.pop()
        if (own.st_dev, own.st_ino) in seen:
            continue
        seen.add((own.st_dev, own.st_ino))
        for name in _listed(home):
            path = f"{home}/{name}"
            stat = _followed(path)
            if S_ISREG(stat.st_mode) or S_ISLNK(stat.st_mode):
                yield path, stat
            elif S_ISDIR(stat.st_mode):
                waiting.append((path, stat))


def _listed(folder: str) -> list[str]:
    """Return the names in a folder; none where it may not be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


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
