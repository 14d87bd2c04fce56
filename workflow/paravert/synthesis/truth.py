"""The exact truth of a phantom cohort: label maps as NIfTI and tables with units."""

import gzip
import math
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from paravert.anatomy import LABELS
from paravert.synthesis.mr_images import corner_mm
from paravert.synthesis.protocol import Protocol
from paravert.synthesis.signal import Section

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def _field(name: str, kind: pa.DataType, unit: str, meaning: str) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit, "meaning": meaning})


_KEYS = (
    _field("subject", pa.string(), "", "code of the volunteer"),
    _field("muscle", pa.string(), "", "muscle, as in paravert.anatomy"),
    _field("side", pa.string(), "", "the subject's own side, left or right"),
)
TRUTH_SLICES = pa.schema(
    (
        _KEYS[0],
        _field("slice", pa.int32(), "1", "number of the slice, 0 the most caudal"),
        _field("position_mm", pa.float64(), "mm", "place along the slice normal, up to the head"),
        *_KEYS[1:],
        _field("csa_mm2", pa.float64(), "mm2", "area in the plane of the image; 0 if absent"),
        _field("fat_fraction", pa.float64(), "1", "mean planted fat fraction; null if absent"),
    )
)
TRUTH_MUSCLES = pa.schema(
    (
        *_KEYS,
        _field("csa_mean_mm2", pa.float64(), "mm2", "mean area of the slices that show the muscle"),
        _field("volume_ml", pa.float64(), "ml", "sum of areas times the distance of the slices"),
        _field("fat_fraction", pa.float64(), "1", "mean of the slices weighted by area"),
    )
)


def affine_of(protocol: Protocol) -> np.ndarray:
    """Return the RAS affine of (column, row, slice), 4 x 4: the axial series' own geometry."""
    first = protocol.plane(0)
    affine = np.eye(4)
    affine[:3, 0] = first.across * protocol.pixel_mm
    affine[:3, 1] = first.down * protocol.pixel_mm
    affine[:3, 2] = first.normal * protocol.spacing_mm
    affine[:3, 3] = corner_mm(first, protocol.grid.shape, protocol.pixel_mm)
    affine[:3] = _LPS_TO_RAS @ affine[:3]
    return affine


def write_label_map(path: Path, labels: np.ndarray, affine: np.ndarray) -> None:
    """Write labels, (slices, rows, columns) uint8 from caudal to cranial, as compressed NIfTI."""
    image = nib.Nifti1Image(np.ascontiguousarray(labels.transpose(2, 1, 0)), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    path.write_bytes(gzip.compress(image.to_bytes(), 6, mtime=0))


def true_slice_rows(subject: str, protocol: Protocol, sections: list[Section]) -> list[dict]:
    """Return a row per slice, muscle and side of a subject; sections from caudal to cranial."""
    rows = []
    for number, section in enumerate(sections):
        plane = protocol.plane(number)
        position = float(corner_mm(plane, section.labels.shape, protocol.pixel_mm) @ plane.normal)
        for label in LABELS:
            fat = float(section.mean_fat_fraction[label.value - 1])
            rows.append(
                {
                    "subject": subject,
                    "slice": number,
                    "position_mm": position,
                    "muscle": label.muscle,
                    "side": label.side,
                    "csa_mm2": float(section.csa_mm2[label.value - 1]),
                    "fat_fraction": None if math.isnan(fat) else fat,
                }
            )
    return rows


def true_muscle_rows(rows: list[dict], spacing_mm: float) -> list[dict]:
    """Sum the slice rows of one subject up to a row per muscle and side."""
    result = []
    for label in LABELS:
        own = [r for r in rows if (r["muscle"], r["side"]) == (label.muscle, label.side)]
        shown = [row for row in own if row["csa_mm2"] > 0]
        total = sum(row["csa_mm2"] for row in shown)
        fat = sum(row["csa_mm2"] * row["fat_fraction"] for row in shown)
        result.append(
            {
                "subject": own[0]["subject"],
                "muscle": label.muscle,
                "side": label.side,
                "csa_mean_mm2": total / len(shown) if shown else 0.0,
                "volume_ml": total * spacing_mm / 1000,
                "fat_fraction": fat / total if total else None,
            }
        )
    return result


def write_table(path: Path, rows: Iterable[dict], schema: pa.Schema) -> None:
    """Write rows as Parquet; units and meanings stand in the metadata of the fields."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
