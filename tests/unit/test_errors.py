import pickle
from pathlib import Path

import pytest

from paravert.errors import InputError, Reason, SubjectFault


@pytest.mark.parametrize(
    "fault",
    [InputError(Path("a.nii"), "2 slices, expected 3"), SubjectFault(Reason.MOSAIC, "a mosaic")],
)
def test_faults_come_back_whole_from_a_worker_process(fault):
    again = pickle.loads(pickle.dumps(fault))
    assert type(again) is type(fault)
    assert str(again) == str(fault)
    assert vars(again) == vars(fault)
