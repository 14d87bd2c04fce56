"""What is told of slices that are set aside: how many, and how steep."""

import logging

import pytest

from dicom_writer import write_series
from imaging_cases.planes import TEN, discs, planes
from imaging_checks import convert_several
from paravert.imaging.dicom import read_dicom


@pytest.mark.parametrize(
    ("plans", "told"),
    [
        (discs(64, 20, 8, 3, 0), "3 slices tilted by 64.0 degrees were set aside"),
        (discs(70, 64, 8), "6 slices tilted by 64.0 to 70.0 degrees were set aside"),
        ([TEN, *planes(0, 1, 0)], "1 slice tilted by 90.0 degrees was set aside"),
    ],
    ids=["a steep disc", "two steep discs", "a scout"],
)
def test_table_and_log_say_how_many_slices_were_set_aside_and_how_steep(
    tmp_path, caplog, plans, told
):
    write_series(tmp_path / "S1", plans)
    write_series(tmp_path / "S2", discs(20, 8))
    rows = {name: {"images": name} for name in ("S1", "S2")}
    with caplog.at_level(logging.INFO):
        made = convert_several(tmp_path, rows)
        again = convert_several(tmp_path, rows)
    assert made == again
    assert made["S1"]["message"] == f"{told}, expected at most 60"
    assert made["S2"]["message"] is None
    assert {row["status"] for row in made.values()} == {"analysed"}
    lines = [record.getMessage() for record in caplog.records]
    assert sum(told in line and "off-axis-slices-excluded" in line for line in lines) == 2


def scout(data, number):
    data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def test_slices_of_another_plane_change_neither_plane_nor_spacing_of_a_series(tmp_path):
    write_series(tmp_path / "1", planes(0, 1, 0))  # the first slice of the axial series
    write_series(tmp_path / "2", TEN)
    write_series(tmp_path / "3", planes(0, 3, 0), "sagittal")
    write_series(tmp_path / "4", TEN, "sagittal", edit=scout)
    told = read_dicom(tmp_path).series
    assert [(row["plane"], row["n_slices"]) for row in told] == [("axial", 11), ("sagittal", 13)]
    assert [row["spacing_mm"] for row in told] == pytest.approx([TEN.gap, 6.0])
