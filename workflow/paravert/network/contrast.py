"""Random tissue contrast of synthetic slices: of usual lumbar MRI sequences, or arbitrary.

Spin and gradient echoes follow their signal equations (Bernstein, Handbook of MRI Pulse Sequences,
chapters 14 and 16), with proton densities and relaxation times near published ones (Stanisz 2005, de
Bazelaire 2004). The T2 of fat is its long apparent T2 in echo trains. Signals are signed, so that water
and opposed-phase fat, or inverted magnetisation, cancel within a voxel. Some contrasts are arbitrary
(`FREE`), so that the network does not rely on known ones (Billot 2023, SynthSeg).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from paravert.anatomy import LABEL_VALUES
from paravert.synthesis.tissues import APPEARANCE, TISSUES, Tissue

# Proton density of water (0-1), T1 and T2 of water (ms), proton density of fat (0-1); at 1.5 T.
WATER_AND_FAT = {
    Tissue.AIR: (0.0, 1000, 50, 0.0),
    Tissue.SKIN: (0.55, 800, 30, 0.10),
    Tissue.FAT: (0.06, 900, 50, 0.94),
    Tissue.VISCERAL_FAT: (0.10, 900, 50, 0.88),
    Tissue.SEPTUM: (0.35, 800, 30, 0.55),
    Tissue.FASCIA: (0.35, 800, 14, 0.05),
    Tissue.WALL_MUSCLE: (0.80, 1050, 37, 0.05),
    Tissue.HIP_MUSCLE: (0.80, 1050, 37, 0.06),
    Tissue.MARROW: (0.48, 900, 60, 0.42),
    Tissue.CORTEX: (0.10, 700, 4, 0.0),
    Tissue.ILIUM: (0.36, 900, 60, 0.52),
    Tissue.ANNULUS: (0.55, 900, 32, 0.0),
    Tissue.NUCLEUS: (0.85, 1200, 95, 0.0),
    Tissue.CSF: (1.0, 4000, 1500, 0.0),
    Tissue.ROOT: (0.75, 900, 80, 0.0),
    Tissue.CORD: (0.75, 850, 78, 0.0),
    Tissue.LIGAMENT: (0.30, 700, 12, 0.05),
    Tissue.INTERSPINOUS: (0.50, 800, 28, 0.30),
    Tissue.EPIDURAL_FAT: (0.10, 900, 50, 0.88),
    Tissue.JOINT: (0.80, 1500, 110, 0.0),
    Tissue.VEIN_IN_BONE: (0.80, 1400, 150, 0.05),
    Tissue.ARTERY: (0.95, 1500, 220, 0.0),
    Tissue.VEIN: (0.95, 1500, 180, 0.0),
    Tissue.VESSEL_WALL: (0.60, 900, 40, 0.05),
    Tissue.LIVER: (0.78, 600, 46, 0.06),
    Tissue.SPLEEN: (0.85, 1100, 75, 0.0),
    Tissue.KIDNEY: (0.85, 1000, 85, 0.0),
    Tissue.MEDULLA: (0.90, 1450, 85, 0.0),
    Tissue.URINE: (1.0, 3500, 800, 0.0),
    Tissue.BOWEL_WALL: (0.70, 900, 50, 0.05),
    Tissue.BOWEL_CONTENT: (0.60, 550, 60, 0.10),
    Tissue.BOWEL_FLUID: (0.95, 2800, 500, 0.0),
    Tissue.GAS: (0.0, 1000, 50, 0.0),
    Tissue.PANCREAS: (0.78, 620, 46, 0.12),
    Tissue.INNER_ANNULUS: (0.70, 1000, 55, 0.0),
}
PURE_MUSCLE = (0.80, 1050, 36, 0.0)
FAT_T1_MS, FAT_T2_MS = 310.0, 125.0
FLOWING = (Tissue.ARTERY, Tissue.VEIN)
STILL_CSF_SHARE = 0.7  # of the slices; in the others pulsation reduces the signal of the CSF
# Groups of tissues that get about the signal of muscle, each in LIKE_MUSCLE_SHARE of the slices. In
# EVEN_KIDNEY_SHARE, cortex and medulla of the kidney have one signal.
LIKE_MUSCLE = (
    (Tissue.KIDNEY, Tissue.MEDULLA),
    (Tissue.LIVER,),
    (Tissue.SPLEEN,),
    (Tissue.PANCREAS,),
    (Tissue.BOWEL_WALL, Tissue.BOWEL_CONTENT),
    (Tissue.BOWEL_FLUID,),
    (Tissue.VEIN,),
)
LIKE_MUSCLE_SHARE, EVEN_KIDNEY_SHARE = 0.12, 0.35
# In DARK_DISC_SHARE of the slices discs have about the signal of muscle, in half of these with their rim.
DARK_DISC_SHARE = 0.35
# In SLIM_SHARE of the slices, visceral fat has a share SLIM_WATER of the signal of muscle: in slim people
# there is little fat between the muscles and their neighbours.
SLIM_SHARE, SLIM_WATER = 0.12, (0.2, 0.6)
# In FAINT_SEPTUM_SHARE of the slices, the septa between muscles have a random share of the signal of
# muscle, up to all of it.
FAINT_SEPTUM_SHARE = 0.5
FATTY = (Tissue.FAT, Tissue.VISCERAL_FAT, Tissue.EPIDURAL_FAT)
MOSTLY_FAT = tuple(tissue for tissue, (water, *_, fat) in WATER_AND_FAT.items() if fat > water)

FREE = "free"
SEQUENCES = {  # name: relative frequency
    "t1": 0.17,
    "t2": 0.20,
    "proton_density": 0.06,
    "stir": 0.09,
    "t2_fat_saturated": 0.06,
    "t1_fat_saturated": 0.04,
    "dixon_water": 0.09,
    "dixon_fat": 0.06,
    "in_phase": 0.08,
    "opposed_phase": 0.05,
    FREE: 0.10,
}
LOG_TISSUE_SD = 0.12  # SD of the logarithm of a tissue's signal between slices
LOG_TIME_SD = 0.12  # SD of the logarithm of relaxation times


@dataclass(frozen=True)
class Contrast:
    """The signed signals of all tissues in one slice, scaled as by `drawn_contrast`.

    sequence: key of SEQUENCES, such as "t1" or "dixon_fat". water, of_fat: NumPy float32 (TISSUES,),
    signal of the water and of the fat in each tissue, whose sum is the tissue's signal; index:
    `synthesis.tissues.Tissue` or label value 1-8. texture: NumPy float32 (TISSUES,), SD of the signal
    within a tissue as a share of it. lean: signal of muscle without fat. fat: signal of pure fat in
    muscle. saturated: what fat saturation left of the signal of fat, above 0 to 1; 1 without saturation.
    It is applied already in of_fat and fat.
    """

    sequence: str
    water: np.ndarray
    of_fat: np.ndarray
    texture: np.ndarray
    lean: float
    fat: float
    saturated: float = 1.0

    @property
    def shifts(self) -> bool:
        """Whether a chemical shift of fat may be simulated (property): not in the sequence "dixon_fat"."""
        return self.sequence != "dixon_fat"

    @property
    def fat_bounds(self) -> bool:
        """Whether pure fat has a larger magnitude than muscle without fat (property).

        The chemical shift of fat then moves the muscle's visible edge.
        """
        return abs(self.fat) > abs(self.lean)


def drawn_contrast(rng: np.random.Generator, sequence: str | None = None) -> Contrast:
    """Return a random contrast: the signals of water and fat in each tissue, without unit.

    rng: random numbers. sequence: key of SEQUENCES, such as "t1" or "dixon_fat"; None: drawn by their
    frequencies, the values of SEQUENCES. Signals are those of the sequence's signal equation, or
    arbitrary for "free", then varied at random; some tissues may get about that of muscle. They are
    scaled so that about 90 % of the tissues are below 1 in magnitude.
    """
    if sequence is None:
        shares = np.array(list(SEQUENCES.values()))
        sequence = str(rng.choice(list(SEQUENCES), p=shares / shares.sum()))
    drawn = _free(rng) if sequence == FREE else _physical(sequence, rng)
    water, of_fat, fat, saturated = drawn
    factor = np.exp(rng.normal(0, LOG_TISSUE_SD, TISSUES))
    factor[list(FLOWING)] *= rng.choice((0.05, 0.3, 1.0, 1.5), 2)  # flow void to inflow
    if rng.random() > STILL_CSF_SHARE:
        factor[Tissue.CSF] *= rng.uniform(0.15, 0.9)
    water, of_fat = factor * water, factor * of_fat
    lean = water[LABEL_VALUES[0]] * np.exp(rng.normal(0, LOG_TISSUE_SD))
    water[list(LABEL_VALUES)] = lean
    if rng.random() < EVEN_KIDNEY_SHARE:
        water[Tissue.MEDULLA] = water[Tissue.KIDNEY]
    for organ in LIKE_MUSCLE:
        if rng.random() < LIKE_MUSCLE_SHARE:
            water[list(organ)] = lean * np.exp(rng.normal(0, LOG_TISSUE_SD))
            of_fat[list(organ)] = 0.0
    if rng.random() < DARK_DISC_SHARE:
        disc = [Tissue.NUCLEUS, Tissue.INNER_ANNULUS, Tissue.ANNULUS]
        water[disc[: rng.integers(2, 4)]] = lean * np.exp(rng.normal(0, 2 * LOG_TISSUE_SD))
    if rng.random() < SLIM_SHARE:
        share = rng.uniform(*SLIM_WATER)
        of_fat[Tissue.VISCERAL_FAT] *= 1 - share
        water[Tissue.VISCERAL_FAT] += share * (lean - water[Tissue.VISCERAL_FAT])
    if rng.random() < FAINT_SEPTUM_SHARE:
        share = rng.uniform()
        of_fat[Tissue.SEPTUM] *= 1 - share
        water[Tissue.SEPTUM] += share * (lean - water[Tissue.SEPTUM])
    scale = max(float(np.percentile(np.abs(water + of_fat), 90)), 1e-3)
    texture = _texture() * rng.uniform(0.5, 1.5)
    return Contrast(
        sequence,
        (water / scale).astype(np.float32),
        (of_fat / scale).astype(np.float32),
        texture.astype(np.float32),
        float(lean / scale),
        float(fat / scale),
        saturated,
    )


def _texture() -> np.ndarray:
    """Return the SD of each tissue's signal as a share of it, float (TISSUES,)."""
    texture = np.zeros(TISSUES)
    for tissue, (_, deviation) in APPEARANCE.items():
        texture[tissue] = min(deviation, 0.2)
    texture[list(LABEL_VALUES)] = 0.06
    return texture


class _Signals(NamedTuple):
    """Fields as of Contrast, not scaled."""

    water: np.ndarray
    of_fat: np.ndarray
    fat: float
    saturated: float


def _physical(sequence: str, rng: np.random.Generator) -> _Signals:
    """Return the tissues' signals by the signal equation of a sequence."""
    rows = np.array([WATER_AND_FAT.get(value, PURE_MUSCLE) for value in range(TISSUES)], float)
    density, t1, t2, fat_share = rows.T
    field = rng.uniform(0.9, 1.3)  # T1 grows with the field strength
    t1 = t1 * field * np.exp(rng.normal(0, LOG_TIME_SD, TISSUES))
    t2 = t2 * np.exp(rng.normal(0, LOG_TIME_SD, TISSUES))
    echo = _ECHOES[sequence](rng)
    water = density * echo.relaxed(t1, t2)
    fat = float(echo.relaxed(np.array(FAT_T1_MS), np.array(FAT_T2_MS)))
    fat *= echo.fat
    saturated = echo.fat if "fat_saturated" in sequence else 1.0
    return _Signals(echo.water * water, fat_share * fat, fat, saturated)


@dataclass(frozen=True)
class _Echo:
    """Parameters of a sequence, times in ms.

    inversion: inversion time, 0: none. flip_deg: flip angle, below 90 for a gradient echo. water, fat:
    factors of their signals, for example -1 for fat in opposed phase.
    """

    repetition: float
    echo: float
    inversion: float = 0.0
    flip_deg: float = 90.0
    water: float = 1.0
    fat: float = 1.0

    def relaxed(self, t1: np.ndarray, t2: np.ndarray) -> np.ndarray:
        """Return the signal for proton density 1, signed, without the factors water and fat.

        t1, t2: relaxation times (ms), arrays of one shape, which the result has.
        """
        recovered = np.exp(-self.repetition / t1)
        if self.flip_deg < 90:
            flip = np.deg2rad(self.flip_deg)
            along = np.sin(flip) * (1 - recovered) / (1 - np.cos(flip) * recovered)
        else:
            along = 1 - recovered
            if self.inversion:
                along = along - 2 * np.exp(-self.inversion / t1) + 2 * recovered
        return along * np.exp(-self.echo / t2)


def _gradient_echo(rng: np.random.Generator, water: float, fat: float) -> _Echo:
    """Return a random spoiled gradient echo, 3-D (short times, small angles) or 2-D; water, fat: factors."""
    if rng.random() < 0.6:
        return _Echo(rng.uniform(4, 12), rng.uniform(1, 5), 0.0, rng.uniform(3, 20), water, fat)
    return _Echo(rng.uniform(90, 250), rng.uniform(2, 5), 0.0, rng.uniform(45, 80), water, fat)


_ECHOES = {
    "t1": lambda rng: _Echo(rng.uniform(400, 850), rng.uniform(8, 22)),
    "t2": lambda rng: _Echo(rng.uniform(2500, 6500), rng.uniform(65, 125)),
    "proton_density": lambda rng: _Echo(rng.uniform(1800, 4000), rng.uniform(10, 40)),
    "stir": lambda rng: _Echo(
        rng.uniform(3000, 6500), rng.uniform(25, 70), rng.uniform(0.6, 0.8) * FAT_T1_MS
    ),
    "t2_fat_saturated": lambda rng: _Echo(
        rng.uniform(2500, 6500), rng.uniform(60, 110), fat=rng.uniform(0.03, 0.35)
    ),
    "t1_fat_saturated": lambda rng: _Echo(
        rng.uniform(400, 850), rng.uniform(8, 20), fat=rng.uniform(0.03, 0.35)
    ),
    "dixon_water": lambda rng: _gradient_echo(rng, 1.0, rng.uniform(0, 0.1)),
    "dixon_fat": lambda rng: _gradient_echo(rng, rng.uniform(0, 0.1), 1.0),
    "in_phase": lambda rng: _gradient_echo(rng, 1.0, 1.0),
    "opposed_phase": lambda rng: _gradient_echo(rng, 1.0, -1.0),
}


def _free(rng: np.random.Generator) -> _Signals:
    """Return arbitrary signals of the tissues; all muscles share one, all fat another, at least 0.15 apart."""
    signal = rng.uniform(0.02, 1.0, TISSUES)
    muscle = rng.uniform(0.05, 1.0)
    while abs((fat := rng.uniform(0.02, 1.0)) - muscle) < 0.15:
        pass
    signal[list(FATTY)] = fat
    signal[[Tissue.WALL_MUSCLE, Tissue.HIP_MUSCLE, *LABEL_VALUES]] = muscle
    signal[[Tissue.AIR, Tissue.GAS]] = 0.0
    fatty = np.isin(np.arange(TISSUES), FATTY)
    return _Signals(np.where(fatty, 0, signal), np.where(fatty, signal, 0), fat, 1.0)
