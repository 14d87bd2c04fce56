"""The class of a pulse sequence by the header: weighting (T1, T2 ...), fat suppression or Dixon part.

A header may be wrong or incomplete: `measure.fat_domain` compares the class with the pixels.
"""

import math
import re
from dataclasses import dataclass

from paravert.imaging.header_values import FrameAttributes, text, within
from paravert.tables import (
    DIXON_FAT,
    DIXON_WATER,
    FAT_SUPPRESSED,
    IN_PHASE,
    OPPOSED_PHASE,
    PD,
    STIR,
    T1,
    T2,
    UNKNOWN,
)

SEQUENCE_TAGS = (
    "ScanningSequence",
    "ScanOptions",
    "InversionTime",
    "FlipAngle",
    "SequenceName",
    "EchoPulseSequence",
    "AcquisitionContrast",
    "SpectrallySelectedSuppression",
    "InversionTimes",
)
# Marks of Dixon parts in ImageType (0008,0008) from its third value on: Siemens and enhanced images
# write DIXON and a word, Philips a letter or two.
PARTS = {
    DIXON_WATER: {"WATER", "W", "WATER_IMAGE"},
    DIXON_FAT: {"FAT", "F", "FAT_IMAGE"},
    IN_PHASE: {"IN_PHASE", "INPHASE", "IP", "IN"},
    OPPOSED_PHASE: {
        "OPP_PHASE", "OUT_PHASE", "OPPOSED_PHASE", "OUT_OF_PHASE", "OUTPHASE", "OPP", "OP", "OUT",
    },
}  # fmt: skip
# Maps that are computed from the parts show neither contrast.
MAPS = {
    "FAT_FRACTION", "FF", "WATER_FRACTION", "WF", "T2_STAR", "T2STAR", "R2_STAR", "R2STAR", "B0",
    "FIELD_MAP", "FATFRAC",
}  # fmt: skip
DIXON_MAP = "map"  # of a frame: computed from the parts
MAP_WORDS = re.compile(
    r"\b(ff|wf|fat fraction|water fraction|pdff|r2s?|t2s|r2star|t2star|b0|gof)( map)?$"
)
MAP_FRONT = re.compile(r"^\s*(fatfrac|fat fraction|r2\*|t2\*)\s*:")  # GE
# The same in SeriesDescription (0008,103E), as words. GE, Canon and others name a part there alone.
DIXON_NAMES = re.compile(r"dixon|\b(ideal|iq|flex|lava|wfs|wfop|wfi|fatsep)\b")
PART_WORDS = {
    DIXON_WATER: re.compile(r"\b(water|watr)\b|\bw$"),
    DIXON_FAT: re.compile(r"\bfat\b(?! (sat|sup|frac))|\bf$"),
    IN_PHASE: re.compile(r"\b(ip|inphase|in phase)\b|\bin$"),
    OPPOSED_PHASE: re.compile(
        r"\b(op|opp|oop|opposed|outphase|out phase|outofphase|out of phase)\b|\bout$"
    ),
}
# Without a name of Dixon only these are unambiguous: "WATER: ", "FAT: ", as GE writes them, and phases.
PLAIN_WORDS = {
    DIXON_WATER: re.compile(r"^water\b(?! (exc|frac|sat|sup))"),
    DIXON_FAT: re.compile(r"^fat\b(?! (sat|sup|frac))"),
    IN_PHASE: re.compile(r"\b(inphase|in phase)\b"),
    OPPOSED_PHASE: re.compile(r"\b(outphase|out of phase|out phase|opp phase|opposed)\b"),
}
STIR_WORDS = re.compile(r"\b(\w*stir|tirm)\b")
SUPPRESSION = r"(fs|\w*fatsat|spair|spir|chess|we|water exc\w*|fat sat\w*|fat sup\w*|fatsup\w*)\b"
SUPPRESSED_WORDS = re.compile(rf"\b{SUPPRESSION}")
NOT_SUPPRESSED_WORDS = re.compile(rf"\b(no|non|not|without|ohne|sans|sin|wo|w o) ?{SUPPRESSION}")
SUPPRESSED_OPTIONS = {"FS", "FATSAT", "FAT_SAT", "SPIR", "SPAIR", "WE"}
WEIGHTING_WORDS = {
    T1: re.compile(r"\bt1w?i?\b"),
    T2: re.compile(r"\bt2w?i?\b"),
    PD: re.compile(r"\bpdw?i?\b"),
}

# Times in ms. Fat is nulled at 0.69 times its T1: 90 at 0.3 T to 230 at 3 T.
STIR_INVERSION_MS = (60.0, 300.0)
T1_INVERSION_MS = (400.0, 1300.0)
T1_ECHO_MS, T1_REPETITION_MS = 40.0, 1100.0
PD_ECHO_MS, T2_ECHO_MS, LONG_REPETITION_MS = 50.0, 60.0, 1500.0
# Gradient echo: fat and water turn against each other, once in 1 / (FAT_HZ_PER_T x field).
FAT_HZ_PER_T = 144.8  # 3.4 ppm
LONGEST_PHASED_ECHO_MS = 12.0
CLEAR_PHASE = 0.5  # cosine of the angle between fat and water


@dataclass(frozen=True)
class SequenceFacts:
    """The values of a DICOM header that show the pulse sequence. Unknown is None, () or "".

    image_type: values of FrameType (0008,9007), otherwise ImageType (0008,0008), in upper case.
    scanning, options: ScanningSequence (0018,0020), ScanOptions (0018,0022), in upper case.
    description: SeriesDescription (0008,103E) as it is; searched for words such as stir or t1.
    contrast: first value of AcquisitionContrast (0008,9209), in upper case.
    echo_pulse: first value of EchoPulseSequence (0018,9008), in upper case.
    suppression: first value of SpectrallySelectedSuppression (0018,9025), in upper case.
    echo_ms, repetition_ms, inversion_ms: echo, repetition and inversion time in ms.
    field_t: field strength in tesla.
    """

    image_type: tuple[str, ...] = ()
    scanning: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    description: str = ""
    contrast: str = ""
    echo_pulse: str = ""
    suppression: str = ""
    echo_ms: float | None = None
    repetition_ms: float | None = None
    inversion_ms: float | None = None
    field_t: float | None = None


def sequence_facts(
    attributes: FrameAttributes,
    image_type: tuple[str, ...],
    echo_ms: float | None,
    repetition_ms: float | None,
    inversion_ms: float | None,
    field_t: float | None,
) -> SequenceFacts:
    """Return the values of the header of a frame (one slice) that show its pulse sequence.

    attributes: DICOM attributes of the frame; only the texts are read from them, the rest is stored
    as given. image_type: values of FrameType or ImageType, in upper case. echo_ms, repetition_ms,
    inversion_ms, field_t: times in ms and field strength in tesla, None if unknown.
    """
    return SequenceFacts(
        image_type=image_type,
        scanning=attributes.texts("ScanningSequence"),
        options=attributes.texts("ScanOptions"),
        description=text(attributes.data, "SeriesDescription"),
        contrast=_first(attributes.texts("AcquisitionContrast")),
        echo_pulse=_first(attributes.texts("EchoPulseSequence")),
        suppression=_first(attributes.texts("SpectrallySelectedSuppression")),
        echo_ms=echo_ms,
        repetition_ms=repetition_ms,
        inversion_ms=inversion_ms,
        field_t=field_t,
    )


def _first(words: tuple[str, ...]) -> str:
    return words[0] if words else ""


def dixon_part(facts: SequenceFacts) -> str | None:
    """Return which Dixon part an image shows by its header; None if it shows none.

    "dixon-water", "dixon-fat", "in-phase", "opposed-phase", or "map" for values computed from the
    parts, such as a fat fraction. Read from `facts.image_type`, otherwise from `facts.description`;
    None if that names several parts.
    """
    marks, words = set(facts.image_type[2:]), _words(facts.description)
    if marks & MAPS:
        return DIXON_MAP
    for part, names in PARTS.items():
        if marks & names:
            return part
    dixon = DIXON_NAMES.search(words)
    if dixon and (MAP_WORDS.search(words) or MAP_FRONT.search(facts.description.lower())):
        return DIXON_MAP
    patterns = PART_WORDS if dixon else PLAIN_WORDS
    found = [part for part, pattern in patterns.items() if pattern.search(words)]
    return found[0] if len(found) == 1 else None


def name_without_part(description: str) -> str:
    """Return what the descriptions of the parts of one Dixon acquisition have in common.

    description: SeriesDescription (0008,103E). Result: lower case, without the words that name a
    part or map, and with only letters, digits and single blanks: "t2 dixon" for "T2_DIXON_W".
    """
    words = MAP_WORDS.sub(" ", _words(MAP_FRONT.sub(" ", description.lower())))
    for patterns in (PART_WORDS, PLAIN_WORDS):
        for pattern in patterns.values():
            words = pattern.sub(" ", words)
    return " ".join(words.split())


def _words(description: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", description.lower()).strip()


def sequence_class(facts: SequenceFacts) -> str:
    """Return the class of a pulse sequence by its header, one of `tables.SEQUENCES`, such as T1 or STIR.

    The first of these that gives a class is used: Dixon part (its name is the class); suppression
    of fat; times and kind of echo, of a gradient echo also the field strength; AcquisitionContrast,
    then description, not for gradient echoes. "unknown" for maps that are computed from Dixon
    parts, and if none gives a class.
    """
    words = _words(facts.description)
    part = dixon_part(facts)
    if part == DIXON_MAP:
        return UNKNOWN
    return (
        part or _suppressed(facts, words) or _by_times(facts) or _by_name(facts, words) or UNKNOWN
    )


def _suppressed(facts: SequenceFacts, words: str) -> str | None:
    inverted = "IR" in facts.scanning or facts.inversion_ms is not None
    if (
        facts.contrast == "STIR"
        # Siemens names T1 FLAIR tirm, too.
        or (STIR_WORDS.search(words) and not within(facts.inversion_ms, T1_INVERSION_MS))
        or (inverted and within(facts.inversion_ms, STIR_INVERSION_MS))
    ):
        return STIR
    if (
        SUPPRESSED_OPTIONS & set(facts.options)
        or "FAT" in facts.suppression
        or SUPPRESSED_WORDS.search(NOT_SUPPRESSED_WORDS.sub(" ", words))
    ):
        return FAT_SUPPRESSED
    return None


def _by_times(facts: SequenceFacts) -> str | None:
    echo, repetition = facts.echo_ms, facts.repetition_ms
    gradient = "GR" in facts.scanning or facts.echo_pulse == "GRADIENT"
    spin = ("SE" in facts.scanning or facts.echo_pulse == "SPIN") and not gradient
    if gradient and "SE" not in facts.scanning:
        return _by_phase(facts)
    if not echo or not repetition:
        return None
    if (
        echo >= T2_ECHO_MS
        and repetition >= LONG_REPETITION_MS
        and not within(facts.inversion_ms, T1_INVERSION_MS)
    ):
        return T2
    if not spin and "IR" not in facts.scanning:
        return None
    if within(facts.inversion_ms, T1_INVERSION_MS):
        return T1 if echo <= T1_ECHO_MS else None
    if echo <= T1_ECHO_MS and repetition <= T1_REPETITION_MS:
        return T1
    return PD if echo <= PD_ECHO_MS and repetition >= LONG_REPETITION_MS else None


def _by_phase(facts: SequenceFacts) -> str | None:
    """Return in-phase or opposed-phase of a gradient echo, None where it is neither or not known."""
    if not facts.echo_ms or not facts.field_t or facts.echo_ms > LONGEST_PHASED_ECHO_MS:
        return None
    turns = FAT_HZ_PER_T * facts.field_t * facts.echo_ms / 1000
    phase = math.cos(2 * math.pi * turns)
    if phase >= CLEAR_PHASE:
        return IN_PHASE
    return OPPOSED_PHASE if phase <= -CLEAR_PHASE else None


def _by_name(facts: SequenceFacts, words: str) -> str | None:
    """Return the weighting that the header names, where the times do not tell it."""
    if "GR" in facts.scanning or facts.echo_pulse == "GRADIENT":
        return None
    named = {"T1": T1, "T2": T2, "PROTON_DENSITY": PD}.get(facts.contrast)
    found = [weighting for weighting, word in WEIGHTING_WORDS.items() if word.search(words)]
    return named or (found[0] if len(found) == 1 else None)
