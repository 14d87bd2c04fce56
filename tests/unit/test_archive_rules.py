"""What is said of the headers of an archive is what conversion says of its images."""

import pytest

from imaging_cases import CASES
from paravert.archive.assessment import conversion_fault
from paravert.archive.headers import read_files
from paravert.errors import Reason, SubjectFault
from paravert.imaging.convert import read_images
from paravert.provenance import files_below

# Of pixels and of the extent of a stack; headers do not tell these, or not always.
NOT_IN_HEADERS = {
    Reason.TRUNCATED_PIXELS,
    Reason.UNDECODABLE_PIXELS,
    Reason.UNSUPPORTED_PIXELS,
    Reason.MISSING_PIXELS,
    Reason.BLANK_IMAGES,
    Reason.DUPLICATE_POSITIONS_CONFLICT,
    Reason.FRAME_COUNT_MISMATCH,
    Reason.BAD_GEOMETRY_POSITION,
}
OF_DICOM = [case for case in CASES if case.images == "images" and not (case.truth or case.labels)]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of the writer
@pytest.mark.parametrize("case", OF_DICOM, ids=lambda case: case.name.replace(" ", "-"))
def test_headers_are_refused_for_the_reason_of_conversion(case, tmp_path):
    case.write(tmp_path)
    folder = tmp_path / case.images
    if not folder.is_dir():
        pytest.skip("no folder of images")
    try:
        files = files_below(folder)
    except OSError:
        pytest.skip("a folder that may not be read")
    told, expected = conversion_fault(read_files(files)), conversion_of(folder)
    if told is None:
        assert expected is None or expected.reason in NOT_IN_HEADERS
    else:
        assert expected is not None
        assert told.reason == expected.reason


def conversion_of(folder):
    try:
        read_images(str(folder))
    except SubjectFault as fault:
        return fault
    return None
