"""Break the converter on purpose, one place at a time, and see whether the tests notice.

    python tests/benchmark/converter_mutations.py

Every mutation is made in a copy of the package and its tests. One that no test notices is a hole in
the tests: the command prints SURVIVED and ends with 1.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGING = Path("workflow/paravert/imaging")
TESTS = [
    f"tests/unit/test_imaging_{name}.py"
    for name in ("cases", "dicom", "nifti", "grouping", "properties")
]


@dataclass(frozen=True)
class Mutation:
    """A change of one module; changes: pairs of a text that stands there once and its successor."""

    name: str
    module: str
    changes: tuple[tuple[str, str], ...]
    at_least: int = 1  # tests that must fail


def mutation(name: str, module: str, old: str, new: str, **more) -> Mutation:
    return Mutation(name, module, ((old, new),), **more)


COMPACT = "array = compact_array([values[frame][0] for frame in stack.frames])"
SPACING = "None if spacing is None else float(spacing[{}])"
MUTATIONS = (
    mutation("left and right turned round", "dicom", COMPACT, f"{COMPACT}[..., ::-1]"),
    mutation("slices reversed", "dicom", COMPACT, f"{COMPACT}[::-1]"),
    Mutation(
        "the two pixel spacings swapped",
        "frames",
        (
            (f"row_spacing_mm={SPACING.format(0)}", f"row_spacing_mm={SPACING.format(1)}"),
            (f"column_spacing_mm={SPACING.format(1)}", f"column_spacing_mm={SPACING.format(0)}"),
        ),
        at_least=10,
    ),
    mutation(
        "shifted by half a pixel",
        "frames",
        "return self.position + self.to_centre(",
        "return self.position + self.right * self.column_spacing_mm / 2 + self.to_centre(",
    ),
    mutation("4 mm spacing forced", "slice_spacing", "return gap_mm, ", "return 4.0, "),
    mutation(
        "mirrored through the affine",
        "geometry",
        "LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])",
        "LPS_TO_RAS = np.diag([1.0, -1.0, 1.0, 1.0])",
    ),
    mutation(
        "stacks from the head downwards",
        "frame_stack",
        "stacks.sort(key=_middle)",
        "stacks.sort(key=_middle, reverse=True)",
    ),
    mutation(
        "orientations told apart by their digits",
        "parallel_frames",
        ".max(axis=-1) <= ORIENTATION_TOLERANCE_DEG",
        ".max(axis=-1) == 0",
    ),
    mutation(
        "orientation tolerance of 0.4 degrees",
        "parallel_frames",
        "ORIENTATION_TOLERANCE_DEG = 0.2",
        "ORIENTATION_TOLERANCE_DEG = 0.4",
    ),
    mutation("gap tolerance of 8 %", "slice_spacing", "GAP_TOLERANCE = 0.05", "GAP_TOLERANCE = 0.08"),
    mutation("gap tolerance of 3 %", "slice_spacing", "GAP_TOLERANCE = 0.05", "GAP_TOLERANCE = 0.03"),
    mutation(
        "no splitting at gaps",
        "slice_spacing",
        "runs = even_runs(part.heights)",
        "runs = [np.arange(len(part.heights))]",
    ),
    mutation(
        "no look at shear", "frame_stack", "        _check_shear(group)\n", "        pass\n"
    ),
    mutation(
        "stacks over any gap", "slice_spacing", "gaps > WIDEST * thickness", "gaps > np.inf * thickness"
    ),
    mutation(
        "shear over any gap", "frame_stack", "in blocks_of_slices(alone)", "in [np.arange(len(alone.frames))]"
    ),
    mutation(
        "reformats taken for repeats", "slice_spacing", "if any(_agrees(frame.spacing_tag_mm", "if all(not _agrees(frame.spacing_tag_mm"
    ),
    mutation(
        "slices skipped throughout not told",
        "slice_spacing",
        "return missing_between(spacing_mm, tag) > 0",
        "return False",
    ),
    mutation(
        "overlapping slices not told",
        "frame_stack",
        "_collides(stack, frame, counted) for",
        "False for",
    ),
    mutation(
        "copies not compared",
        "dicom",
        "if not all(np.array_equal(first, other) for other in others):",
        "if False:",
    ),
    mutation(
        "slices within one another not found",
        "slice_spacing",
        "near = gaps < NEAREST * thickness",
        "near = gaps < 0",
    ),
    mutation(
        "malformed rescale taken as none",
        "header_values",
        "return np.nan if found is None",
        "return default if found is None",
    ),
    mutation(
        "places taken from any group",
        "header_values",
        "if not (self.items and keyword in OWN_GROUP_ONLY):",
        "if True:",
    ),
    mutation(
        "contrasts not told apart",
        "frame_stack",
        "differ = _differ([frame.contrast for frame in place])",
        "differ = False",
    ),
    mutation("mixed echoes not noticed", "frame_stack", "        _check_stack_contrast(stack)\n", "        pass\n"),
    mutation("empty files passed over", "dicom_scan", "    check_empty_files(files, images)\n", ""),
    mutation("no look for blank images", "dicom", "    check_not_blank(stacks)\n", ""),
    mutation(
        "rescale left out",
        "decoding",
        "return values * frame.slope + frame.intercept",
        "return values",
    ),
    mutation(
        "high bits left in",
        "pixel_format",
        "return self.allocated - (self.high + 1 if keeps_cells else self.stored)",
        "return self.allocated - self.stored",
    ),
    mutation("no sign extension", "pixel_format", "{'i' if self.signed else 'u'}", "u"),
    mutation(
        "ages above 90 told",
        "frames",
        "min(age, OLDEST_AGE_YEARS)",
        "min(age, 900.0)",
    ),
    mutation(
        "slices up to 62 degrees count as axial",
        "geometry",
        "AXIAL_TILT_DEG = 60.0",
        "AXIAL_TILT_DEG = 62.0",
    ),
    mutation("no look at mask sides", "masks", "if apart_mm <= 0:", "if False:"),
    mutation(
        "mask grids compared to 0.1 mm",
        "masks",
        "CORNER_TOLERANCE_MM = 1e-3",
        "CORNER_TOLERANCE_MM = 0.1",
    ),
    mutation(
        "masks not flipped", "masks", "turn[order, 1] < 0", "(False, False, False)"
    ),
)  # fmt: skip


def copy_of_the_project(home: Path) -> None:
    """Copy what the tests need into an empty folder."""
    for name in ("workflow", "tests"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", home)


def mutated(text: str, change: Mutation) -> str:
    """Return a module's text after a mutation; raises ValueError where its place is not found."""
    for old, new in change.changes:
        if text.count(old) != 1:
            raise ValueError(
                f"{change.module}.py: {text.count(old)} times {old!r}, expected it once"
            )
        text = text.replace(old, new)
    return text


def failing_tests(home: Path) -> int:
    """Run the tests of a copy; return how many fail (-1: they cannot even be collected)."""
    options = ["-q", "--tb=no", "-p", "no:cacheprovider", f"--basetemp={home / 'scratch'}"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *TESTS],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode not in (0, 1):
        return -1
    found = re.search(r"(\d+) failed", run.stdout)
    return int(found[1]) if found else 0


def survivors(chosen: tuple[Mutation, ...]) -> list[str]:
    """Try mutations, print what becomes of each, and return those that too few tests notice."""
    lived = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        copy_of_the_project(home)
        if failing := failing_tests(home):
            raise ValueError(f"{failing} tests fail without any mutation, expected none")
        print(f"{'mutation':42}{'failing tests':>14}", flush=True)
        for change in chosen:
            module = home / IMAGING / f"{change.module}.py"
            sound = module.read_text(encoding="utf-8")
            module.write_text(mutated(sound, change), encoding="utf-8")
            failing = failing_tests(home)
            module.write_text(sound, encoding="utf-8")
            caught = failing == -1 or failing >= change.at_least
            told = "all" if failing == -1 else failing
            print(f"{change.name:42}{told:>14}  {'caught' if caught else 'SURVIVED'}", flush=True)
            lived += [] if caught else [change.name]
    return lived


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="mutations whose name contains this")
    only = parser.parse_args().only
    return 1 if survivors(tuple(m for m in MUTATIONS if only in m.name)) else 0


if __name__ == "__main__":
    raise SystemExit(main())
