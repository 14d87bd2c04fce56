"""How much damage is told, by kind and syntax, and how many intact series are suspected.

python tests/benchmark/unlike_slices.py IMAGES... [--files 1200] [--drawn 40] [--seed 1]

IMAGES: folders of DICOM series of any plane, and NIfTI files, whose slices are taken in the order
of each axis. Drawn series are those of varied_stacks. Each damaged slice is one of IMAGES, stored in
a syntax and damaged as in damaged_files: told by a reason, by the warning, or by neither.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "workflow"), str(REPOSITORY / "tests")]

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
import pydicom  # noqa: E402
from pydicom.encaps import encapsulate, generate_frames  # noqa: E402
from pydicom.uid import (  # noqa: E402
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from damaged_files import DAMAGES  # noqa: E402
from dicom_writer import Plan, save, slice_dataset, store  # noqa: E402
from gdcm_encoder import JPEG_BY_GDCM, compress_file  # noqa: E402
from paravert.errors import SubjectFault  # noqa: E402
from paravert.imaging.decoding import read_frames  # noqa: E402
from paravert.imaging.dicom_scan import scan_folder  # noqa: E402
from paravert.imaging.frame_stack import stack_frames  # noqa: E402
from paravert.imaging.image_stack import FURTHEST_MM, LEAST_SIDE, REACH, unlike_neighbours  # noqa: E402
from paravert.imaging.input_files import quiet_pydicom  # noqa: E402
from paravert.imaging.parallel_frames import group_frames  # noqa: E402
from paravert.sheet import is_nifti  # noqa: E402
from varied_stacks import KINDS, draw  # noqa: E402

SYNTAXES = (
    ExplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEG2000Lossless,
    JPEG2000,
)
J2K_RATIO = 8.0
LEAST_GAP_MM = 3.0  # slices of a volume that are thinner are taken at this distance
OFF = 0.1  # of the slice's range: a pixel further off than that counts as wrong
SHARES = (0.0, 0.01, 0.1)  # of the pixels that are wrong
REASON, WARNING = "reason", "warning"
UNTOLD = ("none", "to 1 %", "to 10 %", "more")


def intact_stacks(paths: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Return every stack of the images, of at least two slices, and its kind."""
    for path in map(Path, paths):
        yield from _volume(path) if is_nifti(path) else _dicom_series(path)


def _volume(file: Path) -> Iterator[tuple[str, np.ndarray]]:
    image = nib.load(file)
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    volume = np.asarray(image.dataobj, np.float32).reshape(*image.shape[:3], -1)[..., 0]
    for axis, gap_mm in enumerate(spacing):
        every = max(1, round(LEAST_GAP_MM / gap_mm))
        stack = np.moveaxis(volume, axis, 0)[::every]
        if every * gap_mm <= FURTHEST_MM and min(stack.shape[1:]) >= LEAST_SIDE:
            yield f"real, NIfTI: {file.name}", stack


def _dicom_series(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    series = defaultdict(list)
    for frame in scan_folder(folder).frames:
        series[frame.header.series].append(frame)
    for frames in series.values():
        for stack in stack_frames(group_frames(frames))[0]:
            if len(stack.frames) > 1 and stack.slab_mm <= FURTHEST_MM:
                slices = [_values(frame) for frame in stack.frames]
                yield f"real, DICOM: {folder.name}", np.stack(slices)


def _values(frame) -> np.ndarray:
    with quiet_pydicom():
        return read_frames(frame.header, [frame])[0][0].astype(np.float32)


def _read(file: Path) -> np.ndarray:
    return _values(scan_folder(file).frames[0])


def damaged_slice(
    values: np.ndarray, syntax: UID, how: str, file: Path, chance: random.Random
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a slice as stored, and what comes back of it damaged; None if a fault is told."""
    _write(values, syntax, file)
    truth, data = _read(file), pydicom.dcmread(file)
    content = data.PixelData
    if syntax.is_compressed:
        (content,) = generate_frames(content, number_of_frames=1)
    content = DAMAGES[how](content, chance.randrange(len(content)), chance)
    if syntax.is_compressed:
        data.PixelData = encapsulate([content])
        data["PixelData"].is_undefined_length = True
    else:
        data.PixelData = content + bytes(len(content) % 2)
    data.save_as(file)
    try:
        return truth, _read(file)
    except SubjectFault:
        return None


def _write(values: np.ndarray, syntax: UID, file: Path) -> None:
    data = slice_dataset(Plan(), 0)
    bits = 8 if syntax == JPEGBaseline8Bit else 12
    store(data, values, bits=bits, allocated=8 if bits == 8 else 16)
    if syntax in JPEG_BY_GDCM:
        compress_file(save(data, file), syntax)
    elif syntax == JPEG2000:
        data = pydicom.dcmread(save(data, file))
        data.compress(syntax, j2k_cr=[J2K_RATIO], generate_instance_uid=False)
        data.save_as(file)
    else:
        save(data, file, syntax)


def trials(
    stacks: Sequence[np.ndarray], count: int, seed: int
) -> Iterator[tuple[UID, str, str, bool]]:
    """Damage slices: syntax, kind of damage, what came of it, if a good slice is suspected."""
    chance = random.Random(seed)
    tried = [(syntax, how) for syntax in SYNTAXES for how in DAMAGES]
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(count):
            syntax, how = tried[number % len(tried)]
            stack = chance.choice(stacks)
            index = chance.randrange(len(stack))
            first = max(0, index - 2 * REACH)
            around = stack[first : index + 2 * REACH + 1]
            scale = (255 if syntax == JPEGBaseline8Bit else 4095) / max(1, around.max())
            around = np.rint(np.clip(around, 0, None) * scale)
            values = around[index - first].astype(np.int32)
            both = damaged_slice(values, syntax, how, Path(scratch, "slice"), chance)
            if both is None:
                yield syntax, how, REASON, False
                continue
            truth, around[index - first] = both
            flags = unlike_neighbours(around)
            off = np.abs(around[index - first] - truth) > OFF * max(1, np.ptp(truth))
            untold = UNTOLD[int(np.searchsorted(SHARES, off.mean()))]
            found = WARNING if flags[index - first] else untold
            yield syntax, how, found, flags.sum() > flags[index - first]


def _print_intact(kinds: dict[str, list[np.ndarray]]) -> None:
    print(f"{'intact series':50s} {'series':>7s} {'slices':>7s} {'flagged':>8s} {'slices':>7s}")
    totals = np.zeros(4, int)
    for kind, stacks in kinds.items():
        flags = [unlike_neighbours(stack) for stack in stacks]
        slices, flagged = sum(map(len, stacks)), sum(int(found.sum()) for found in flags)
        row = np.array([len(stacks), slices, sum(bool(found.any()) for found in flags), flagged])
        totals += row
        _print_row(kind, row)
    _print_row("all", totals)


def _print_row(name: str, row: np.ndarray) -> None:
    print(f"{name:50s} {row[0]:7d} {row[1]:7d} {row[2]:8d} {row[3]:7d}")


def _print_damaged(outcomes: Sequence[tuple[UID, str, str, bool]]) -> None:
    columns = (REASON, WARNING, *UNTOLD)
    counts: dict[tuple[UID, str], Counter] = defaultdict(Counter)
    for syntax, how, found, _ in outcomes:
        counts[syntax, how][found] += 1
    print(f"untold: by the share of pixels that are off by more than {OFF:.0%} of the range")
    print(f"{'damaged slices':50s} {'made':>7s} " + " ".join(f"{name:>8s}" for name in columns))
    for (syntax, how), count in counts.items():
        cells = " ".join(f"{count[name]:8d}" for name in columns)
        print(f"{f'{syntax.keyword}, {how}':50s} {count.total():7d} {cells}")
    others = sum(other for *_, other in outcomes)
    print(f"good slices suspected beside one: {others} of {len(outcomes)}")


def main() -> None:
    """Print intact series that are suspected, and damaged slices by what tells of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+")
    parser.add_argument("--files", type=int, default=1200)
    parser.add_argument("--drawn", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    kinds: dict[str, list[np.ndarray]] = defaultdict(list)
    for kind, stack in intact_stacks(told.images):
        kinds[kind].append(stack)
    real = [stack for stacks in kinds.values() for stack in stacks]
    for kind in KINDS:
        kinds[f"drawn: {kind}"] = [draw(kind, seed) for seed in range(told.drawn)]
    _print_intact(kinds)
    _print_damaged(list(trials(real, told.files, told.seed)))


if __name__ == "__main__":
    main()
