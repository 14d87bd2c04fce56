"""Faults of the data. A fault of the program is any other exception, and is never caught."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path


class Reason(StrEnum):
    """Why a subject is quarantined: one code per subject."""

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
    PROCESS_DIED = "process-died"  # twice at work on the subject, the second time alone


class Caution(StrEnum):
    """What a reader of the tables should know of a subject: any number per subject."""

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
    SLICE_UNLIKE_NEIGHBOURS = "slice-unlike-neighbours"  # damage that a decoder let pass
    SEQUENCE_DIFFERS_FROM_HEADER = "sequence-differs-from-header"
    FAT_NOT_BRIGHT = "fat-not-bright"
    LOW_CONTRAST = "low-contrast"
    NO_FAT_REFERENCE = "no-fat-reference"
    MASK_EMPTY = "mask-empty"
    MASK_PARTIAL = "mask-partial"
    COVARIATE_DIFFERS_FROM_HEADER = "covariate-differs-from-header"
    IMAGES_SHARED = "images-shared"
    IMAGES_OFFLINE = "images-offline"
    LOW_PREDICTED_IOU = "low-predicted-iou"  # of a muscle over the slices that show it
    SIDES_SWAPPED = "sides-swapped"  # left labels to the right of their partners


class InputError(Exception):
    """An input that cannot be used; stops the run with this one sentence.

    The message names the file, what was found and what was expected.
    """

    def __init__(self, where: Path | str, found_and_expected: str):
        super().__init__(f"{where}: {found_and_expected}")
        self._told = (str(where), found_and_expected)

    def __reduce__(self):
        """Survive the way back from a worker process."""
        return type(self), self._told


class SubjectFault(Exception):
    """A fault in the data of one subject: a row with a reason; the cohort goes on.

    The message goes into tables and logs: it may name tags, counts, millimetres and positions,
    never names, dates, identifiers, free text or paths of the input.
    """

    def __init__(self, reason: Reason, message: str):
        super().__init__(message)
        self.reason = reason
        self.message = message

    def __reduce__(self):
        """Survive the way back from a worker process."""
        return type(self), (self.reason, self.message)


def some_of(names: Sequence[str], most: int = 10) -> str:
    """Return names as a message tells them, separated by commas: the first few, and how many more."""
    told = ", ".join(names[:most])
    return f"{told} and {len(names) - most} more" if len(names) > most else told
