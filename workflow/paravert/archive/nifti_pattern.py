"""Whose the NIfTI files of an archive are, by a pattern of their paths."""

import re
from collections.abc import Iterable

from paravert.errors import InputError

FIELDS = ("subject", "visit")
PART = re.compile(r"\{([^{}]*)\}|(\*)")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return a pattern such as {subject}/{visit}.nii.gz as a regular expression.

    {subject} and {visit} stand for a part of a file or folder name, the same wherever they occur; *
    for any part. pattern: of paths relative to the archive. Raises InputError.
    """
    told: list[str] = []
    seen: set[str] = set()
    end = 0
    for found in PART.finditer(pattern):
        told.append(re.escape(pattern[end : found.start()]))
        end = found.end()
        name = found[1]
        if name is None:
            told.append("[^/]*")
        elif name not in FIELDS:
            raise InputError("--nifti", f"{{{name}}}, expected {{subject}} and {{visit}}")
        else:
            told.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)")
            seen.add(name)
    told.append(re.escape(pattern[end:]))
    if "subject" not in seen:
        raise InputError("--nifti", "no {subject}, expected for example {subject}/{visit}.nii.gz")
    return re.compile("".join(told))


def matches(pattern: re.Pattern[str], paths: Iterable[str]) -> dict[tuple[str, str], list[str]]:
    """Return the paths of each subject and visit, {(subject, visit): paths}; other paths are left out.

    pattern: regular expression with a group subject and maybe a group visit. paths: relative to the
    archive. visit is "" where the pattern has none.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        if match := pattern.fullmatch(path):
            told = match.groupdict()
            found.setdefault((told["subject"], told.get("visit", "")), []).append(path)
    return found
