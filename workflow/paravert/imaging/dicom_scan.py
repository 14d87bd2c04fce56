"""Reading the DICOM headers of all files in a folder: MR images, other images, and other files."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from io import SEEK_END
from pathlib import Path

from pydicom.dataset import FileDataset
from pydicom.tag import Tag

from paravert.errors import Caution, Reason, SubjectFault
from paravert.imaging.frames import (
    FILE_TAGS,
    MR_IMAGES,
    MULTI_FRAME,
    Frame,
    Header,
    frames_of,
    header_of,
)
from paravert.imaging.header_values import sop_class
from paravert.imaging.input_files import (
    READ_ERRORS,
    files_at,
    open_image_file,
    parse_dicom,
    quiet_pydicom,
)
from paravert.imaging.pixel_format import is_deflated, pixel_module

DIRECTORY = "1.2.840.10008.1.3.10"  # Media Storage Directory: DICOMDIR under any name
# SOP classes of images; NO_IMAGE_CLASSES are documents, waveforms, raw data and the like.
IMAGE_CLASSES = "1.2.840.10008.5.1.4.1.1."
NO_IMAGE_CLASSES = tuple(
    IMAGE_CLASSES + branch for branch in ("9.", "11.", "66", "88.", "104.", "4.2", "4.3", "481.")
)
SECONDARY_CAPTURE = IMAGE_CLASSES + "7"  # and below, multi-frame ones

PREAMBLE_BYTES = 128
ELEMENT_BYTES = 8  # of the shortest data element: tag and length
MAGIC = b"DICM"
_TAGS = [Tag(keyword) for keyword in FILE_TAGS]


def is_secondary_capture(header: Header) -> bool:
    """Return whether a file is a secondary capture, such as a screenshot, by SOPClassUID (0008,0016).

    header: attributes of the file.
    """
    return f"{header.sop_class}.".startswith(f"{SECONDARY_CAPTURE}.")


@dataclass(frozen=True, eq=False)
class FolderScan:
    """What a folder of DICOM files contains, read from the headers, without pixels.

    frames: attributes of every slice of every MR image. images: attributes of every image file, of
    any modality. Both in the order of the file paths. cautions: warnings about all files. files:
    number of files of any kind, also those that are not DICOM.
    """

    frames: tuple[Frame, ...]
    images: tuple[Header, ...]
    cautions: frozenset[Caution]
    files: int

    @property
    def series(self) -> dict[str, list[Frame]]:
        """{SeriesInstanceUID (0020,000E), "" if absent: its MR slices}, in the order of the file paths."""
        found: dict[str, list[Frame]] = defaultdict(list)
        for frame in self.frames:
            found[frame.header.series].append(frame)
        return dict(found)


def scan_folder(path: Path) -> FolderScan:
    """Return the headers and frames of all DICOM images in a folder, searched recursively, or in one file.

    Frame: position and contrast of one slice. Only MR images have frames here. No pixels are read.
    Where nothing is at the path, everything is empty. Warnings: non-dicom-ignored (a file that is not
    DICOM, or that lacks the DICOM preamble and cannot be parsed), non-image-ignored (DICOM, but no MR
    image), no-preamble (an image without the DICOM preamble); none for a DICOMDIR. Raises SubjectFault:
    unreadable-header for a damaged DICOM header, an empty image file (`check_empty_files`), and a file
    or folder that cannot be read; frame-count-mismatch where a multi-frame image describes another
    number of frames than it declares, or none.
    """
    files = files_at(path, "images")
    frames: list[Frame] = []
    images: list[Header] = []
    cautions: set[Caution] = set()
    with quiet_pydicom():
        for file in files:
            caution = _add_file(file, frames, images)
            cautions |= {caution} if caution else set()
    check_empty_files(files, images)
    if any(not header.preamble for header in images):
        cautions.add(Caution.NO_PREAMBLE)
    return FolderScan(tuple(frames), tuple(images), frozenset(cautions), len(files))


def check_empty_files(files: Sequence[Path], images: Sequence[Header]) -> None:
    """Raise SubjectFault (unreadable-header) if an image file is empty or its first 132 bytes are 0.

    files: all files in and below a folder. images: attributes of those that were read as images. A
    file that was not read is regarded as an image file if its suffix is .dcm, or if its name equals
    that of an image in the same folder once every run of hexadecimal digits is replaced by 0.
    """
    taken = {header.file for header in images}
    alike = {(file.parent, _name_pattern(file)) for file in taken}
    left = [file for file in files if file not in taken]
    named = [f for f in left if f.suffix.lower() == ".dcm" or (f.parent, _name_pattern(f)) in alike]
    empty = [file for file in named if _begins_with_zeros(file)]
    if empty:
        raise SubjectFault(
            Reason.UNREADABLE_HEADER, f"{len(empty)} image files are empty or begin with zeros"
        )


def _name_pattern(file: Path) -> str:
    return re.sub("[0-9a-fA-F]+", "0", file.name)


def _begins_with_zeros(file: Path) -> bool:
    with open_image_file(file) as stream:
        return not any(stream.read(PREAMBLE_BYTES + len(MAGIC)))


def _add_file(file: Path, frames: list[Frame], images: list[Header]) -> Caution | None:
    """Add the header and frames of a file; return a warning if it is no MR image."""
    read = _read_header(file)
    if read is None:
        return None if file.name.upper() == "DICOMDIR" else Caution.NON_DICOM_IGNORED
    data, preamble, ended = read
    kind = sop_class(data)
    if kind == DIRECTORY:
        return None
    if not kind.startswith(IMAGE_CLASSES) or kind.startswith(NO_IMAGE_CLASSES):
        return Caution.NON_IMAGE_IGNORED
    try:
        pixels = None if ended is None else pixel_module(data, ended)
        header = header_of(file, data, pixels, preamble=preamble)
        found = frames_of(header, data) if kind in MR_IMAGES else []
    except (*READ_ERRORS, OSError) as error:  # OSError: pydicom's, nothing is read from disk here
        raise _unreadable("damaged") from error
    if found and ended is None and found[0].rows is None:
        raise _unreadable("cut off")
    if kind in MULTI_FRAME:
        _check_frame_count(header, found)
    images.append(header)
    frames.extend(found)
    return None if kind in MR_IMAGES else Caution.NON_IMAGE_IGNORED


def _check_frame_count(header: Header, found: list[Frame]) -> None:
    if not found or header.declared_frames != len(found):
        raise SubjectFault(
            Reason.FRAME_COUNT_MISMATCH,
            f"NumberOfFrames (0028,0008) is {header.declared_frames}, but "
            f"{len(found)} frames are described in (5200,9230)",
        )


def _read_header(file: Path) -> tuple[FileDataset, bool, int | None] | None:
    """Return the data set up to the pixels, whether the file has a preamble, and where pixels begin.

    That is a byte offset, or None if nothing follows the data set. None for all if it is not DICOM.
    """
    with open_image_file(file) as stream:
        start = stream.read(PREAMBLE_BYTES + len(MAGIC))
        preamble = start[PREAMBLE_BYTES:] == MAGIC
        if not preamble and not _looks_like_dicom(start):
            return None
        stream.seek(0)
        try:
            data = parse_dicom(stream, stop_before_pixels=True, specific_tags=_TAGS)
        except READ_ERRORS as error:
            if not preamble:
                return None
            raise _unreadable("damaged") from error
        if not sop_class(data):
            if preamble:
                raise _unreadable("without SOPClassUID (0008,0016)")
            return None
        ended = stream.tell()  # of deflated data it is unknown whether pixels follow
        follows = is_deflated(data) or stream.seek(0, SEEK_END) - ended >= ELEMENT_BYTES
        return data, preamble, ended if follows else None


def _looks_like_dicom(start: bytes) -> bool:
    """Return whether bytes may begin a data set without preamble: group 2 or 8, plausible length."""
    if len(start) < 8 or start[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    length = int.from_bytes(start[4:8], "little")
    return explicit or (length % 2 == 0 and length < 1 << 16)


def _unreadable(state: str) -> SubjectFault:
    return SubjectFault(Reason.UNREADABLE_HEADER, f"the header of a DICOM file is {state}")
