"""Vertebral levels: names, points of the sheet, the level of each slice, areas and volumes there."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pydicom
import pytest

from made_from import AXIAL_MODEL, LEVELS_MODEL, MODEL
from paravert.anatomy import LABELS, level_name, level_number
from paravert.errors import InputError, Reason, SubjectFault
from paravert.imaging import sagittal_series
from paravert.imaging.convert import convert_dicom
from paravert.imaging.dicom import read_dicom
from paravert.imaging.level_points import read_level_points
from paravert.imaging.volume import read_volume
from paravert.network.find_levels import find_levels
from paravert.network.segment import segment_muscles
from paravert.network.spine_curve import SpineCurve, curve_through
from paravert.shard_tables import read_lasting_made_from, read_outcomes
from paravert.study.aggregate import cohort_muscles, cohort_slices
from paravert.study.data_frames import with_ordered_categories
from paravert.study.drawing.level_curves import draw_level_curves, level_means
from paravert.study.inference import (
    BY_LEVEL_OUTCOMES,
    LEVEL_OUTCOMES,
    OUTCOMES,
    SEX_AND_AGE,
    fit_model,
)
from paravert.study.level_areas import (
    areas_at_levels,
    at_standard_level,
    range_volumes,
    without_missing_levels,
)
from paravert.synthesis.body import body_of
from paravert.synthesis.phantom_files import affine_of, write_disc_points
from paravert.synthesis.phantoms import make_phantoms
from paravert.synthesis.protocol import protocol_of
from paravert.synthesis.spine import DRAWN_HEIGHT_CM, Spine
from paravert.synthesis.volunteers import volunteers
from paravert.tables import FAT_METHODS

REPOSITORY = Path(__file__).parents[2]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
DISCS = (0.5, 1.5, 2.5, 3.5, 4.5, 5.5)


# --- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (0, "T12"),
        (0.5, "T12/L1"),
        (1, "L1"),
        (1.5, "L1/2"),
        (4.6, "L4/5"),
        (5.5, "L5/S1"),
        (6, "S1"),
    ],
)
def test_a_level_has_the_name_of_the_nearest_vertebra_or_disc(level, name):
    assert level_name(level) == name
    assert abs(level_number(name) - level) <= 0.25


@pytest.mark.parametrize(
    ("name", "level"),
    [("l5-s1", 5.5), ("L4/L5", 4.5), ("L4 / 5", 4.5), ("Th12", 0), ("D12-L1", 0.5), ("S1/2", 6.5)],
)
def test_names_are_read_as_people_write_them(name, level):
    assert level_number(name) == level


@pytest.mark.parametrize(
    ("n_lumbar", "names"),
    [
        (4, {4: "L4", 4.5: "L4/S1", 5: "S1", 5.5: "S1/2"}),
        (6, {5.5: "L5/6", 6: "L6", 6.5: "L6/S1", 7: "S1"}),
    ],
)
def test_names_count_four_or_six_lumbar_vertebrae(n_lumbar, names):
    for level, name in names.items():
        assert level_name(level, n_lumbar) == name
        assert level_number(name, n_lumbar) == level
    assert level_number("L6", 6) == 6
    assert level_number("L5", 4) is None


@pytest.mark.parametrize("name", ["conus", "L6", "L3/L5", "L5/L1", "L", "4", "L45", "T13", ""])
def test_other_names_are_no_level(name):
    assert level_number(name) is None


# --- points of the sheet ---------------------------------------------------------------------------

PLACES = {"L3/4": (1.0, 20.5, -30.0), "L4/5": (2.0, 25.0, -66.0), "conus": (0.0, 0.0, 50.0)}


def written(folder, kind, places=PLACES, system="LPS"):
    sign = -1 if system == "RAS" else 1
    rows = [(name, sign * x, sign * y, z) for name, (x, y, z) in places.items()]
    if kind == "csv":
        lines = ["name,x_mm,y_mm,z_mm", *(f"{n},{x},{y},{z}" for n, x, y, z in rows)]
        text = "\n".join(lines)
    elif kind == "semicolons":
        lines = [
            "name;x_mm;y_mm;z_mm",
            *(f"{n};{x};{y};{z}".replace(".", ",") for n, x, y, z in rows),
        ]
        text, kind = "\n".join(lines), "csv"
    elif kind == "fcsv":
        head = f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n"
        head += "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
        text = head + "\n".join(f"1,{x},{y},{z},0,0,0,1,1,1,0,{n},,," for n, x, y, z in rows)
    else:
        points = [
            {"label": n, "position": [x, y, z], "positionStatus": "defined"} for n, x, y, z in rows
        ]
        points.append({"label": "L1", "position": [0, 0, 0], "positionStatus": "undefined"})
        text = json.dumps({"markups": [{"coordinateSystem": system, "controlPoints": points}]})
    path = folder / f"points.{kind}"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("kind", "system"),
    [
        ("csv", "LPS"),
        ("semicolons", "LPS"),
        ("fcsv", "LPS"),
        ("fcsv", "RAS"),
        ("mrk.json", "LPS"),
        ("mrk.json", "RAS"),
    ],
)
def test_every_format_gives_the_same_points(tmp_path, kind, system):
    points = read_level_points(written(tmp_path, kind, system=system))
    assert list(points) == [3.5, 4.5]
    assert np.allclose(points[3.5], PLACES["L3/4"])
    assert np.allclose(points[4.5], PLACES["L4/5"])


def test_numbers_for_the_coordinate_system_are_those_of_old_slicer(tmp_path):
    old = written(tmp_path, "fcsv", system="0")
    assert np.allclose(read_level_points(old)[3.5], (-1.0, -20.5, -30.0))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name,x_mm,y_mm,z_mm\nconus,0,0,0", "no point is named"),
        ("name,x_mm,y_mm,z_mm\nL4,0,0,0\nl4,0,0,9", "is there twice"),
        ("name,x_mm,y_mm,z_mm\nL4,0,0,0\nL5,0,0,30", "do not lie nearer to the feet"),
        ("name,x_mm,y_mm,z_mm\nL4,0,zero,0", "no number"),
        ("name,x_mm,y_mm,z_mm\nL4,0,inf,0", "no number"),
        ("name,x,y,z\nL4,0,0,0", "no column x_mm"),
        ("", "an empty file"),
    ],
)
def test_a_faulty_file_is_told(tmp_path, text, fault):
    file = tmp_path / "points.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=fault):
        read_level_points(file)


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", '{"markups": 3}', '{"markups": [{"controlPoints": [{}]}]}'),
        "[" * 200_000,
        '{"markups": [{"controlPoints": [{"label": "L3", "position": [' + "1" * 5000 + "]}]}]}",
    ],
    ids=range(6),
)
def test_json_that_is_no_markup_is_told(tmp_path, text):
    file = tmp_path / "points.mrk.json"
    file.write_text(text)
    with pytest.raises(InputError):
        read_level_points(file)


def test_a_line_of_slicer_that_csv_refuses_is_told(tmp_path):
    file = tmp_path / "points.fcsv"
    file.write_text("# columns = id,x,y,z,label\n" + "a" * 200_000)
    with pytest.raises(InputError, match="cannot be divided into cells"):
        read_level_points(file)


def test_coordinates_whose_difference_overflows_are_told(tmp_path):
    file = tmp_path / "points.csv"
    file.write_text("name,x_mm,y_mm,z_mm\nL3,1,2,1e308\nL4,1,1,-1e308\n")
    with pytest.raises(InputError, match="more than 3000 mm from the origin"):
        read_level_points(file)


# --- the curve -------------------------------------------------------------------------------------


def phantom(index):
    """Return axis, affines to LPS (slices, 4, 4) and shape of the axial series of a phantom."""
    person = volunteers(11, 4)[index]
    protocol = protocol_of(person, index)
    first = LPS_TO_RAS @ affine_of(protocol)
    steps = np.arange(protocol.slices)[:, None] * first[:3, 2]
    affines = np.repeat(first[None], protocol.slices, axis=0)
    affines[:, :3, 3] += steps
    return body_of(person).spine, protocol, affines


def axis_in_scanner(spine, protocol, levels):
    """Return points of a phantom's spine in scanner coordinates, (levels, 3)."""
    levels = np.asarray(levels, float)
    points = np.column_stack((spine.middle(levels), spine.height_mm(levels)))
    turn = np.deg2rad(protocol.rotation_deg)
    c, s = np.cos(turn), np.sin(turn)
    return points @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T + protocol.offset_mm


@pytest.mark.parametrize("index", range(4))
def test_the_points_of_a_phantom_are_the_middles_of_its_discs(index, tmp_path):
    spine, protocol, _ = phantom(index)
    write_disc_points(tmp_path / "levels.csv", spine, protocol)
    points = read_level_points(tmp_path / "levels.csv")
    assert list(points) == list(DISCS)
    found = np.stack(list(points.values()))
    assert found == pytest.approx(axis_in_scanner(spine, protocol, DISCS), abs=0.006)


def exact_levels(spine, protocol, affines):
    """Return the level at which each slice cuts the spine's axis, by bisection on a fine grid."""
    levels = np.linspace(-1, 8, 90001)
    points = axis_in_scanner(spine, protocol, levels)
    normal = np.cross(affines[0, :3, 0], affines[0, :3, 1])
    heights = (points[None] - affines[:, None, :3, 3]) @ normal
    return levels[np.abs(heights).argmin(axis=1)]


@pytest.mark.parametrize("index", range(4))
def test_points_at_the_discs_give_every_slice_its_level(index):
    spine, protocol, affines = phantom(index)
    exact = exact_levels(spine, protocol, affines)
    curve = SpineCurve(np.array(DISCS), axis_in_scanner(spine, protocol, DISCS))
    levels, sd = curve.slice_levels(affines, protocol.grid.shape)
    assert np.abs(levels - exact).max() < 0.02
    assert sd.max() < 0.15


@pytest.mark.parametrize("index", range(4))
def test_one_point_names_slices_nearby_and_says_how_unsure_it_is_far_away(index):
    spine, protocol, affines = phantom(index)
    exact = exact_levels(spine, protocol, affines)
    curve = curve_through({5.5: axis_in_scanner(spine, protocol, [5.5])[0]})
    levels, sd = curve.slice_levels(affines, protocol.grid.shape)
    known = ~np.isnan(levels)
    error = np.abs(levels - exact)[known]
    assert (error < 3 * sd[known]).all()
    near = exact[known] > 4.9
    assert error[near].max() < 0.2


@pytest.mark.parametrize(
    ("level", "known"), [(-1.002, False), (-0.998, True), (7.998, True), (8.002, False)]
)
def test_no_level_lies_beyond_those_that_the_tables_allow(level, known):
    curve = SpineCurve(np.array([0.0, 5.5]), np.array([[0, 0, 0], [0, 0, -190.0]]))
    affine = np.eye(4)
    affine[:3, 3] = curve.at(np.array([level]))[0] - (32, 32, 0)
    (found,), _ = curve.slice_levels(affine[None], (64, 64))
    assert found == pytest.approx(level, abs=1e-6) if known else np.isnan(found)


def test_a_slice_that_the_column_does_not_cross_has_no_level():
    spine, protocol, affines = phantom(0)
    places = axis_in_scanner(spine, protocol, DISCS)
    levels, sd = SpineCurve(np.array(DISCS), places + (400, 0, 0)).slice_levels(
        affines, protocol.grid.shape
    )
    assert np.isnan(levels).all()
    assert np.isnan(sd).all()


# --- the step --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Two phantoms with their labels, the first with points at its discs."""
    folder = tmp_path_factory.mktemp("levels")
    make_phantoms(folder / "phantoms", 11, 4, ["T0001", "T0002"])
    spine, protocol, _ = phantom(0)
    places = axis_in_scanner(spine, protocol, DISCS)
    named = {level_name(level): tuple(place) for level, place in zip(DISCS, places, strict=True)}
    points = written(folder, "csv", named)
    sheet = folder / "sheet.csv"
    lines = ["subject,images,labels,levels"]
    home = "phantoms/T000"
    lines += [f"A,{home}1/dicom,{home}1/truth.nii.gz,{points.name}"]
    lines += [f"B,{home}2/dicom,{home}2/truth.nii.gz,"]
    sheet.write_text("\n".join(lines))
    labelled(sheet, ["A", "B"], folder / "subjects", folder / "shards")
    return folder


def labelled(sheet, subjects, folder, shard):
    """Convert subjects whose labels the sheet names, and return the table of segment_muscles."""
    convert, segment = shard / "convert.parquet", shard / "segment.parquet"
    convert_dicom(sheet, subjects, folder, convert)
    segment_muscles(convert, folder, segment, *MODEL, "cpu")
    return segment


def found(folder, *model):
    find_levels(
        folder / "shards/segment.parquet",
        folder / "sheet.csv",
        folder / "subjects",
        folder / "shards/levels.parquet",
        *model,
    )
    table = pq.read_table(folder / "shards/levels.parquet").to_pandas()
    return {subject: rows for subject, rows in table.groupby("subject")}


def test_slices_get_the_level_of_the_points_that_the_sheet_names(converted):
    rows = found(converted)
    exact = exact_levels(*phantom(0))
    assert np.abs(rows["A"].level_position - exact).max() < 0.02
    assert list(rows["A"].level) == [level_name(level) for level in exact]
    assert set(rows["A"].level_source) == {"sheet"}
    assert rows["B"].level_position.isna().all()
    assert set(rows["B"].level_source) == {"none"}


def test_a_corrected_file_of_points_makes_the_levels_of_its_subject_anew(converted, caplog):
    found(converted)
    file = converted / "points.csv"
    text = file.read_text()
    with caplog.at_level("INFO"):
        found(converted)
        assert "0 computed, 2 held" in caplog.text
        file.write_text("\n".join(text.splitlines()[:4]))
        found(converted)
        assert "1 computed, 1 held" in caplog.text
    file.write_text(text)


def test_levels_of_points_stay_while_points_and_images_are_away_and_not_without_points_alone(
    converted,
):
    points, images = converted / "points.csv", converted / "phantoms"
    found(converted)
    points.rename(converted / "away.csv")
    images.rename(converted / "away")  # offline: what is finished stays
    assert found(converted)["A"].level_position.notna().all()
    assert not outcomes(converted)["A"].warnings
    (converted / "away").rename(images)
    assert found(converted)["A"].level_position.isna().all()
    told = outcomes(converted)["A"]
    assert told.warnings == ("levels-not-used",)
    assert told.message == "levels: no such file, expected points at vertebrae or discs"
    (converted / "away.csv").rename(points)
    assert found(converted)["A"].level_position.notna().all()


def test_a_misspelt_file_of_points_in_a_finished_study_is_told(converted):
    sheet = converted / "sheet.csv"
    text = sheet.read_text()
    found(converted)
    lines = text.splitlines()
    sheet.write_text("\n".join([*lines[:2], f"{lines[2]}pionts.csv"]))
    found(converted)
    assert outcomes(converted)["B"].warnings == ("levels-not-used",)
    sheet.write_text(text)


def test_points_that_cannot_be_used_are_a_warning(converted):
    file = converted / "points.csv"
    text = file.read_text()
    file.write_text(text.replace("L3/4", "knee").replace("L", "K"))
    rows = found(converted)
    (told,) = (o for o in read_outcomes(converted / "shards/levels.parquet") if o.subject == "A")
    assert told.warnings == ("levels-not-used",)
    assert "no point is named" in told.message
    assert str(converted) not in told.message
    assert rows["A"].level_position.isna().all()
    file.write_text(text)


def test_points_that_a_disk_does_not_give_are_read_by_the_next_run(converted, monkeypatch):
    table, points = converted / "shards/levels.parquet", converted / "points.csv"
    text = points.read_text()
    points.write_text(f"{text}\n")  # another state: nothing is held
    with monkeypatch.context() as patch:
        refuse(patch, points, errno.EIO)
        assert "A" not in found(converted)
    told = outcomes(converted)["A"]
    assert (told.reason, told.message) == (
        "unreadable-header",
        "levels: the file may not be read (EIO)",
    )
    assert read_lasting_made_from(table) is None, "the next run makes the table again"
    assert found(converted)["A"].level_position.notna().all()
    assert read_lasting_made_from(table)
    points.write_text(text)


def refuse(patch, file, code):
    """Let reading a file fail with an error of the system."""
    opened = Path.open

    def fails(path, *given, **options):
        if path == file:
            raise OSError(code, os.strerror(code))
        return opened(path, *given, **options)

    patch.setattr(Path, "open", fails)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["levels.csv", "levels.xlsx", "levels.fcsv", "levels.mrk.json"])
def test_errors_of_a_disk_may_pass_and_others_are_of_the_file(tmp_path, monkeypatch, name, code):
    refuse(monkeypatch, tmp_path / name, code)
    with pytest.raises((InputError, SubjectFault)) as caught:
        read_level_points(tmp_path / name)
    assert isinstance(caught.value, SubjectFault) == (code != errno.EACCES)
    assert getattr(caught.value, "passing", False) == (code != errno.EACCES)


@pytest.mark.parametrize(("n_lumbar", "last"), [("4", 4.5), ("6", 6.5)])
def test_points_count_the_lumbar_vertebrae_that_the_sheet_tells(converted, n_lumbar, last):
    sheet, points = converted / "sheet.csv", converted / "points.csv"
    texts = sheet.read_text(), points.read_text()
    before = found(converted)["A"]
    lines = texts[0].splitlines()
    sheet.write_text("\n".join([f"{lines[0]},N_Lumbar", f"{lines[1]},{n_lumbar}", f"{lines[2]},"]))
    names = [level_name(level - 5.5 + last, int(n_lumbar)) for level in DISCS]
    cells = [line.partition(",")[2] for line in texts[1].splitlines()[1:]]
    rows = [f"{name},{cell}" for name, cell in zip(names, cells, strict=True)]
    points.write_text("\n".join(["name,x_mm,y_mm,z_mm", *rows]))
    after = found(converted)["A"]
    shift = after.level_position - before.level_position
    assert np.allclose(shift.dropna(), last - 5.5, atol=0.02)
    assert list(after.level) == [level_name(x, int(n_lumbar)) for x in after.level_position]
    sheet.write_text(texts[0])
    points.write_text(texts[1])


def test_another_number_of_lumbar_vertebrae_makes_the_levels_of_its_subject_anew(converted, caplog):
    sheet = converted / "sheet.csv"
    text = sheet.read_text()
    lines = text.splitlines()
    found(converted)
    for count, told in (("5", "0 computed, 2 held"), ("6", "1 computed, 1 held")):
        sheet.write_text("\n".join([f"{lines[0]},n_lumbar", f"{lines[1]},{count}", f"{lines[2]},"]))
        with caplog.at_level("INFO"):
            caplog.clear()
            found(converted)
        assert told in caplog.text
    sheet.write_text(text)


def outcomes(folder):
    return {o.subject: o for o in read_outcomes(folder / "shards/levels.parquet")}


def test_the_shipped_model_names_the_slices_of_a_phantom_from_its_sagittal_series(converted):
    rows = found(converted, *LEVELS_MODEL)
    exact = exact_levels(*phantom(1))
    assert np.abs(rows["B"].level_position - exact).max() < 0.25
    assert set(rows["B"].level_source) == {"sagittal"}
    assert outcomes(converted)["B"].warnings == ()
    both = rows["A"]
    assert set(both.level_source) == {"sheet"}
    assert np.abs(both.level_sheet - both.level_sagittal).max() < 0.25
    assert outcomes(converted)["A"].warnings == ()


def test_sources_more_than_half_a_level_apart_are_a_warning_and_both_kept(converted):
    file = converted / "points.csv"
    text = file.read_text()
    names = [level_name(level) for level in DISCS]
    for before, after in zip(names, [level_name(level - 1) for level in DISCS], strict=True):
        text = text.replace(f"{before},", f"{after},")
    original = file.read_text()
    file.write_text(text)
    rows = found(converted, *LEVELS_MODEL)["A"]
    told = outcomes(converted)["A"]
    assert told.warnings == ("level-uncertain",)
    assert "levels by sheet and sagittal differ by up to 1" in told.message
    assert np.allclose(rows.level_sagittal - rows.level_sheet, 1, atol=0.25)
    assert np.array_equal(rows.level_position, rows.level_sheet)
    file.write_text(original)


def test_levels_are_found_without_torch_whose_import_takes_longer(converted):
    segment, out = (converted / f"shards/{name}.parquet" for name in ("segment", "no_torch"))
    given = [segment, converted / "sheet.csv", converted / "subjects", out]
    given += [*LEVELS_MODEL, *AXIAL_MODEL]
    code = "import sys; from pathlib import Path; from paravert.network.find_levels import find_levels; "
    code += "segment, sheet, subjects, out, model, sha256, axial, other = sys.argv[1:]; "
    code += "tables = map(Path, (segment, sheet, subjects, out, model)); "
    code += "find_levels(*tables, sha256, Path(axial), other, workers=0); "
    code += "assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")}
    subprocess.run([sys.executable, "-c", code, *map(str, given)], env=environment, check=True)
    found = pq.read_table(out).to_pandas()
    assert set(found.level_source) == {"sheet", "sagittal"}
    assert (found.level_sagittal - found.level_axial).abs().max() < 0.5


# --- areas and volumes at levels --------------------------------------------------------------------

PITCH_MM = 36.0


def slices_at(levels, stack=1, subject="S1", **changed):
    """Return slices of one stack: area 1000 mm2 at level 0, 100 mm2 more per level, fat 10 % per level."""
    rows = []
    for number, level in enumerate(sorted(levels, reverse=True)):
        for label in LABELS:
            row = {"subject": subject, "stack": stack, "slice": number}
            row |= {"muscle": label.muscle, "side": label.side, "level_position": level}
            row |= {"position_mm": -level * PITCH_MM, "slab_mm": 4.0, "overlaps": False}
            row["tilt_deg"] = 10.0
            row |= {"csa_mm2": 1000 + 100 * level, "pixels": 100, "fat_fraction": 0.1 * level}
            row |= {"csa_reason": None, "fat_fraction_reason": None}
            rows.append(row | changed)
    return pd.DataFrame(rows)


def at(table, level, muscle="psoas_major", side="left"):
    own = (table.level_position == level) & (table.muscle == muscle) & (table.side == side)
    (row,) = table[own].to_dict("records")
    return row


def test_values_are_interpolated_between_the_slices_beside_a_level():
    table = areas_at_levels(slices_at(np.arange(0.6, 5.6, 0.2)))
    for level in (1.0, 3.5, 5.0):
        row = at(table, level)
        assert row["csa_mm2"] == pytest.approx(1000 + 100 * level)
        assert row["fat_fraction"] == pytest.approx(0.1 * level, rel=1e-3)
        assert row["lean_csa_mm2"] == pytest.approx(row["csa_mm2"] * (1 - row["fat_fraction"]))
        assert pd.isna(row["level_reason"])
    assert len(table) == 80
    assert at(table, 4.5)["level"] == "L4/5"


def test_a_level_beyond_or_between_slices_far_apart_is_not_covered():
    table = areas_at_levels(slices_at([3.0, 4.0, 4.1]))  # 36 mm apart
    for level, reason in ((1.0, "not-covered"), (3.5, "not-covered"), (5.0, "not-covered")):
        assert np.isnan(at(table, level)["csa_mm2"])
        assert at(table, level)["level_reason"] == reason
        assert at(table, level)["slices"] == 0
    assert at(table, 3.0)["csa_mm2"] == pytest.approx(1300)
    assert at(table, 4.0)["csa_mm2"] == pytest.approx(1400)


def test_stacks_at_discs_give_the_discs_and_no_vertebrae_between():
    stacks = [
        slices_at([disc - 0.1, disc, disc + 0.1], number)
        for number, disc in enumerate((5.5, 4.5, 3.5), start=1)
    ]
    table = areas_at_levels(pd.concat(stacks))
    for disc in (3.5, 4.5, 5.5):
        assert at(table, disc)["csa_mm2"] == pytest.approx(1000 + 100 * disc)
    # The stacks' ends lie 29 mm apart, and 14.4 mm from the vertebra between them.
    assert at(table, 5.0)["csa_mm2"] == pytest.approx(1500)
    assert at(table, 2.0)["level_reason"] == "not-covered"


def test_a_muscle_that_failed_the_review_says_so():
    rows = slices_at(np.arange(0.0, 6.0, 0.2))
    psoas = (rows.muscle == "psoas_major") & (rows.side == "left")
    rows.loc[psoas, ["csa_mm2", "fat_fraction", "pixels"]] = np.nan
    rows.loc[psoas, ["csa_reason", "fat_fraction_reason"]] = "review-failed"
    assert at(areas_at_levels(rows), 3.0)["level_reason"] == "review-failed"
    index = pd.MultiIndex.from_tuples(
        [("S1", "psoas_major", "left")], names=["subject", "muscle", "side"]
    )
    (volume,) = range_volumes(rows, index).to_dict("records")
    assert np.isnan(volume["volume_l1_l5_ml"])
    assert volume["volume_l1_l5_reason"] == "review-failed"


def test_unknown_absent_and_not_labelled_muscles_say_so():
    rows = slices_at(np.arange(0.6, 5.6, 0.2))
    psoas, quadratus, erector = (
        (rows.muscle == name) & (rows.side == "left")
        for name in ("psoas_major", "quadratus_lumborum", "erector_spinae")
    )
    rows.loc[psoas, ["csa_mm2", "pixels", "fat_fraction"]] = [0.0, 0, np.nan]
    rows.loc[psoas, "fat_fraction_reason"] = "absent"
    rows.loc[quadratus, ["csa_mm2", "fat_fraction"]] = np.nan
    rows.loc[quadratus, ["csa_reason", "fat_fraction_reason"]] = "not-labelled"
    rows.loc[erector, "fat_fraction"] = np.nan
    rows.loc[erector, "fat_fraction_reason"] = "fat-not-bright"
    table = areas_at_levels(rows)
    assert at(table, 3.0)["csa_mm2"] == 0
    assert at(table, 3.0)["lean_csa_mm2"] == 0
    assert at(table, 3.0)["level_reason"] == "absent"
    assert np.isnan(at(table, 3.0, "quadratus_lumborum")["csa_mm2"])
    assert at(table, 3.0, "quadratus_lumborum")["level_reason"] == "not-labelled"
    assert at(table, 3.0, "erector_spinae")["csa_mm2"] == pytest.approx(1300)
    assert np.isnan(at(table, 3.0, "erector_spinae")["lean_csa_mm2"])
    assert at(table, 3.0, "erector_spinae")["level_reason"] == "fat-not-bright"
    assert pd.isna(at(table, 3.0, "multifidus")["level_reason"])


def test_no_number_depends_on_other_subjects():
    one = slices_at(np.arange(0.6, 5.6, 0.2))
    other = slices_at(np.arange(2.0, 4.0, 0.1), subject="S0", level_position=np.nan)
    both = areas_at_levels(pd.concat([other, one]))
    assert set(both[both.subject == "S0"].level_reason) == {"no-levels"}
    alone = areas_at_levels(one)
    pd.testing.assert_frame_equal(both[both.subject == "S1"].reset_index(drop=True), alone)


def volumes(rows):
    index = pd.MultiIndex.from_frame(rows[["subject", "muscle", "side"]].drop_duplicates())
    return range_volumes(rows, index).iloc[0]


@pytest.mark.parametrize(
    "stacks",
    [
        [slices_at([level], n, tilt_deg=0.0) for n, level in enumerate(np.arange(0.5, 6.1, 0.5))],
        [slices_at(np.arange(0.5 + shift, 5.6, 0.25), 1 + n) for n, shift in enumerate((0, 0.125))],
    ],
    ids=["single transverse slices", "stacks within one another"],
)
def test_the_length_of_a_volume_is_that_of_the_persons_own_vertebrae(stacks):
    rows = pd.concat(stacks).assign(csa_mm2=1000.0)
    rows["position_mm"] *= 30 / PITCH_MM
    assert volumes(rows)["volume_l1_l5_ml"] == pytest.approx(30 * (5.37 - 0.63), rel=1e-3)


def test_the_volume_between_levels_is_the_integral_of_the_area():
    row = volumes(slices_at(np.arange(0.5, 5.6, 0.125)))
    for name, first, last in (("l1_l5", 0.63, 5.37), ("l3_l5", 2.63, 5.37)):
        exact = PITCH_MM * (1000 * (last - first) + 50 * (last**2 - first**2)) / 1000
        assert row[f"volume_{name}_ml"] == pytest.approx(exact, rel=1e-3)
        assert pd.isna(row[f"volume_{name}_reason"])
    assert row.level_from == pytest.approx(0.5)
    assert row.level_to == pytest.approx(5.5)


def test_a_range_that_is_not_covered_completely_has_no_volume():
    row = volumes(slices_at(np.arange(2.5, 5.6, 0.125)))
    assert np.isnan(row.volume_l1_l5_ml)
    assert row.volume_l1_l5_reason == "not-covered"
    assert row.volume_l3_l5_ml > 0
    gap = [level for level in np.arange(0.5, 5.6, 0.1) if not 3.2 < level < 4.2]
    assert volumes(slices_at(gap)).volume_l3_l5_reason == "not-covered"
    unknown = volumes(slices_at([1.0, 2.0], level_position=np.nan))
    assert unknown.volume_l3_l5_reason == "no-levels"


@pytest.mark.parametrize(
    ("n_lumbar", "missing"), [(4, [4.5, 5.0, 5.5]), (5, []), (6, [5.5]), (np.nan, [])]
)
def test_a_level_that_somebody_does_not_have_has_no_values(n_lumbar, missing):
    rows = [slices_at(np.arange(0.0, 7.0, 0.2), subject=name) for name in ("S1", "S2")]
    rows = pd.concat(rows)
    index = pd.MultiIndex.from_frame(rows[["subject", "muscle", "side"]].drop_duplicates())
    levels, muscles = areas_at_levels(rows), range_volumes(rows, index).reset_index()
    counts = pd.Series({"S1": n_lumbar, "S2": np.nan})
    levels, muscles = without_missing_levels(levels, muscles, counts)
    null = levels[levels.csa_mm2.isna()]
    assert sorted(set(null.level_position)) == missing
    assert set(null.subject) <= {"S1"}
    assert set(null.level_reason) <= {"no-such-level"}
    without_volume = muscles[muscles.volume_l1_l5_ml.isna()]
    assert set(without_volume.subject) == ({"S1"} if n_lumbar == 4 else set())
    assert set(without_volume.volume_l3_l5_reason) <= {"no-such-level"}


# --- the sagittal series ----------------------------------------------------------------------------


def test_the_sagittal_series_lies_where_the_phantom_lies(converted):
    volume = read_volume(converted / "subjects/A/sagittal.nii.gz")
    axes = (LPS_TO_RAS @ volume.affine)[:3, :3] / (
        volume.column_spacing_mm, volume.row_spacing_mm, volume.slice_spacing_mm,
    )  # fmt: skip
    assert np.allclose(axes, np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]]), atol=1e-6)
    spine, protocol, _ = phantom(0)
    bright, dark = (axis_in_scanner(spine, protocol, levels) for levels in ((3, 4), (3.5, 4.5)))
    behind = np.array([0, 24.0 * spine.scale, 0])  # the fluid of the canal behind L3 and L4
    to_index = np.linalg.inv(LPS_TO_RAS @ volume.affine)

    def signal(points):
        places = (np.column_stack((points, np.ones(len(points)))) @ to_index.T)[:, 2::-1]
        return volume.array[tuple(np.rint(places).astype(int).T)].astype(float)

    assert signal(bright + behind).min() > 1.5 * signal(bright).max()


def rewritten(folder, change):
    """Copy a phantom, with a change of the headers of its sagittal series; return what is read."""
    shutil.rmtree(folder / "changed", ignore_errors=True)
    shutil.copytree(folder / "phantoms/T0001/dicom", folder / "changed")
    for file in (folder / "changed/SAG_T2").iterdir():
        header = pydicom.dcmread(file)
        change(header)
        header.save_as(file)
    return read_dicom(folder / "changed")


def test_a_sagittal_series_in_another_frame_of_reference_is_not_used_and_that_is_said(converted):
    images = rewritten(converted, lambda header: setattr(header, "FrameOfReferenceUID", "1.2.3"))
    assert images.sagittal is None
    assert "sagittal-not-used" in images.cautions
    assert "frame of reference" in images.note


def test_without_a_frame_of_reference_no_sagittal_series_is_used(converted):
    images = rewritten(converted, lambda header: setattr(header, "FrameOfReferenceUID", ""))
    assert images.sagittal is None


def test_a_sagittal_series_that_cannot_be_decoded_does_not_quarantine_the_subject(converted):
    images = rewritten(converted, lambda header: setattr(header, "PixelData", b"\0\0"))
    assert images.sagittal is None
    assert "sagittal-not-used" in images.cautions
    assert images.stacks


def test_a_sagittal_series_that_a_disk_does_not_give_is_read_by_the_next_run(
    converted, monkeypatch
):
    refused = SubjectFault(Reason.UNREADABLE_HEADER, "images: a file may not be read (EIO)", True)

    def fails(frames):
        raise refused

    monkeypatch.setattr(sagittal_series, "read_pixels", fails)
    with pytest.raises(SubjectFault, match="EIO"):
        rewritten(converted, lambda header: None)


# --- scans of different ranges ------------------------------------------------------------------------


def tables_of(people, lowest_share):
    """Return the tables of muscles, and of areas at each level, of phantom volunteers.

    Both come from the true areas, have the covariates, and have rows only where a muscle is.
    """
    rows = slices_of(people, lowest_share)
    levels = areas_at_levels(rows)
    muscles = at_standard_level(cohort_muscles(rows), levels, 3.5)
    levels = levels[levels.csa_mm2 > 0].rename(columns={"csa_mm2": "csa_by_level_mm2"})
    return with_people(muscles, people), with_people(levels, people)


def with_people(rows, people):
    facts = [(p.subject, p.sex, float(p.age_years)) for p in people]
    people_table = pd.DataFrame(facts, columns=["subject", "sex", "age_years"])
    return with_ordered_categories(rows.merge(people_table, on="subject"))


def slices_of(people, lowest_share):
    """Return the table of slices. lowest_share: of each person's, from L5 upwards, that were scanned."""
    area, fat, levels = [], [], []
    for person in people:
        pitch = Spine(person.height_cm / DRAWN_HEIGHT_CM, bend_mm=0, sway_mm=0).pitch_mm
        everything = np.arange(5.37, 0.6, -7.0 / pitch)
        shown = everything[: round(lowest_share[person.subject] * len(everything))]
        for number, level in enumerate(shown):
            keys = {"subject": person.subject, "stack": 1, "slice": number}
            levels.append(keys | {"level_position": level, "level_source": "sheet"})
            for label in LABELS:
                own = keys | {"muscle": label.muscle, "side": label.side}
                csa = float(person.area_at(label.value, level))
                row = {"position_mm": -level * pitch, "tilt_deg": 0.0, "slab_mm": 7.0}
                row |= {"overlaps": False, "pixels": 100, "csa_mm2": csa, "csa_axial_mm2": csa}
                area.append(own | row | {"csa_reason": None})
                share = person.fat_fraction_at(label.value, level)
                values = {
                    f"{kind}_{m}": share for m in FAT_METHODS for kind in ("fat_fraction", "eroded")
                }
                dixon = {
                    "fat_fraction_dixon": None,
                    "eroded_dixon": None,
                    "reason_dixon": "no-dixon",
                }
                fat.append(own | values | {f"reason_{m}": None for m in FAT_METHODS} | dixon)
    return cohort_slices(*map(pd.DataFrame, (area, fat, levels)), "linear")


def sex_difference(muscles, outcome):
    """Return men minus women, psoas major, in the study's model."""
    rows = pd.DataFrame(fit_model(SEX_AND_AGE, outcome, muscles).contrasts())
    own = rows.family.str.startswith("sex, area") & (rows.muscle == "psoas_major")
    return float(rows[own].estimate.iloc[0])


def test_short_scans_of_women_change_the_mean_over_slices_and_not_the_area_at_a_level():
    people = volunteers(2021, 22)  # the built-in cohort
    whole = {person.subject: 1.0 for person in people}
    women = [person.subject for person in people if person.sex == "F"]
    short = whole | dict.fromkeys(women[::2], 0.45)  # half of the women: L5 to just above L3/4
    tables, levels = zip(*(tables_of(people, share) for share in (whole, short)), strict=True)
    change = {}
    for outcome, pair in (
        (OUTCOMES[0], tables),
        (LEVEL_OUTCOMES[0], tables),
        (BY_LEVEL_OUTCOMES[0], levels),
    ):
        before, after = (sex_difference(table, outcome) for table in pair)
        change[outcome.column] = abs(after - before) / abs(before)
    assert change["csa_mean_mm2"] > 0.3
    assert change["csa_at_level_mm2"] < 0.05
    assert change["csa_by_level_mm2"] < 0.05


def test_an_outcome_at_a_level_that_too_few_scans_cover_is_not_fitted():
    people = volunteers(7, 20)
    short = {person.subject: 0.3 if n % 2 else 1.0 for n, person in enumerate(people)}
    muscles, _ = tables_of(people, short)
    fitted = fit_model(SEX_AND_AGE, LEVEL_OUTCOMES[0], muscles)
    assert fitted.fit is None
    assert fitted.note == "50 % of the subjects have a value at that level, expected 80 %"


# --- the figure along the spine -----------------------------------------------------------------------


def test_the_figure_along_the_spine_shows_means_of_both_sides_with_the_band_of_the_mean():
    parts = [areas_at_levels(slices_at(np.arange(0.6, 5.6, 0.2), subject=s)) for s in ("S1", "S2")]
    parts[1]["csa_mm2"] += 100
    levels = pd.concat(parts).assign(sex="F")
    levels.loc[(levels.subject == "S2") & (levels.level_position < 3), "csa_mm2"] = np.nan
    absent = (levels.muscle == "multifidus") & (levels.side == "left") & (levels.level == "L4")
    levels.loc[absent, ["csa_mm2", "fat_fraction"]] = [0.0, np.nan]
    found = level_means(levels)
    own = found[(found.muscle == "psoas_major") & (found.measure == "csa_mm2")]
    own = own.set_index("level_position")
    assert own.n_subjects[2.0] == 1
    assert own["mean"][2.0] == pytest.approx(2 * 1200)
    assert np.isnan(own.low_95[2.0])
    assert own.n_subjects[4.0] == 2
    assert own["mean"][4.0] == pytest.approx(2 * 1450)
    half = 12.706 * np.std([2800, 3000], ddof=1) / np.sqrt(2)  # t of one degree of freedom
    assert own.high_95[4.0] - own["mean"][4.0] == pytest.approx(half, rel=1e-3)
    fat = found[(found.muscle == "psoas_major") & (found.measure == "fat_fraction")]
    assert fat.set_index("level_position")["mean"][4.0] == pytest.approx(0.4, rel=0.05)
    one_side = found[(found.muscle == "multifidus") & (found.measure == "fat_fraction")]
    assert one_side.set_index("level_position").n_subjects[4.0] == 2
    right = levels[(levels.muscle == "multifidus") & (levels.side == "right")]
    right = right[right.level == "L4"].fat_fraction.mean()
    assert one_side.set_index("level_position")["mean"][4.0] == pytest.approx(right)
    assert len(draw_level_curves(found).axes) == 8
