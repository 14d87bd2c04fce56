"""Every reason and warning is explained to the user, and only those."""

import re
from pathlib import Path

import pytest

from paravert.errors import Caution, Reason

MANUAL = (Path(__file__).parents[2] / "config/README.md").read_text(encoding="utf-8")


def explained(heading):
    section = MANUAL.split(f"\n### {heading}\n")[1].split("\n### ")[0]
    return re.findall(r"^\| `([a-z0-9-]+)` \| .{10,} \| .{5,} \|$", section, re.MULTILINE)


@pytest.mark.parametrize(
    ("heading", "codes"), [("Reasons of quarantine", Reason), ("Warnings", Caution)]
)
def test_the_manual_explains_every_code_once_in_order(heading, codes):
    assert explained(heading) == [str(code) for code in codes]
