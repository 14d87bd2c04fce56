"""Faults of the input: exceptions, and the codes of reasons and warnings."""

import errno
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

# Characters that a name or path should not hold: control characters except tab, line separators,
# zero-width space, byte order mark, surrogates.
find_unseen = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u200b\u2028\u2029\ufeff\ud800-\udfff]"
).search


# Errors of the system that last until somebody changes the file or the path, and then its state
# (`provenance.state_of`); None: not of the system.
LASTING_ERRORS = frozenset(
    (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM)
    + (errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
)


class Reason(StrEnum):
    """The codes for why a subject is quarantined (not analysed); one per subject.

    The manual, config/README.md, explains each code.
    """

    NO_DICOM = "no-dicom"
    UNREADABLE_HEADER = "unreadable-header"
    MIXED_PATIENTS = "mixed-patients"
    MULTIPLE_STUDIES = "multiple-studies"
    WRONG_MODALITY = "wrong-modality"
    QUADRUPED = "quadruped"
    NO_AXIAL_SERIES = "no-axial-series"
    MOSAIC = "mosaic"
    AMBIGUOUS_SERIES = "ambiguous-series"
    AMBIGUOUS_CONTRAST = "ambiguous-contrast"
    DIXON_PARTS_DIFFER = "dixon-parts-differ"
    DUPLICATE_POSITIONS_CONFLICT = "duplicate-positions-conflict"
    INCONSISTENT_MATRIX = "inconsistent-matrix"
    FRAME_COUNT_MISMATCH = "frame-count-mismatch"
    BAD_GEOMETRY_ORIENTATION = "bad-geometry-orientation"
    BAD_GEOMETRY_POSITION = "bad-geometry-position"
    BAD_PIXEL_SPACING = "bad-pixel-spacing"
    TOO_FEW_SLICES = "too-few-slices"
    TRUNCATED_PIXELS = "truncated-pixels"
    UNDECODABLE_PIXELS = "undecodable-pixels"
    UNSUPPORTED_PIXELS = "unsupported-pixels"
    MISSING_PIXELS = "missing-pixels"
    BLANK_IMAGES = "blank-images"
    MASK_GRID_MISMATCH = "mask-grid-mismatch"
    MASK_UNKNOWN_LABEL = "mask-unknown-label"
    MASK_SIDE_MISMATCH = "mask-side-mismatch"
    PROCESS_DIED = "process-died"  # twice, then alone with this subject; or its memory ran out


class Caution(StrEnum):
    """The codes of warnings about a subject or slice; each can have several.

    The column `warnings` of the tables lists them. The manual, config/README.md, explains each
    code.
    """

    MULTI_STACK = "multi-stack"
    SINGLE_SLICE = "single-slice"
    OVERLAPPING_STACKS = "overlapping-stacks"
    MISSING_SLICES = "missing-slices"
    SPACING_TAG_MISSING = "spacing-tag-missing"
    SPACING_TAG_MISMATCH = "spacing-tag-mismatch"
    SPACING_IRREGULAR = "spacing-irregular"
    DUPLICATE_SLICE_DROPPED = "duplicate-slice-dropped"
    FRAME_OF_REFERENCE_DIFFERS = "frame-of-reference-differs"
    NON_DICOM_IGNORED = "non-dicom-ignored"
    NON_IMAGE_IGNORED = "non-image-ignored"
    NON_AXIAL_EXCLUDED = "non-axial-excluded"
    LOCALIZER_EXCLUDED = "localizer-excluded"
    OFF_AXIS_SLICES_EXCLUDED = "off-axis-slices-excluded"
    NO_PREAMBLE = "no-preamble"
    LOSSY_COMPRESSED = "lossy-compressed"
    MONOCHROME1_INVERTED = "monochrome1-inverted"
    BURNED_IN_ANNOTATION = "burned-in-annotation"
    PATIENT_POSITION = "patient-position"
    BLANK_SLICE = "blank-slice"
    REAL_WORLD_VALUES_DIFFER = "real-world-values-differ"
    SLICE_UNLIKE_NEIGHBOURS = "slice-unlike-neighbours"  # damage that the decoder did not detect
    SEQUENCE_DIFFERS_FROM_HEADER = "sequence-differs-from-header"
    FAT_NOT_BRIGHT = "fat-not-bright"
    LOW_CONTRAST = "low-contrast"
    NO_FAT_REFERENCE = "no-fat-reference"
    FAT_WATER_SWAPPED = "fat-water-swapped"  # by the subcutaneous fat
    DIXON_ORIGINS_DIFFER = "dixon-origins-differ"  # of NIfTI files on one grid
    MASK_EMPTY = "mask-empty"
    MASK_PARTIAL = "mask-partial"
    MASK_UNLIKE_NETWORK = "mask-unlike-network"  # manual mask and network's labels hardly meet
    COVARIATE_DIFFERS_FROM_HEADER = "covariate-differs-from-header"
    BMI_DIFFERS = "bmi-differs"  # a column bmi of the sheet, from weight / height^2
    IMAGES_SHARED = "images-shared"
    IMAGES_OFFLINE = "images-offline"
    LOW_PREDICTED_IOU = "low-predicted-iou"  # of a muscle and side in a slice
    MUSCLE_AT_BORDER = "muscle-at-border"
    AREA_JUMP = "area-jump"
    SIDES_DIFFER = "sides-differ"
    FAT_OUTLIER = "fat-outlier"
    RATING_OUTDATED = "rating-outdated"  # of labels that have changed since
    NO_MUSCLE_FOUND = "no-muscle-found"  # by the network, in any slice
    SIDES_SWAPPED = "sides-swapped"  # left labels to the right of their partners
    LEVELS_NOT_USED = "levels-not-used"  # points that the sheet names
    SAGITTAL_NOT_USED = "sagittal-not-used"
    LEVEL_UNCERTAIN = "level-uncertain"


class InputError(Exception):
    """An input that cannot be used: file, setting, missing program; a command exits with code 2.

    where: path or name of the input. found_and_expected: what was found and what was expected
    there. The message is "where: found_and_expected". Both are texts in `args`, not attributes.
    """

    def __init__(self, where: Path | str, found_and_expected: str):
        super().__init__(str(where), found_and_expected)  # all arguments, so that it can be pickled

    def __str__(self) -> str:
        return ": ".join(self.args)


class SubjectFault(Exception):
    """A fault in the data of one subject: this subject is quarantined and the others are processed.

    reason: code of the fault. message: what was found and what was expected, for tables and logs;
    it must hold no names, dates, identifiers, free text or paths of the input. passing: whether the
    cause is not in the data and may be gone later, so that the next run tries the subject again. All
    three are attributes.
    """

    def __init__(self, reason: Reason, message: str, passing: bool = False):
        super().__init__(reason, message, passing)
        self.reason, self.message, self.passing = reason, message, passing

    def __str__(self) -> str:
        return self.message


def may_pass(error: OSError) -> bool:
    """Return whether the same file might be read later, as after an error of a network disk (EIO).

    False for LASTING_ERRORS, such as an absent file or a lack of permission.
    """
    return error.errno not in LASTING_ERRORS


def some_of(names: Sequence[str], most: int = 10) -> str:
    """Return the first `most` names joined by ", ", followed by " and N more" if there are more."""
    first = ", ".join(names[:most])
    return f"{first} and {len(names) - most} more" if len(names) > most else first


def unseen_character(text: str) -> str:
    """Return the code point ("U+000B") of the first invisible character in a text; "" if none.

    Invisible: control characters (also line breaks, but not the tab); line and paragraph
    separators, zero-width space, byte order mark, surrogates.
    """
    found = find_unseen(text)
    return f"U+{ord(found[0]):04X}" if found else ""
