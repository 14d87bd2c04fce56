"""Dixon acquisitions of phantom volunteers: two echoes, and water and fat from them.

Lean muscle and the fat in it have the same signal, so that fat / (fat + water) is the planted fat
fraction, without bias of T1 or T2*; only noise, partial volume and texture are left.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from paravert.anatomy import LABEL_VALUES
from paravert.synthesis.body import Body
from paravert.synthesis.raster import PixelGrid
from paravert.synthesis.signal import Acquisition, RenderedSlice, render_planes
from paravert.synthesis.solids import CutPlane
from paravert.synthesis.tissues import Tissue, TissueSignal

WATER, FAT, IN_PHASE, OPPOSED = PARTS = ("water", "fat", "in-phase", "opposed-phase")
SIGNAL = 0.5  # of lean muscle in water, and of the fat between its fibres in fat
FATTY = (Tissue.FAT, Tissue.VISCERAL_FAT, Tissue.EPIDURAL_FAT)
# Share of fat in tissues that mix water and fat.
MIXED = {Tissue.SEPTUM: 0.4, Tissue.MARROW: 0.4, Tissue.ILIUM: 0.5, Tissue.INTERSPINOUS: 0.3}
FLUIDS = (Tissue.CSF, Tissue.URINE, Tissue.BOWEL_FLUID, Tissue.NUCLEUS, Tissue.ROOT, Tissue.MEDULLA)
MUSCLES = (*LABEL_VALUES, Tissue.WALL_MUSCLE, Tissue.HIP_MUSCLE)
FLUID_GAIN, OTHER_GAIN = 0.5, 1.2  # of the T2 phantom's signal

# How scanners name the parts: SeriesDescription (0008,103E), ImageType (0008,0008) from its third value.
NAMINGS = {
    "Siemens": {
        WATER: ("t1_vibe_dixon_tra_W", "DIXON\\WATER"),
        FAT: ("t1_vibe_dixon_tra_F", "DIXON\\FAT"),
        IN_PHASE: ("t1_vibe_dixon_tra_in", "DIXON\\IN_PHASE"),
        OPPOSED: ("t1_vibe_dixon_tra_opp", "DIXON\\OPP_PHASE"),
    },
    "GE": {
        WATER: ("WATER: Ax LAVA-Flex", "DIXON\\WATER"),
        FAT: ("FAT: Ax LAVA-Flex", "DIXON\\FAT"),
        IN_PHASE: ("InPhase: Ax LAVA-Flex", "DIXON\\IN_PHASE"),
        OPPOSED: ("OutPhase: Ax LAVA-Flex", "DIXON\\OUT_PHASE"),
    },
    "Philips": {  # all in one series
        WATER: ("mDIXON-All", "W\\W\\DERIVED"),
        FAT: ("mDIXON-All", "F\\F\\DERIVED"),
        IN_PHASE: ("mDIXON-All", "IP\\IP\\DERIVED"),
        OPPOSED: ("mDIXON-All", "OP\\OP\\DERIVED"),
    },
}
# At 3 T: the parts are computed from both echoes and keep the time of the first.
TIMES = {
    part: {"echo_ms": 2.46 if part == IN_PHASE else 1.23, "repetition_ms": 4.0, "scanning": "GR"}
    for part in PARTS
}
# Position in the cohort of the volunteers whose axial series is a Dixon acquisition.
VOLUNTEERS = {5: "Siemens", 13: "GE", 21: "Philips"}


@dataclass(frozen=True)
class DixonSlice:
    """The images of a Dixon acquisition of one slice of a phantom.

    images: {"water", "fat", "in-phase", "opposed-phase": magnitude, float32 (rows, columns)}. truth:
    labels and planted fat fractions of the slice; its image is the water image without noise.
    """

    images: dict[str, np.ndarray]
    truth: RenderedSlice


def render_dixon(
    body: Body, planes: Sequence[CutPlane], grid: PixelGrid, acquisition: Acquisition
) -> Iterator[DixonSlice]:
    """Yield the Dixon images (water, fat, in phase, opposed phase) of each plane, with the truth.

    body: of the volunteer. planes: one or more, nearly axial, in coordinates of the body (LPS, mm, mid
    L3 at z = 0), all with the same axes (not checked). grid: the pixels of the image, about the centre
    of each plane. acquisition: thickness, noise and coil. Before the coil, muscle without fat has the
    signal 0.5 (SIGNAL) in water, and pure fat within muscle has it in fat. The complex echoes in phase
    (water + fat) and opposed (water - fat) get Gaussian noise of SD `acquisition.noise` in the real and
    in the imaginary part, drawn from the volunteer's seed and the plane's position. Water and fat are
    half their sum and half their difference (two-point Dixon, Dixon 1984); all four images are
    magnitudes, so that their noise is Rician.
    """
    quiet = replace(acquisition, noise=0.0)
    waters, fats = (
        render_planes(replace(body, contrast=contrast), planes, grid, quiet)
        for contrast in (_water_signal(body.contrast), _fat_signal(body.contrast))
    )
    for plane, water, fat in zip(planes, waters, fats, strict=True):
        place = np.round(100 * (plane.centre + 5000)).astype(int)
        rng = np.random.default_rng([body.volunteer.seed, 43, *place])
        real, imaginary = rng.normal(0, acquisition.noise, (2, 2, *water.image.shape))
        one = water.image + fat.image + real[0] + 1j * imaginary[0]
        other = water.image - fat.image + real[1] + 1j * imaginary[1]
        images = {
            WATER: (one + other) / 2,
            FAT: (one - other) / 2,
            IN_PHASE: one,
            OPPOSED: other,
        }
        found = {part: np.abs(image).astype(np.float32) for part, image in images.items()}
        yield DixonSlice(found, water)


def _water_signal(contrast: TissueSignal) -> TissueSignal:
    signal = OTHER_GAIN * contrast.signal
    signal[list(FLUIDS)] *= FLUID_GAIN / OTHER_GAIN
    signal[list(MUSCLES)] = SIGNAL
    for tissue, share in MIXED.items():
        signal[tissue] *= 1 - share
    signal[list(FATTY)] = 0
    return TissueSignal(signal, contrast.texture)


def _fat_signal(contrast: TissueSignal) -> TissueSignal:
    signal = np.zeros_like(contrast.signal)
    signal[Tissue.FAT] = 1  # to which `TissueSignal.fat` refers
    pure = SIGNAL / TissueSignal(signal, contrast.texture).fat
    signal[list(FATTY)] = pure
    for tissue, share in MIXED.items():
        signal[tissue] = share * pure
    return TissueSignal(signal, contrast.texture)
