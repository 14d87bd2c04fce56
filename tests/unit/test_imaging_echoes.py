"""A stack whose slices come from neighbouring echoes of one echo train is no single contrast."""

import pytest

from dicom_writer import Plan, write_series
from paravert.errors import Reason, SubjectFault
from paravert.imaging.dicom import read_dicom

# T2 mapping with echoes every 10 ms: neighbours differ by the factor 2 at first, by 1.11 at last.
NEIGHBOURS_MS = [(10, 20), (30, 40), (60, 70), (90, 100)]


def by_turns(echoes_ms):
    def edit(data, number):
        data.EchoTime = echoes_ms[number % 2]

    return edit


@pytest.mark.parametrize("echoes_ms", NEIGHBOURS_MS)
def test_slices_of_two_neighbouring_echoes_are_no_stack(tmp_path, echoes_ms):
    write_series(tmp_path, Plan(), edit=by_turns(echoes_ms))
    with pytest.raises(SubjectFault) as fault:
        read_dicom(tmp_path)
    assert fault.value.reason == Reason.AMBIGUOUS_CONTRAST


# One echo, whose time differs a little from slice to slice.
@pytest.mark.parametrize("echoes_ms", [(100, 104), (9.6, 9.8)])
def test_one_echo_whose_time_is_told_with_a_little_difference_is_a_stack(tmp_path, echoes_ms):
    write_series(tmp_path, Plan(), edit=by_turns(echoes_ms))
    (stack,) = read_dicom(tmp_path).stacks
    assert len(stack.volume.array) == Plan().slices
