"""Numbers do not change without a step's version: `tests/frozen/record.py` records both."""

import json

import pytest

from frozen.record import RECORDED, differences, numbers_of_steps
from paravert.steps import VERSIONS

KNOWN = json.loads(RECORDED.read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return numbers_of_steps(tmp_path_factory.mktemp("frozen"))


@pytest.mark.parametrize("step", KNOWN)
def test_a_step_makes_the_numbers_of_its_version(found, step):
    assert VERSIONS[step] == KNOWN[step]["version"], "run tests/frozen/record.py"
    told = differences(step, found[step], KNOWN[step]["numbers"])
    assert not told, f"raise VERSIONS[{step!r}] in steps.py, then run tests/frozen/record.py"


def test_a_changed_number_is_noticed():
    numbers = KNOWN["measure_area"]["numbers"]
    assert differences("measure_area", numbers, numbers) == []
    assert differences("measure_area", numbers | {"csa_mm2": numbers["csa_mm2"] * 1.00001}, numbers)
    assert differences("measure_area", numbers | {"another": 1.0}, numbers)
