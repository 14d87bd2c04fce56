"""The contrast of a series, from its sequence parameters, image type and description."""

import re
from collections.abc import Collection, Sequence

T1, T2, PD, STIR, UNKNOWN = "T1", "T2", "PD", "STIR", "unknown"
# Words of ImageType (0008,0008) behind the second, as Siemens, Philips and GE write them.
DIXON_WORDS = {
    "dixon-water": ("W", "WATER"),
    "dixon-fat": ("F", "FAT"),
    "dixon-in-phase": ("IP", "IN", "IN_PHASE", "IN PHASE"),
    "dixon-opposed-phase": ("OP", "OPP", "OPP_PHASE", "OUT", "OUT_PHASE", "OPPOSED_PHASE"),
    "dixon-fat-fraction": ("FF", "FAT_FRACTION", "FATFRACTION"),
}
STIR_INVERSION_MS = (60.0, 300.0)  # fat is nulled at 110 ms at 0.4 T, at 230 ms at 3 T
SHORT_ECHO_MS = 40.0  # of T1 and PD
LONG_ECHO_MS = 60.0  # of T2
SHORT_REPETITION_MS = 1300.0  # of T1
LONG_REPETITION_MS = 1500.0  # of PD and T2
GRADIENT_ECHO_MS = 250.0  # shorter repetition times are a gradient echo's
DESCRIPTIONS = {
    STIR: r"stir|tirm",
    T1: r"(?<![a-z0-9])t1",
    T2: r"(?<![a-z0-9])t2(?!\*|star)",
    PD: r"(?<![a-z])pd(?![a-z])|proton.?density",
}


def contrast_of(
    *,
    image_type: Sequence[str] = (),
    sequence: Collection[str] = (),
    echo_time_ms: float | None = None,
    repetition_time_ms: float | None = None,
    inversion_time_ms: float | None = None,
    description: str = "",
) -> str:
    """Return T1, T2, PD, STIR, a part of a Dixon series such as dixon-water, or unknown.

    image_type: ImageType (0008,0008); the words after the second name a part of a Dixon series.
    sequence: ScanningSequence (0018,0020). echo_time_ms, repetition_time_ms, inversion_time_ms:
    (0018,0081), (0018,0080), (0018,0082); None: unknown. description: SeriesDescription (0008,103E).
    Times decide for spin echoes; for gradient echoes and where a time is unknown the description
    decides.
    """
    for part, words in DIXON_WORDS.items():
        if set(words) & set(image_type[2:]):
            return part
    told = _by_description(description)
    if told == STIR:
        return STIR
    inversion = inversion_time_ms or 0.0
    if "IR" in sequence and inversion > 0:
        nulls_fat = STIR_INVERSION_MS[0] <= inversion <= STIR_INVERSION_MS[1]
        return STIR if nulls_fat else told
    if "GR" in sequence or not echo_time_ms or not repetition_time_ms:
        return told
    if "SE" not in sequence and repetition_time_ms < GRADIENT_ECHO_MS:
        return told
    return _by_times(echo_time_ms, repetition_time_ms)


def _by_times(echo_ms: float, repetition_ms: float) -> str:
    if repetition_ms >= LONG_REPETITION_MS:
        if echo_ms >= LONG_ECHO_MS:
            return T2
        return PD if echo_ms <= SHORT_ECHO_MS else UNKNOWN
    return T1 if repetition_ms <= SHORT_REPETITION_MS and echo_ms <= SHORT_ECHO_MS else UNKNOWN


def _by_description(description: str) -> str:
    found = (c for c, words in DESCRIPTIONS.items() if re.search(words, description, re.IGNORECASE))
    return next(found, UNKNOWN)
