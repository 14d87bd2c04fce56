"""How many slices with a damaged code stream are flagged, and how many good ones.

python tests/benchmark/unlike_slices.py IMAGES... [--files 600] [--seed 1]

IMAGES: folders of DICOM or NIfTI files, as the subject sheet names them. Each damaged slice is one
of theirs, compressed, damaged as in damaged_files, and accepted by the decoder without a word.
"""

import argparse
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "workflow"), str(REPOSITORY / "tests")]

import numpy as np  # noqa: E402
import pydicom  # noqa: E402
from pydicom.encaps import encapsulate, generate_frames  # noqa: E402
from pydicom.uid import (  # noqa: E402
    UID,
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
from paravert.imaging.convert import read_images  # noqa: E402
from paravert.imaging.headers import scan_folder  # noqa: E402
from paravert.imaging.likeness import REACH, unlike_neighbours  # noqa: E402
from paravert.imaging.pixels import read_frames  # noqa: E402
from paravert.imaging.reading import quiet_pydicom  # noqa: E402

SYNTAXES = (
    RLELossless,
    JPEGLosslessSV1,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    JPEG2000Lossless,
)
OFF = 0.1  # of the slice's range: a pixel further off than that counts as damaged
SHARES = (0.0, 1e-9, 0.01, 0.03, 0.1, 0.3, 1.0)  # of the pixels


def good_stacks(paths: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Return the stacks of the images and what they are called."""
    for path in paths:
        for number, stack in enumerate(read_images(path).stacks, start=1):
            yield f"{path} {number}", stack.volume.array.astype(np.float32)


def damaged_slice(
    values: np.ndarray, syntax: UID, file: Path, chance: random.Random
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a slice as compressed, and what comes back of it damaged; None if a fault is told."""
    data = slice_dataset(Plan(), 0)
    bits = 8 if syntax == JPEGBaseline8Bit else 12
    store(data, values, bits=bits, allocated=8 if bits == 8 else 16)
    if syntax in JPEG_BY_GDCM:
        compress_file(save(data, file), syntax)
    else:
        save(data, file, syntax)
    truth = _read(file)
    data = pydicom.dcmread(file)
    (stream,) = generate_frames(data.PixelData, number_of_frames=1)
    stream = chance.choice(list(DAMAGES.values()))(stream, chance.randrange(len(stream)), chance)
    data.PixelData = encapsulate([stream])
    data["PixelData"].is_undefined_length = True
    data.save_as(file)
    try:
        return truth, _read(file)
    except SubjectFault:
        return None


def _read(file: Path) -> np.ndarray:
    frames = scan_folder(file).frames
    with quiet_pydicom():
        return read_frames(frames[0].header, frames)[0][0].astype(np.float32)


def trials(
    stacks: Sequence[np.ndarray], count: int, seed: int
) -> Iterator[tuple[UID, float | None, bool, bool]]:
    """Damage slices: syntax, share of pixels (None: refused), if flagged, if a good one is."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(count):
            syntax, stack = SYNTAXES[number % len(SYNTAXES)], chance.choice(stacks)
            index = chance.randrange(len(stack))
            scale = (255 if syntax == JPEGBaseline8Bit else 4095) / max(1, stack.max())
            values = np.rint(np.clip(stack[index], 0, None) * scale).astype(np.int32)
            both = damaged_slice(values, syntax, Path(scratch, "slice"), chance)
            if both is None:
                yield syntax, None, False, False
                continue
            truth, found = both
            share = float((np.abs(found - truth) > OFF * np.ptp(truth)).mean())
            first = max(0, index - 2 * REACH)
            around = stack[first : index + 2 * REACH + 1].copy()
            around[index - first] = found / scale
            flags = unlike_neighbours(around)
            yield syntax, share, bool(flags[index - first]), flags.sum() > flags[index - first]


def main() -> None:
    """Print good slices that are flagged, and damaged ones by syntax and amount of damage."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", nargs="+")
    parser.add_argument("--files", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    stacks = dict(good_stacks(told.images))
    flagged = {name: int(unlike_neighbours(stack).sum()) for name, stack in stacks.items()}
    total = sum(len(stack) for stack in stacks.values())
    print(f"good: {sum(flagged.values())} of {total} slices in {len(stacks)} stacks are flagged")
    print("".join(f"  {name}: {n}\n" for name, n in flagged.items() if n), end="")
    counts: dict[UID, list[list[bool]]] = defaultdict(lambda: [[] for _ in SHARES])
    others = []
    for syntax, share, found, other in trials(list(stacks.values()), told.files, told.seed):
        column = -1 if share is None else int(np.searchsorted(SHARES[1:-1], share, side="right"))
        counts[syntax][column].append(found)
        others.append(other)
    print(f"damaged: good slices flagged beside one: {sum(others)} of {len(others)}")
    print("flagged of those decoded, by the share of pixels that are off by more than 10 %")
    heads = ["none", *(f"to {share:.0%}" for share in SHARES[2:])]
    print(f"{'':20s} {'refused':>8s} " + " ".join(f"{head:>8s}" for head in heads))
    for syntax in SYNTAXES:
        *cells, refused = counts[syntax]
        told_cells = " ".join(f"{f'{sum(cell)}/{len(cell)}':>8s}" for cell in cells)
        print(f"{syntax.keyword:20s} {len(refused):8d} {told_cells}")


if __name__ == "__main__":
    main()
