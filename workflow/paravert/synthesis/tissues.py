"""Tissues, body parts that consist of them, and their signal in an MR image.

The signal is that of a T2-weighted turbo spin echo.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from paravert.anatomy import LABEL_VALUES
from paravert.synthesis.solids import Tube


class Tissue(IntEnum):
    """Tissue of a pixel, with its MR signal in the phantoms.

    Values 1 to 8 are the muscles, the label values of `anatomy.LABELS`; they are no members.
    Attribute signal: mean; 1 is the signal of bright fluid; `contrast_of` varies it by subject and
    age. Attribute texture: SD of the texture relative to the signal.
    """

    AIR = 0, 0.0, 0.0
    SKIN = 9, 0.34, 0.10
    FAT = 10, 0.84, 0.045
    VISCERAL_FAT = 11, 0.78, 0.05
    SEPTUM = 12, 0.50, 0.15  # fat and fascia between muscles
    FASCIA = 13, 0.10, 0.20
    WALL_MUSCLE = 14, 0.19, 0.14
    HIP_MUSCLE = 15, 0.19, 0.16
    MARROW = 16, 0.40, 0.09
    CORTEX = 17, 0.05, 0.10
    ILIUM = 18, 0.52, 0.10
    ANNULUS = 19, 0.12, 0.12
    NUCLEUS = 20, 0.50, 0.08
    CSF = 21, 1.08, 0.03
    ROOT = 22, 0.42, 0.05
    CORD = 23, 0.44, 0.04
    LIGAMENT = 24, 0.10, 0.15
    INTERSPINOUS = 25, 0.30, 0.35
    EPIDURAL_FAT = 26, 0.80, 0.06
    JOINT = 27, 0.62, 0.20
    VEIN_IN_BONE = 28, 0.72, 0.05
    ARTERY = 29, 0.04, 0.20
    VEIN = 30, 0.09, 0.30
    VESSEL_WALL = 31, 0.26, 0.10
    LIVER = 32, 0.27, 0.09
    SPLEEN = 33, 0.48, 0.06
    KIDNEY = 34, 0.51, 0.05
    MEDULLA = 35, 0.58, 0.05
    URINE = 36, 1.05, 0.03
    BOWEL_WALL = 37, 0.28, 0.10
    BOWEL_CONTENT = 38, 0.40, 0.16
    BOWEL_FLUID = 39, 0.92, 0.08
    GAS = 40, 0.02, 0.30
    PANCREAS = 41, 0.40, 0.14
    INNER_ANNULUS = 42, 0.26, 0.10

    def __new__(cls, value: int, signal: float, texture: float) -> "Tissue":
        """Make a member with this value."""
        member = int.__new__(cls, value)
        member._value_, member.signal, member.texture = value, signal, texture
        return member


TISSUES = 1 + max(Tissue)

CAVITY = frozenset(
    {
        Tissue.VISCERAL_FAT,
        Tissue.LIVER,
        Tissue.SPLEEN,
        Tissue.KIDNEY,
        Tissue.MEDULLA,
        Tissue.URINE,
        Tissue.PANCREAS,
        Tissue.BOWEL_WALL,
        Tissue.BOWEL_CONTENT,
        Tissue.BOWEL_FLUID,
        Tissue.GAS,
    }
)


@dataclass(frozen=True)
class BodyPart:
    """A tube filled with one tissue, optionally with a rim of another.

    tube: the solid, in coordinates of the body (LPS, mm, mid L3 at z = 0). tissue: a `Tissue` or a
    label value. rim, rim_mm: tissue and width (mm) of a rim inside the outline; rim None: no rim.
    margin_mm: by how much (mm) a part without a rim is widened. over: tissues and label values that
    this part replaces, besides the tissue of its rim; elsewhere it is not drawn; None: all.
    """

    tube: Tube
    tissue: int
    rim: int | None = None
    rim_mm: float = 0.0
    margin_mm: float = 0.0
    over: frozenset[int] | None = None


# Signal and texture by tissue.
APPEARANCE = {tissue: (tissue.signal, tissue.texture) for tissue in Tissue}
LEAN_MUSCLE = (0.17, 0.055)


@dataclass(frozen=True)
class TissueSignal:
    """Mean MR signal and texture of each tissue in one subject, indexed by tissue or label value.

    signal: float32 (TISSUES,), where TISSUES is 1 + the largest value of `Tissue`; of muscles
    without the fat in them. In T2-weighted phantoms 1 is the signal of bright fluid; Dixon images
    have another scale. texture: float32 (TISSUES,), SD of the texture relative to the signal.
    """

    signal: np.ndarray
    texture: np.ndarray

    @property
    def lean(self) -> float:
        """Signal of muscle without the fat in it, on the scale of `signal`."""
        return float(self.signal[LABEL_VALUES[0]])

    @property
    def fat(self) -> float:
        """Signal of fat within muscle, on the scale of `signal`: 95 % of that of Tissue.FAT."""
        return 0.95 * float(self.signal[Tissue.FAT])


def contrast_of(seed: int, age_years: float) -> TissueSignal:
    """Return the T2 contrast of one subject: mean signal and texture of each tissue.

    seed: of the random deviations. age_years: with age Tissue.MARROW becomes brighter, NUCLEUS and
    INNER_ANNULUS darker. A pure function of its arguments.
    """
    rng = np.random.default_rng([seed, 21])
    table = np.zeros((TISSUES, 2), np.float32)
    for value in LABEL_VALUES:
        table[value] = LEAN_MUSCLE
    for tissue, appearance in APPEARANCE.items():
        table[tissue] = appearance
    signal, texture = table.T.copy()
    signal *= np.exp(rng.normal(0, 0.05, TISSUES)).astype(np.float32)
    muscles = list(LABEL_VALUES)
    signal[muscles] = LEAN_MUSCLE[0] * np.exp(rng.normal(0, 0.09))
    older = (age_years - 40) / 40
    signal[Tissue.MARROW] *= 1 + 0.22 * older
    signal[Tissue.NUCLEUS] = np.clip(0.52 - 0.30 * older + rng.normal(0, 0.08), 0.14, 0.85)
    signal[Tissue.INNER_ANNULUS] = 0.5 * (signal[Tissue.NUCLEUS] + signal[Tissue.ANNULUS])
    return TissueSignal(signal, texture)
