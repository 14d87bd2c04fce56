"""Small cohort tables from a seed, for tests of what is made of them."""

import json
from pathlib import Path

import numpy as np

from paravert import codebook, tables
from paravert.anatomy import MUSCLES, SIDES, level_name
from paravert.errors import Caution, Reason

SLICES_PER_SUBJECT = 6
PIXEL_MM2 = 0.36
SLAB_MM = 5.0
MM_PER_LEVEL = 36.0
LOWEST_SLICE_LEVEL = 3.9
TILT_DEG = 10.0
WOMAN_CSA_MM2 = {
    "psoas_major": 650.0,
    "quadratus_lumborum": 320.0,
    "erector_spinae": 1250.0,
    "multifidus": 560.0,
}
MAN_OVER_WOMAN = 1.35
WOMAN_FAT_FRACTION = {
    "psoas_major": 0.06,
    "quadratus_lumborum": 0.08,
    "erector_spinae": 0.16,
    "multifidus": 0.21,
}
METHOD_SHIFT = {
    "otsu_subject": 0.0,
    "otsu_muscle": 0.1,
    "otsu_muscle_slice": 0.15,
    "otsu_image": -0.02,
    "linear": 0.01,
    "linear_spread": 0.02,
}
ABSENT_MUSCLE = "quadratus_lumborum"  # in the lowest slice, as in the body


def write_card(path: Path, **told: str) -> None:
    """Write the card of a small model; told: of its texts, those that are not empty."""
    architecture = {"width": 8, "levels": 4, "normalisation": "none", "dropout": 0.03}
    settings = {"architecture": architecture, "size_px": 64}
    told = {"note": "", "trained_on": "", "weights_sha256": "0" * 64, "settings": settings} | told
    path.write_text(json.dumps(told))


def write_cohort(
    folder: Path, subjects: int, seed: int = 0, truth: bool = True, quarantined: int = 0
) -> None:
    """Write the cohort tables: women and men in turn, six slices, one stack.

    truth: whether the overlap table has rows. quarantined: further subjects, in the ledger only.
    """
    rows = cohort_rows(subjects, seed, truth, quarantined)
    for table in codebook.COHORT_TABLES:
        data = tables.from_rows(table, rows[table.name])
        tables.write(folder / f"{table.name}.parquet", table, data, {})


def cohort_rows(
    subjects: int, seed: int = 0, truth: bool = True, quarantined: int = 0
) -> dict[str, list[dict]]:
    """Return the rows of the cohort tables by table name."""
    random = np.random.default_rng(seed)
    rows = {table.name: [] for table in codebook.COHORT_TABLES}
    for number in range(1, subjects + 1):
        person = _person(number, random)
        slices = _slices(person, random)
        muscles = _muscles(person, slices)
        warnings = [str(Caution.SPACING_TAG_MISSING)] if number % 3 == 0 else []
        rows["slices"] += slices
        rows["levels"] += _levels(person, slices)
        rows["muscles"] += muscles
        rows["subjects"].append(_subject(person, muscles, len(warnings)))
        rows["overlap"] += _overlap(person, slices, random) if truth else []
        series = {"series_number": 1, "plane": "axial", "sequence": "T2", "chosen": True}
        series |= {"n_slices": SLICES_PER_SUBJECT, "spacing_mm": SLAB_MM}
        rows["series"].append(person | series)
        rows["ledger"].append(
            {
                "subject": person["subject"],
                "status": "analysed",
                "warnings": warnings,
                "labels_digest": f"d{number:015x}",
            }
        )
    rows["ledger"] += [_quarantined(subjects + number) for number in range(1, quarantined + 1)]
    return rows


def _person(number: int, random: np.random.Generator) -> dict:
    woman = number % 2 == 1
    return {
        "subject": f"S{number:04d}",
        "sex": "F" if woman else "M",
        "age_years": float(random.integers(22, 62)),
        "height_cm": float((166 if woman else 179) + random.integers(-8, 9)),
        "weight_kg": float((58 if woman else 83) + random.integers(-9, 10)),
    }


def _slices(person: dict, random: np.random.Generator) -> list[dict]:
    size = random.normal(1, 0.1) * (1 if person["sex"] == "F" else MAN_OVER_WOMAN)
    fat_shift = random.normal(0, 0.01) + 0.002 * (person["age_years"] - 40)
    fat_shift -= 0 if person["sex"] == "F" else 0.02
    return [
        _slice(person, number, muscle, side, size, fat_shift, random)
        for number in range(SLICES_PER_SUBJECT)
        for muscle in MUSCLES
        for side in SIDES
    ]


def _slice(person, number, muscle, side, size, fat_shift, random) -> dict:
    absent = muscle == ABSENT_MUSCLE and number == 0
    area = size * WOMAN_CSA_MM2[muscle] * random.normal(1, 0.05)
    pixels = 0 if absent else max(1, round(area / PIXEL_MM2))
    row = person | {"stack_id": 1, "slice": number, "muscle": muscle, "side": side}
    row |= {"position_mm": SLAB_MM * number, "tilt_deg": TILT_DEG, "slab_mm": SLAB_MM}
    row |= {"pixels": pixels, "csa_mm2": pixels * PIXEL_MM2, "overlaps": False}
    level = LOWEST_SLICE_LEVEL - number * SLAB_MM / MM_PER_LEVEL
    row |= {"level_position": level, "level": level_name(level), "level_sd": 0.05}
    row |= {"level_source": "sheet", "labels_source": "network"}
    row["csa_axial_mm2"] = row["csa_mm2"] * np.cos(np.radians(TILT_DEG))
    if absent:
        reasons = {f"reason_{method}": "absent" for method in tables.FAT_METHODS}
        return row | reasons | {"fat_fraction_reason": "absent", "lean_csa_mm2": 0.0}
    base = WOMAN_FAT_FRACTION[muscle] + fat_shift + random.normal(0, 0.01)
    for method, shift in METHOD_SHIFT.items():
        row[f"fat_fraction_{method}"] = float(np.clip(base + shift, 0.001, 0.95))
        row[f"eroded_{method}"] = row[f"fat_fraction_{method}"]
    row |= {f"separability_{method}": 0.8 for method in tables.OTSU_METHODS}
    row |= {"sequence": "T2", "sequence_source": "header", "fat_contrast": 20.0}
    row["fat_fraction"] = row["fat_fraction_eroded"] = row["fat_fraction_otsu_subject"]
    return row | {"lean_csa_mm2": row["csa_mm2"] * (1 - row["fat_fraction"])}


def _levels(person: dict, slices: list[dict]) -> list[dict]:
    """Return rows at L3/4 (level 3.5), of the slice nearest to it; no other level."""
    nearest = min(slices, key=lambda row: abs(row["level_position"] - 3.5))["slice"]
    names = ("muscle", "side", "csa_mm2", "lean_csa_mm2", "fat_fraction")
    level = person | {"level_position": 3.5, "level": "L3/4", "slices": 1}
    return [
        level | {name: row.get(name) for name in names} for row in slices if row["slice"] == nearest
    ]


def _muscles(person: dict, slices: list[dict]) -> list[dict]:
    return [
        _muscle(
            person | {"muscle": muscle, "side": side},
            [
                row
                for row in slices
                if row["muscle"] == muscle and row["side"] == side and row["pixels"]
            ],
        )
        for muscle in MUSCLES
        for side in SIDES
    ]


def _muscle(keys: dict, shown: list[dict]) -> dict:
    areas = np.array([row["csa_mm2"] for row in shown])
    fat = {
        f"fat_fraction_{method}": _weighted([row[f"fat_fraction_{method}"] for row in shown], areas)
        for method in tables.FAT_METHODS
    }
    volume_ml = areas.sum() * SLAB_MM / 1000
    return keys | {
        "slices": len(shown),
        "csa_mean_mm2": float(areas.mean()),
        "csa_sd_mm2": float(areas.std(ddof=1)),
        "csa_max_mm2": float(areas.max()),
        "volume_ml": float(volume_ml),
        "coverage_mm": SLAB_MM * len(shown),
        "fat_fraction": fat["fat_fraction_otsu_subject"],
        "fat_fraction_eroded": fat["fat_fraction_otsu_subject"],
        "fat_fraction_valid": True,
        "csa_at_level_mm2": float(areas[0]),
        "fat_fraction_at_level": fat["fat_fraction_otsu_subject"],
        **fat,
        "fat_fraction_dixon": None,
        "lean_volume_ml": float(volume_ml * (1 - fat["fat_fraction_otsu_subject"])),
    }


def _weighted(values: list[float], weights: np.ndarray) -> float:
    return float(np.average(values, weights=weights))


def _subject(person: dict, muscles: list[dict], warnings: int) -> dict:
    volumes = np.array([row["volume_ml"] for row in muscles])
    row = person | {
        "fat_fraction_method": "otsu_subject",
        "bmi_kg_m2": person["weight_kg"] / (person["height_cm"] / 100) ** 2,
        "header_sex": person["sex"],
        "header_age_years": person["age_years"],
        "field_strength_t": 3.0,
        "sequence": "T2",
        "sequence_source": "header",
        "fat_contrast": 20.0,
        "n_stacks": 1,
        "n_slices": SLICES_PER_SUBJECT,
        "coverage_mm": SLAB_MM * SLICES_PER_SUBJECT,
        "volume_ml": float(volumes.sum()),
        "lean_volume_ml": sum(row["lean_volume_ml"] for row in muscles),
        "fat_fraction": _weighted([row["fat_fraction"] for row in muscles], volumes),
        "labels_source": "network",
        "removed_mm2": 4.0,
        "separability": 0.8,
        "n_warnings": warnings,
    }
    for muscle in MUSCLES:
        left, right = (row for row in muscles if row["muscle"] == muscle)
        area = left["csa_mean_mm2"] + right["csa_mean_mm2"]
        pair = (left["volume_ml"], right["volume_ml"])
        row[f"csa_{muscle}_mm2"] = area
        row[f"csa_index_{muscle}"] = area / (person["height_cm"] / 100) ** 2
        areas = np.array([left["csa_at_level_mm2"], right["csa_at_level_mm2"]])
        row[f"csa_level_{muscle}_mm2"] = float(areas.sum())
        row[f"fat_level_{muscle}"] = _weighted(
            [left["fat_fraction_at_level"], right["fat_fraction_at_level"]], areas
        )
        row[f"volume_{muscle}_ml"] = sum(pair)
        row[f"fat_fraction_{muscle}"] = _weighted(
            [left["fat_fraction"], right["fat_fraction"]], np.array(pair)
        )
        row[f"asymmetry_{muscle}"] = (left["csa_mean_mm2"] - right["csa_mean_mm2"]) / (area / 2)
    return row


def _overlap(person: dict, slices: list[dict], random: np.random.Generator) -> list[dict]:
    """Return the truth as the prediction with some pixels lost and some added."""
    subject_loss = abs(random.normal(0.04, 0.01))
    return [_overlap_row(person, row, subject_loss, random) for row in slices]


def _overlap_row(person: dict, row: dict, subject_loss: float, random) -> dict:
    keys = {name: row[name] for name in ("stack_id", "slice", "muscle", "side")}
    found = row["pixels"]
    added = round(found * abs(random.normal(subject_loss, 0.01)))
    common = found - round(found * abs(random.normal(subject_loss, 0.01)))
    counted = person | keys | {"pixels_truth": common + added, "pixels_prediction": found}
    counted |= {
        "labels_given": False,
        "pixel_mm2": PIXEL_MM2,
        "held_out": True,
        "review_failed": False,
    }
    if found == 0:
        return counted
    return counted | {
        "iou": common / (found + added),
        "dice": 2 * common / (found + common + added),
    }


def _quarantined(number: int) -> dict:
    reason = (Reason.NO_DICOM, Reason.TRUNCATED_PIXELS)[number % 2]
    return {
        "subject": f"S{number:04d}",
        "status": "quarantined",
        "stage": "convert_dicom",
        "reason": str(reason),
        "message": "found 0 files, expected DICOM",
        "warnings": [],
    }
