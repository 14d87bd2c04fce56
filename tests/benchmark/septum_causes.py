"""What moves the septum between multifidus and erector spinae: one change at a time.

[PARAVERT_REAL_DATA=...] python tests/benchmark/septum_causes.py MODEL VALIDATION [--sections 30]

VALIDATION is a table of draw_anatomies of people that the model was not trained on. Its sections are
drawn as Dixon water and T2 images, once as they are and once with each change; the truth stays that of
the section as it is. With PARAVERT_REAL_DATA the images of the real volunteer are changed likewise, and
the shares of multifidus in multifidus + erector spinae (MF share) of all real scans are printed.
Shift: area that multifidus gains (+, the septum lies too far lateral) or loses (-) to erector spinae,
divided by its anteroposterior height, mm.
"""

import argparse
import io
import os
import sys
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from scipy import ndimage

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests")]

from paravert.imaging.volume import Volume  # noqa: E402
from paravert.network import artefacts, randomised, septa  # noqa: E402
from paravert.network.contrast import drawn_contrast  # noqa: E402
from paravert.network.predict import Predictor, Prepared  # noqa: E402
from paravert.network.randomised import Anatomies, drawn_pictures  # noqa: E402
from paravert.network.unet import load_model  # noqa: E402
from paravert.synthesis.muscles import BEYOND  # noqa: E402
from paravert.synthesis.tissues import Tissue  # noqa: E402
from paravert.synthesis.volunteers import Volunteer, volunteers  # noqa: E402
from real_scans import (  # noqa: E402
    DIXON,
    MASK,
    STUDIES,
    dixon_slice,
    judged,
    mask_labels,
    read_nifti,
    read_series,
    scan_labels,
)

SIZE_PX, SPACING_MM, SEED, BATCH = 192, 1.2, 17, 16
SEQUENCES = ("dixon_water", "t2")
BANDS = {"L4/5-L5": (4.25, 5.25), "L3-L4": (2.75, 4.25), "L1-L2/3": (0.75, 2.75)}
SECTION_PX_MM = 0.8
NOTCH_PX = 8  # 6.4 mm: notches of twice this width are filled
RIM_MM = tuple(range(3, 25, 2))  # real scan: depths at which the rim is removed
REAL_NOTCH_PX = 8  # real scan: half the width of the notches that are filled
LEAST_TOUCH = 0.6  # of the height of multifidus
MULTIFIDUS, ERECTOR = (7, 8), (5, 6)
BACK = MULTIFIDUS + ERECTOR
# The template's map has no vertebrae; its quadratus begins at the crest, as at L4/5.
TEMPLATE_L45_MM, TEMPLATE_MM_PER_LEVEL = 24.0, 31.5
VOLUNTEER_BANDS = {  # slices
    "L4/5": (0, 5),
    "L4": (5, 9),
    "L3/4": (9, 13),
    "L3": (13, 17),
    "L2/3": (17, 21),
    "L2": (21, 25),
    "L1/2": (25, 29),
}

Map = Callable[[np.ndarray], np.ndarray]


# --- synthetic sections --------------------------------------------------------------------------


class ChangedAnatomies(Anatomies):
    """Sections with changes of their maps: of the tissues, and of the order in which muscle turns to fat.

    change: (LAYERS, rows, columns) to the same. order_change: (rows, columns) to the same.
    """

    change: Map = staticmethod(lambda tissues: tissues)
    order_change: Map = staticmethod(lambda order: order)

    def sections(self, numbers):
        """Return the changed maps, as of `Anatomies.sections`."""
        maps = super().sections(numbers).numpy().copy()
        for one in maps:
            one[:-1] = self.change(one[:-1])
            one[-1] = self.order_change(one[-1])
        return torch.from_numpy(maps)


def unchanged(maps: np.ndarray) -> np.ndarray:
    """Return maps as they are."""
    return maps


def septum_absent(tissues: np.ndarray) -> np.ndarray:
    """Return maps without septa between muscles."""
    return septa.without_septa(torch.from_numpy(tissues)).numpy()


def one_grey(order: np.ndarray) -> np.ndarray:
    """Return an order without pattern; `pictures` then also gives both muscles the same fat."""
    return np.zeros_like(order)


def notches_filled(tissues: np.ndarray) -> np.ndarray:
    """Return maps whose outline of both back muscles of a side has no notch where the septum ends."""
    tissues = tissues.copy()
    filled = np.isin(tissues, (Tissue.SEPTUM, Tissue.FASCIA, Tissue.FAT, Tissue.VISCERAL_FAT))
    for side in (0, 1):
        for layer, fill in zip(tissues, filled, strict=True):
            back = np.isin(layer, (ERECTOR[side], MULTIFIDUS[side]))
            if not back.any():
                continue
            far, nearest = ndimage.distance_transform_edt(~back, return_indices=True)
            closed = ndimage.distance_transform_edt(far <= NOTCH_PX) > NOTCH_PX
            here = closed & fill & ~back
            layer[here] = layer[tuple(nearest[:, here])]
    return tissues


def touch(tissues: np.ndarray) -> bool:
    """Return whether the two muscles of both sides touch along most of the multifidus; no fat is between."""
    for mf, es in zip(MULTIFIDUS, ERECTOR, strict=True):
        own, other = tissues == mf, tissues == es
        beside = own & (np.roll(other, 1, axis=-1) | np.roll(other, -1, axis=-1))
        if beside.any(axis=-1).sum() < LEAST_TOUCH * max(own.any(axis=-1).sum(), 1):
            return False
    return True


def no_fat(order: np.ndarray) -> np.ndarray:
    """Return an order in which all muscle is as lean as its leanest pixel."""
    return np.zeros_like(order)


def no_streaks(order: np.ndarray) -> np.ndarray:
    """Return the order at random: as much fat in each muscle, without streaks."""
    shuffled = np.random.default_rng(SEED).integers(1, 256, order.shape, np.uint8)
    return np.where(order > 0, shuffled, order)


def septum_broken(tissues: np.ndarray) -> np.ndarray:
    """Return maps in which half of the septa are absent, in pieces of 17 mm."""
    pieces = np.random.default_rng(SEED).random((24, 24)) < 0.5
    holes = np.kron(pieces, np.ones((22, 22), bool))[: tissues.shape[1], : tissues.shape[2]]
    return np.where(holes, septum_absent(tissues), tissues)


def lines_within(muscles: tuple[int, ...], share: float, tissue: Tissue, dots: bool = False) -> Map:
    """Return a change that draws a line of 0.8 mm from front to back through muscles.

    share: its place across a muscle's width, 0 medial, 1 lateral. dots: dashes of 3 mm, 3 mm apart.
    """

    def change(tissues: np.ndarray) -> np.ndarray:
        tissues = tissues.copy()
        middle = tissues[len(tissues) // 2]
        centre = np.nonzero(np.isin(middle, BACK))[1]
        centre = centre.mean() if len(centre) else 0
        for label in muscles:
            for row in np.flatnonzero((middle == label).any(axis=1)):
                columns = np.flatnonzero(middle[row] == label)
                if len(columns) < 6 or (dots and row // 4 % 2):
                    continue
                medial, lateral = sorted(columns[[0, -1]], key=lambda one: abs(one - centre))
                tissues[:, row, round(medial + share * (lateral - medial))] = tissue
        return tissues

    return change


def fat_under_fascia(tissues: np.ndarray) -> np.ndarray:
    """Return maps with 2.4 mm of fat between the back muscles and the fascia behind them."""
    back = np.isin(tissues, BACK)
    behind = np.roll(back, -3, axis=1)
    return np.where(back & ~behind, Tissue.FAT, tissues)


def bone_behind(fill: Tissue) -> Map:
    """Return a change that replaces spinous process and lamina by one tissue."""

    def change(tissues: np.ndarray) -> np.ndarray:
        bone = np.isin(tissues, (Tissue.CORTEX, Tissue.MARROW, Tissue.INTERSPINOUS))
        canal = np.nonzero(tissues[len(tissues) // 2] == Tissue.CSF)
        if not len(canal[0]):
            return tissues
        bone[:, : int(canal[0].max()) + 2] = False
        return np.where(bone, fill, tissues)

    return change


def notches_filled_and_absent(tissues: np.ndarray) -> np.ndarray:
    """Return maps without septa, whose outline does not show where they end."""
    return notches_filled(septum_absent(tissues))


LINE_IN_MF, LINE_IN_ES = (
    lines_within(muscles, share, Tissue.FAT)
    for muscles, share in ((MULTIFIDUS, 0.5), (ERECTOR, 0.3))
)
SECTION_CHANGES: dict[str, tuple[Map, ...]] = {  # of the tissues; of the order of fat
    "septum absent": (septum_absent,),
    "septum broken in half of its length": (septum_broken,),
    "no fat in muscles": (unchanged, no_fat),
    "fat without streaks": (unchanged, no_streaks),
    "septum absent, no fat in muscles": (septum_absent, no_fat),
    "notches of the outline filled": (notches_filled,),
    "septum absent, both of one grey value": (septum_absent, one_grey),
    "septum and notches absent, both of one grey value": (notches_filled_and_absent, one_grey),
    "fat line in the middle of MF": (LINE_IN_MF,),
    "dashes of fat in the middle of MF": (lines_within(MULTIFIDUS, 0.5, Tissue.FAT, dots=True),),
    "line in MF, septum absent, no fat": (lambda maps: LINE_IN_MF(septum_absent(maps)), no_fat),
    "fat line in the medial third of ES": (LINE_IN_ES,),
    "line in ES, septum absent, no fat": (lambda maps: LINE_IN_ES(septum_absent(maps)), no_fat),
    "fat under the fascia": (fat_under_fascia,),
    "spinous process and lamina as fat": (bone_behind(Tissue.FAT),),
    "spinous process and lamina as marrow": (bone_behind(Tissue.MARROW),),
}


def with_brighter_multifidus(images: np.ndarray, truth: np.ndarray, by: float) -> np.ndarray:
    """Return images whose multifidus is brighter by a share of the mean signal of the back muscles."""
    floor = images.min(axis=(1, 2), keepdims=True)
    return np.where(np.isin(truth, MULTIFIDUS), floor + (images - floor) * (1 + by), images)


def pictures(
    source: Anatomies, numbers: np.ndarray, sequence: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of sections in a sequence, (slices, rows, columns) each."""
    images, labels = [], []
    none = dict.fromkeys(septa.LINED_SHARE, 0.0)
    even = float(getattr(source, "order_change", None) is one_grey)
    with (
        mock.patch.object(randomised, "drawn_contrast", lambda rng: drawn_contrast(rng, sequence)),
        mock.patch.multiple(
            septa,
            HIDDEN_SHARE=0.0,
            BROKEN_SHARE=0.0,
            EVEN_SHARE=even,
            EVEN_SD=0.0,
            LINED_SHARE=none,
        ),
    ):
        for first in range(0, len(numbers), BATCH):
            drawn = drawn_pictures(
                source,
                numbers[first : first + BATCH],
                seed=(SEED, first),
                size_px=SIZE_PX,
                spacing_mm=SPACING_MM,
                device=torch.device("cpu"),
            )
            images.append(drawn.images.numpy())
            labels.append(drawn.labels.numpy())
    return np.concatenate(images), np.concatenate(labels)


def predicted(predictor: Predictor, images: np.ndarray) -> np.ndarray:
    """Return the labels of single slices, (slices, rows, columns)."""
    return predictor.predicted(Prepared(images, images.shape[1:], images.shape[1:])).labels


def share(labels: np.ndarray) -> np.ndarray:
    """Return MF / (MF + ES) of each slice, (slices,); NaN without both."""
    both = np.isin(labels, BACK).sum(axis=(1, 2))
    mf = np.isin(labels, MULTIFIDUS).sum(axis=(1, 2))
    return np.where(mf > 0, mf / np.maximum(both, 1), np.nan)


def shift_mm(labels: np.ndarray, truth: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Return how far the septum lies too lateral, mm, of each slice; mean of both sides."""
    found = []
    for own, true in zip(labels, truth, strict=True):
        sides = []
        for mf, es in zip(MULTIFIDUS, ERECTOR, strict=True):
            height = (true == mf).any(axis=1).sum()
            gained = ((own == mf) & (true == es)).sum() - ((own == es) & (true == mf)).sum()
            sides.append(gained / height * spacing_mm if height else np.nan)
        found.append(np.nanmean(sides) if not np.isnan(sides).all() else np.nan)
    return np.array(found)


def report(name: str, labels: np.ndarray, truth: np.ndarray, levels: np.ndarray, spacing: float):
    """Print median shift and MF shares by level of one change."""
    moved, own = shift_mm(labels, truth, spacing), share(labels)
    cells = []
    for low, high in BANDS.values():
        here = (levels >= low) & (levels < high)
        off = np.nanmedian(np.abs(moved[here]))
        cells.append(f"{np.nanmean(own[here]):.2f} {np.nanmedian(moved[here]):+5.1f} ({off:.1f})")
    print(f"  {name:44s}", " | ".join(cells), flush=True)


def synthetic(predictor: Predictor, validation: Path, count: int) -> None:
    """Print the table of single changes on synthetic sections."""
    plain = ChangedAnatomies(validation)
    levels = pq.read_table(validation, columns=["level"])["level"].to_numpy()
    known = np.random.default_rng(SEED).permutation(
        np.flatnonzero((levels >= 0.75) & (levels < 5.25))
    )
    touching = (n for n in known if touch(septum_absent(plain.sections([n])[0, 1].numpy())))
    numbers = np.array(list(islice(touching, count)))
    levels = levels[numbers]
    print("Synthetic sections: mean MF share of the labels, median shift, (median of its size), mm")
    for sequence in SEQUENCES:
        print(f" {sequence}: ", " | ".join(BANDS))
        images, truth = pictures(plain, numbers, sequence)
        report("truth", truth, truth, levels, SPACING_MM)
        report("as it is", predicted(predictor, images), truth, levels, SPACING_MM)
        for name, (change, *of_order) in SECTION_CHANGES.items():
            plain.change, plain.order_change = change, (of_order or [unchanged])[0]
            changed, _ = pictures(plain, numbers, sequence)
            report(name, predicted(predictor, changed), truth, levels, SPACING_MM)
        plain.change = plain.order_change = unchanged
        for by in (-0.15, 0.15):
            changed = with_brighter_multifidus(images, truth, by)
            report(f"MF {by:+.0%} signal", predicted(predictor, changed), truth, levels, SPACING_MM)
        for pixels in (-2, 2):
            moved = partial(_all_moved, pixels)
            with mock.patch.object(artefacts, "drawn_shifts_px", moved):
                changed, shifted = pictures(plain, numbers, sequence)
            name = f"chemical shift {pixels * SPACING_MM / 2:+.1f} mm down"
            report(name, predicted(predictor, changed), shifted, levels, SPACING_MM)


def _all_moved(pixels: int, _: float, down: np.ndarray, *__: object) -> np.ndarray:
    """Return one chemical shift for all slices, in place of `artefacts.drawn_shifts_px`."""
    return np.tile((0, pixels), (len(down), 1))


# --- anatomy -------------------------------------------------------------------------------------


def anatomy(validation: Path, data: Path | None) -> None:
    """Print the MF share by level of phantoms, synthetic people and, with data, real masks."""
    levels = (5.5, 5.0, 4.5, 4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0)
    print(
        "MF share by level (5.5 the disc L5/S1, 5.0 mid L5 ...), mean and SD between people or sections"
    )
    print(f"  {'':26s}", *(f"{level:11.1f}" for level in levels))
    for sex in "FM":
        people = [one for one in volunteers(1, 400) if one.sex == sex]
        shares = np.array([[_share_of(one, level) for level in levels] for one in people])
        _told(f"phantoms, {sex}", shares.mean(axis=0), shares.std(axis=0))
    source = Anatomies(validation)
    drawn = pq.read_table(validation, columns=["level"])["level"].to_numpy()
    middle = np.concatenate([source.sections([n])[:, 1].numpy() for n in range(len(source))])
    found = [share(middle[np.abs(drawn - level) < 0.25]) for level in levels]
    _told("synthetic people", [np.nanmean(x) for x in found], [np.nanstd(x) for x in found])
    if data is None:
        return
    with zipfile.ZipFile(data / "shapes/shot3_T1_labels_L4L5.zip") as archive:
        masks = [
            np.asarray(Image.open(io.BytesIO(archive.read(name))))
            for name in archive.namelist()
            if name.endswith(".png")
        ]
    values = np.zeros(256, np.uint8)
    values[[50, 100, 150, 200]] = 6, 8, 7, 5
    of_masks = np.concatenate([share(values[one][None]) for one in masks])
    print(f"  415 real masks, L4/5 (3Shot): {of_masks.mean():.3f}, SD {of_masks.std():.3f}")
    mask = read_nifti(data / MASK.format("water")).array
    of_slices = share(mask_labels(mask))
    at = np.array([dixon_slice(level) for level in levels])
    known = (at >= 0) & (at < len(of_slices))
    _told("real volunteer, by hand", np.where(known, of_slices[at * known], np.nan))
    rows = np.genfromtxt(data / "shapes/template_csa_profile_mm2.csv", delimiter=",", skip_header=1)
    z, areas = rows[:, 0], rows[:, 1:]
    at = TEMPLATE_L45_MM + TEMPLATE_MM_PER_LEVEL * (4.5 - np.array(levels))
    of_template = np.interp(
        at, z, areas[:, :2].sum(axis=1) / areas[:, :4].sum(axis=1), np.nan, np.nan
    )
    _told("template (MuscleMap)", of_template)


def _share_of(person: Volunteer, level: float) -> float:
    """Return MF / (MF + ES) of a volunteer's true areas, both sides."""
    mf, es = (
        sum(
            float(person.area_at(label, level)) * np.interp(level, *BEYOND[muscle])
            for label in labels
        )
        for muscle, labels in (("multifidus", MULTIFIDUS), ("erector_spinae", ERECTOR))
    )
    return mf / (mf + es)


def _told(name: str, means: Sequence[float], deviations: Sequence[float] | None = None) -> None:
    cells = [f"{one:.3f}" for one in means]
    if deviations is not None:
        cells = [f"{one} ({other:.3f})" for one, other in zip(cells, deviations, strict=True)]
    print(f"  {name:26s}", *(f"{cell:>13s}" for cell in cells), flush=True)


# --- real scans ----------------------------------------------------------------------------------


def smoothed_within(images: np.ndarray, masks: np.ndarray, sd_px: float) -> np.ndarray:
    """Return images smoothed within masks by a Gaussian that does not reach beyond them."""
    result = images.copy()
    for own, image, mask in zip(result, images, masks, strict=True):
        weight = ndimage.gaussian_filter(mask.astype(float), sd_px)
        mean = ndimage.gaussian_filter(np.where(mask, image, 0).astype(float), sd_px)
        own[mask] = mean[mask] / weight[mask]
    return result


def inner(masks: np.ndarray, px: int) -> np.ndarray:
    """Return masks without their rim."""
    return np.stack([ndimage.binary_erosion(mask, iterations=px) for mask in masks])


def depths_mm(back: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Return the distance of every pixel from the posterior outline of the back muscles, mm."""
    depth = np.empty(back.shape)
    for own, inside in zip(depth, back, strict=True):
        columns = np.flatnonzero(inside.any(axis=0))
        last = len(inside) - 1 - inside[::-1].argmax(axis=0)
        hind = np.interp(np.arange(inside.shape[1]), columns, last[columns])
        behind = np.arange(len(inside))[:, None] > hind
        own[:] = pixel_mm * ndimage.distance_transform_edt(~behind)
    return depth


def rim_profile(images: np.ndarray, back: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return the median signal at the depths of RIM_MM, relative to that deeper in the muscles."""
    half = (RIM_MM[1] - RIM_MM[0]) / 2
    at = [back & (depth >= mm - half) & (depth < mm + half) for mm in RIM_MM]
    deeper = np.median(images[back & (depth > RIM_MM[-1] + half)])
    return np.array([np.median(images[one]) for one in at]) / deeper


def without_rim(images: np.ndarray, back: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Return images divided by the relative signal of the back muscles at each depth beneath their back."""
    depth = depths_mm(back, pixel_mm)
    return images / np.interp(depth, RIM_MM, rim_profile(images, back, depth))


def without_notches(images: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Return images whose notches in the posterior outline of the back muscles have the signal of muscle."""
    result = images.copy()
    square, rim = ndimage.generate_binary_structure(2, 2), 2 * REAL_NOTCH_PX
    for own, image, inside in zip(result, images, back, strict=True):
        padded = np.pad(inside, rim)
        closed = ndimage.binary_closing(padded, square, iterations=REAL_NOTCH_PX)
        closed = closed[rim:-rim, rim:-rim]
        hinder = np.arange(len(inside))[:, None] > np.median(np.nonzero(inside)[0])
        notches = closed & ~inside & hinder
        weight = ndimage.gaussian_filter(inside.astype(float), 4)
        near = ndimage.gaussian_filter(np.where(inside, image, 0.0), 4)
        own[notches] = near[notches] / np.maximum(weight[notches], 1e-3)
    return result


def real_changes(
    images: np.ndarray, mask: np.ndarray, fat_is_bright: bool, pixel_mm: float
) -> dict[str, np.ndarray]:
    """Return the volunteer's images with single changes, by name."""
    mf, es = np.isin(mask, (2, 3)), np.isin(mask, (1, 4))
    back = mf | es
    around = [
        image[ndimage.binary_dilation(b, iterations=15) & ~ndimage.binary_dilation(b, iterations=4)]
        for image, b in zip(images, back, strict=True)
    ]
    fat = np.array([np.percentile(ring, 92 if fat_is_bright else 8) for ring in around])
    lean = np.array([np.median(image[b]) for image, b in zip(images, back, strict=True)])
    fat, lean = fat[:, None, None], lean[:, None, None]
    grown = [np.stack([ndimage.binary_dilation(one) for one in masks]) for masks in (mf, es)]
    line = ndimage.gaussian_filter((grown[0] & grown[1] & back).astype(float), (0, 0.6, 0.6))
    line /= line.max()
    local = np.stack([ndimage.median_filter(image, 15) for image in images])
    dots = ((images - local) / (fat - lean) > 0.03) & inner(mf, 2)
    core = inner(back, 3)
    changes = {"as it is": images}
    for contrast in (0.05, 0.1, 0.2):
        changes[f"septum drawn, contrast {contrast:.0%} of fat"] = images + contrast * line * (
            fat - lean
        )
    return changes | {
        "fat dots within MF filled": np.where(dots, local, images),
        "MF smoothed": smoothed_within(images, inner(mf, 2), 3),
        "ES smoothed": smoothed_within(images, core & es, 4),
        "bright rim beneath the fascia removed": without_rim(images, back, pixel_mm),
        "notches of the outline filled": without_notches(images, back),
        "both flat": np.where(core, lean, images),
        "both flat, septum drawn, 20%": np.where(core, lean, images) + 0.2 * line * (fat - lean),
    }


def dixon_images(data: Path) -> dict[str, tuple[Volume, np.ndarray, bool]]:
    """Return the volunteer's images by name: image, mask, whether fat is brighter than muscle."""
    water, fat = (read_nifti(data / DIXON.format(kind)) for kind in ("water", "fat"))
    masks = {kind: read_nifti(data / MASK.format(kind)).array for kind in ("water", "fat")}
    w, f = (one.array.astype(np.float32) for one in (water, fat))
    return {
        "water": (water, masks["water"], False),
        "fat": (fat, masks["fat"], True),
        "in phase": (Volume(w + f, water.affine), masks["water"], True),
        "opposed phase": (Volume(np.abs(w - f), water.affine), masks["water"], True),
    }


def volunteer(predictor: Predictor, data: Path, *, changed: bool) -> None:
    """Print MF shares by level and Dice of the real volunteer; changed: with every single change."""
    print("Real volunteer: MF share by level, median shift (mm), Dice ES, MF:", *VOLUNTEER_BANDS)
    for kind, (image, mask, fat_is_bright) in dixon_images(data).items():
        truth = mask_labels(mask)
        print(f"  {kind:8s} {'by hand':38s}", *(f"{one:.2f}" for one in band_shares(truth)))
        images = image.array.astype(np.float32)
        pixel_mm = image.pixel_spacing_mm[0]
        single = changed and kind in ("water", "fat", "in phase")
        tests = {"as it is": images}
        if single:
            tests = real_changes(images, mask, fat_is_bright, pixel_mm)
            back = mask > 0
            profile = rim_profile(images, back, depths_mm(back, pixel_mm))
            told = (f"{mm} mm {one:.2f}" for mm, one in zip(RIM_MM, profile, strict=True))
            print(f"  {kind:8s} signal by depth beneath the back:", *told)
        for name, own in tests.items():
            labels = scan_labels(predictor, Volume(own.astype(np.float32), image.affine))
            scores = judged(labels, mask)
            dice = [
                np.mean([scores[muscle, side][0] for side in ("left", "right")])
                for muscle in ("erector_spinae", "multifidus")
            ]
            moved = shift_mm(labels, truth, pixel_mm)
            cells = (
                f"{one:.2f} {np.nanmedian(moved[slice(*band)]):+.1f}"
                for one, band in zip(band_shares(labels), VOLUNTEER_BANDS.values(), strict=True)
            )
            print(f"  {kind:8s} {name:38s}", " | ".join(cells), "  {:.3f} {:.3f}".format(*dice))


def band_shares(labels: np.ndarray) -> list[float]:
    """Return the MF share of each of VOLUNTEER_BANDS."""
    return [
        np.isin(labels[a:b], MULTIFIDUS).sum() / max(np.isin(labels[a:b], BACK).sum(), 1)
        for a, b in VOLUNTEER_BANDS.values()
    ]


def studies(predictor: Predictor, data: Path) -> None:
    """Print the MF shares of the two studies of one man, a stack per disc."""
    print("One man, two scanners: MF share at L5/S1, L4/5, L3/4, L2/3, L1/2")
    for name, folder in STUDIES.items():
        shares = [np.nanmean(share(scan_labels(predictor, s))) for s in read_series(data / folder)]
        print(f"  {name:10s}", *(f"{one:.2f}" for one in shares))


def main() -> None:
    """Print all tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("model", type=Path)
    options.add_argument("validation", type=Path)
    options.add_argument("--sections", type=int, default=30)
    options.add_argument("--unchanged", action="store_true", help="real scans as they are, only")
    given = options.parse_args()
    predictor = Predictor(load_model(given.model))
    folder = os.environ.get("PARAVERT_REAL_DATA")
    data = Path(folder) if folder else None
    if not given.unchanged:
        anatomy(given.validation, data)
    if data:
        volunteer(predictor, data, changed=not given.unchanged)
        studies(predictor, data)
    if not given.unchanged:
        alone = Predictor(load_model(given.model), flip=False)  # each slice alone, as in the paper
        synthetic(alone, given.validation, given.sections)


if __name__ == "__main__":
    main()
