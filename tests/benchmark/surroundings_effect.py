"""How far each structure beside the muscles misleads a network: its overlap with and without the structure.

python tests/benchmark/surroundings_effect.py MODEL VALIDATION [--sections 96]

VALIDATION is a table of draw_anatomies of people that were not used for training. Each section is drawn twice with
the same place, contrast and artefacts, once bare and once with one structure of `network.surroundings`; slices are
segmented alone. Only sections at the levels of the structure count. "area" is the area found relative to the true
one. A network that was trained with the structures should lose nothing.
"""

import argparse
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from paravert.anatomy import LABELS, MUSCLES  # noqa: E402
from paravert.network import surroundings  # noqa: E402
from paravert.network.predict import Predictor, Prepared  # noqa: E402
from paravert.network.randomised import Anatomies, drawn_pictures  # noqa: E402
from paravert.network.unet import load_model  # noqa: E402

SIZE_PX, SEED, LEAST_PX = 192, 17, 70  # sections of less than LEAST_PX pixels (1 cm2) do not count
CPU = torch.device("cpu")


def judged(predictor: Predictor, source: Anatomies, number: int, structures: tuple) -> np.ndarray:
    """Return IoU and area relative to the true one of each label in one slice, (2, 8), NaN where small.

    structures: entries of `surroundings.STRUCTURES`, drawn in every section.
    """
    always = tuple((draw, 1.0, levels) for draw, _, levels in structures)
    spacing_mm = predictor.model.spacing_mm
    with mock.patch.object(surroundings, "STRUCTURES", always):
        made = drawn_pictures(
            source,
            np.array([number]),
            seed=(SEED, number),
            size_px=SIZE_PX,
            spacing_mm=spacing_mm,
            device=CPU,
        )
    shape = (SIZE_PX, SIZE_PX)
    found = predictor.predicted(Prepared(made.images.numpy(), shape, shape)).labels
    truth, found = made.labels[0].numpy(), found[0]
    result = np.full((2, len(LABELS)), np.nan)
    for row, label in enumerate(LABELS):
        own, drawn = found == label.value, truth == label.value
        if drawn.sum() >= LEAST_PX:
            result[:, row] = (own & drawn).sum() / (own | drawn).sum(), own.sum() / drawn.sum()
    return result


def main() -> None:
    """Print a row per structure: sections, and by muscle the mean IoU and area, bare and with the structure."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("model", type=Path)
    options.add_argument("validation", type=Path)
    options.add_argument("--sections", type=int, default=96, help="per structure at most")
    given = options.parse_args()
    torch.set_num_threads(1)
    predictor, source = Predictor(load_model(given.model), CPU), Anatomies(given.validation)
    names = [muscle.replace("_", " ") for muscle in MUSCLES]
    print("| structure | sections |", " | ".join(f"{name}: IoU, area" for name in names), "|")
    print("|---|---|" + "---|" * len(names))
    bare: dict[int, np.ndarray] = {}
    for structure in surroundings.STRUCTURES:
        first, last = structure[2]
        here = np.flatnonzero((source.levels >= first) & (source.levels <= last))
        here = here[np.linspace(0, len(here) - 1, min(given.sections, len(here))).astype(int)]
        for number in here:
            if number not in bare:
                bare[number] = judged(predictor, source, number, ())
        without = np.stack([bare[number] for number in here])
        painted = np.stack([judged(predictor, source, number, (structure,)) for number in here])
        both = np.isfinite(without) & np.isfinite(painted)
        cells = []
        for muscle in MUSCLES:
            own = np.array([label.muscle == muscle for label in LABELS]) & both
            (iou, area), (iou2, area2) = (
                [values[:, row][own[:, row]].mean() for row in (0, 1)]
                for values in (without, painted)
            )
            cells.append(f"{iou:.3f} -> {iou2:.3f}, {area:.2f} -> {area2:.2f}")
        name = structure[0].__name__.replace("_", " ")
        print(f"| {name} | {len(here)} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
