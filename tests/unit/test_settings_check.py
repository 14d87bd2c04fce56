from pathlib import Path

import pytest
import yaml

from paravert.configuration import check_configuration
from paravert.errors import InputError

SHIPPED = Path(__file__).parents[2] / "config/config.yaml"


@pytest.fixture
def settings():
    return yaml.safe_load(SHIPPED.read_text())


def test_the_shipped_configuration_has_no_fault(settings):
    check_configuration(settings)


def test_every_fault_is_told_at_once(settings):
    settings["subject"] = "S0001"
    settings["segment_muscles"] |= {"device": "gpu", "fill_holes": 0}
    del settings["model"]["sha256"]
    with pytest.raises(InputError) as caught:
        check_configuration(settings)
    told = str(caught.value).splitlines()
    assert len(told) == 5
    assert "unknown setting subject, did you mean subjects?" in str(caught.value)
    assert "segment_muscles.device is 'gpu', expected (enum ['auto', 'cpu', 'cuda'])" in str(
        caught.value
    )
    assert "segment_muscles.fill_holes is 0, expected (type boolean)" in str(caught.value)
    assert "no setting model.sha256" in str(caught.value)


def test_a_subject_may_be_named_by_a_number(settings):
    check_configuration(settings | {"subjects": 12})
