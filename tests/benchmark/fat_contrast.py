"""What images show of fat, and which estimators give a number: the table of docs/fat_domain.md.

PARAVERT_REAL_DATA=... python tests/benchmark/fat_contrast.py [MODEL]

Phantoms of known contrast with their true labels; a Dixon volunteer's images and their sums with
manual masks; two clinical studies with the labels of the model (default: the one in models/).
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from fat_contrasts import CONTRASTS, contrast_slices  # noqa: E402
from made_from import CONFIGURATION  # noqa: E402
from paravert.imaging.dicom import read_dicom  # noqa: E402
from paravert.measure.fat import fat_fractions  # noqa: E402
from paravert.measure.fat_domain import domain_of, fat_contrast  # noqa: E402
from paravert.network.predict import Predictor  # noqa: E402
from paravert.network.unet import load_model  # noqa: E402
from paravert.tables import FAT_METHODS, UNKNOWN  # noqa: E402
from real_scans import DIXON, MASK, read_nifti, scan_labels  # noqa: E402

VOLUNTEERS = (0, 7, 11, 16)  # of the phantoms; 11 is the fattiest
STUDIES = ("lumbar_study_cc0/T1_AX", "lumbar_study_cc0_15t/T2_AX")
Row = tuple[str, str, np.ndarray, np.ndarray, tuple[float, float]]


def phantoms() -> Iterator[Row]:
    """Yield name, class by the header, image, labels and spacing of the phantoms."""
    for name in (*CONTRASTS, "in-phase", "opposed-phase"):
        for volunteer in VOLUNTEERS:
            image, labels, pixel_mm = contrast_slices(name, volunteer)
            yield f"phantom {volunteer}, {name}", name, image, labels, (pixel_mm, pixel_mm)


def dixon(data: Path) -> Iterator[Row]:
    """Yield the same of the Dixon volunteer, whose files have no header of DICOM."""
    water, fat = (read_nifti(data / DIXON.format(kind)) for kind in ("water", "fat"))
    mask = read_nifti(data / MASK.format("water")).array
    labels = np.choose(mask, [0, 6, 8, 7, 5]).astype(np.uint8)
    w, f = water.array.astype(np.float32), fat.array.astype(np.float32)
    for name, image in {
        "water": w,
        "fat": f,
        "in phase (water + fat)": w + f,
        "opposed phase (abs(water - fat))": np.abs(w - f),
        "like T2 (0.2 water + fat)": 0.2 * w + f,
        "like T1 (0.5 water + fat)": 0.5 * w + f,
        "like PD (0.8 water + fat)": 0.8 * w + f,
        "fat suppressed (water + 0.1 fat)": w + 0.1 * f,
    }.items():
        yield f"TUM01 {name}", UNKNOWN, image, labels, water.pixel_spacing_mm


def studies(data: Path, model: Path) -> Iterator[Row]:
    """Yield the same of each stack of the clinical studies."""
    predictor = Predictor(load_model(model))
    for study in STUDIES:
        for number, stack in enumerate(read_dicom(data / study).stacks, start=1):
            volume = stack.volume
            labels = scan_labels(predictor, volume)
            name = f"{study.split('/')[0]} stack {number}"
            yield name, stack.slices[0].sequence, volume.array, labels, volume.pixel_spacing_mm


def line(name: str, header: str, image: np.ndarray, labels: np.ndarray, spacing) -> str:
    """Return a row of the table in Markdown."""
    seen = fat_contrast(image, labels, spacing)
    alone, both = domain_of(UNKNOWN, seen), domain_of(header, seen)
    columns = fat_fractions([image], [labels], [spacing])  # as if nothing were refused
    kept = fat_fractions([image], [labels], [spacing], [both.reason])
    cells = [name, header, both.sequence, f"{seen.contrast:.1f}", f"{seen.skewness:.2f}"]
    cells += [alone.reason or "", both.reason or ""]
    shown = columns["reason_otsu_subject"] != "absent"
    cells += [f"{np.nanmedian(columns['separability_otsu_subject']):.2f}"]
    for method in FAT_METHODS:
        values = columns[f"fat_fraction_{method}"][shown]
        mean = f"{np.nanmean(values):.2f}" if np.isfinite(values).any() else "null"
        null = not np.isfinite(kept[f"fat_fraction_{method}"]).any()
        cells.append(f"null ({mean})" if null and mean != "null" else mean)
    return f"| {' | '.join(cells)} |"


def main(model: str = "") -> None:
    """Print the table."""
    data = Path(os.environ["PARAVERT_REAL_DATA"])
    head = ["image", "header", "sequence", "contrast, SD", "skewness", "reason without header"]
    head += ["reason", "separability", *FAT_METHODS]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    shipped = REPOSITORY / CONFIGURATION["model"]["file"]
    for rows in (phantoms(), dixon(data), studies(data, Path(model or shipped))):
        for row in rows:
            print(line(*row), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="", help="model file (.safetensors)")
    main(parser.parse_args().model)
