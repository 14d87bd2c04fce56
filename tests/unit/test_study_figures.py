from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.colors import to_rgb

from paravert import codebook, tables
from paravert.anatomy import LABELS, MUSCLES
from paravert.imaging.volume import Volume, write_volume
from paravert.study import figures, style
from paravert.study.accuracy import area_agreement, pixel_areas
from paravert.study.choice import representatives
from paravert.study.drawing import agreement, csa, examples, iou
from paravert.study.drawing.shading import View, picture
from paravert.study.drawing.surface import surface_of
from paravert.subject_folder import SubjectFolder
from study_tables import write_card, write_cohort

STEMS = {
    "fig1_network",
    "fig2_examples",
    "fig3_reconstructions",
    "fig4_iou",
    "fig5_csa",
    "fig6_fat_fraction",
    "agreement",
    "flow",
}
SPACING_MM = (8.0, 2.0, 2.0)


def discs(slices=6, rows=48, columns=80):
    """Return labels (slices, rows, columns): eight discs side by side in two rows."""
    y, x = np.mgrid[:rows, :columns]
    flat = np.zeros((rows, columns), np.uint8)
    for place, label in enumerate(LABELS):
        row, column = 14 + 20 * (place // 4), 10 + 20 * (place % 4)
        flat[(y - row) ** 2 + (x - column) ** 2 <= 49] = label.value
    return np.repeat(flat[None], slices, axis=0)


def volume_of(array, spacing_mm=SPACING_MM):
    slice_mm, row_mm, column_mm = spacing_mm
    return Volume(array, np.diag([-column_mm, -row_mm, slice_mm, 1.0]))


def write_subject(home: Path, seed: int) -> None:
    labels = discs()
    image = np.random.default_rng(seed).integers(0, 1000, labels.shape).astype(np.int16)
    write_volume(SubjectFolder(home).stack_file("labels", 1), volume_of(labels))
    write_volume(SubjectFolder(home).stack_file("image", 1), volume_of(image))


def write_study(home: Path, subjects: int, *, truth: bool = True) -> None:
    write_cohort(home / "cohort", subjects, truth=truth, quarantined=2)
    for number in range(1, subjects + 1):
        write_subject(home / "subjects" / f"S{number:04d}", number)


def draw(home: Path, out: str = "figures") -> Path:
    write_card(home / "model.json")
    model = home / "model.safetensors"
    figures.draw_figures(home / "cohort", home / "subjects", model, home / out, seed=3)
    return home / out


def rewrite(cohort: Path, table: tables.Table, **columns) -> None:
    """Put one value, or null, into every row of some columns of a cohort table."""
    frame = pq.read_table(cohort / f"{table.name}.parquet").to_pandas().assign(**columns)
    data = tables.from_rows(
        table, frame.astype(object).where(frame.notna(), None).to_dict("records")
    )
    tables.write(cohort / f"{table.name}.parquet", table, data, {})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    home = tmp_path_factory.mktemp("study")
    write_study(home, 5)
    draw(home)
    return home


def drawn(study: Path, stem: str) -> pd.DataFrame:
    return pd.read_csv(study / "figures" / f"{stem}.csv")


def table(study: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(study / "cohort" / f"{name}.parquet")


def test_every_figure_is_svg_and_png_beside_its_csv(study):
    found = {path.name for path in (study / "figures").iterdir()}
    assert found == {f"{stem}.{kind}" for stem in STEMS for kind in ("svg", "png", "csv")}


def test_points_of_figure_4_are_the_known_iou_of_the_overlap_table(study):
    keys = ["subject", "stack", "slice", "muscle", "side"]
    known = table(study, "overlap").dropna(subset=["iou"]).set_index(keys)["iou"]
    points = drawn(study, "fig4_iou").set_index(keys)["iou"]
    pd.testing.assert_series_equal(points.sort_index(), known.sort_index(), check_index_type=False)


def test_a_box_of_very_many_values_has_fewer_points_and_all_values():
    keys = {"subject": "S1", "stack": 1, "muscle": "multifidus", "side": "left"}
    values = pd.DataFrame({**keys, "slice": range(4000), "iou": np.linspace(0.5, 1, 4000)})
    frame = iou.data(values, seed=1)
    assert len(frame) == 4000
    assert frame["across"].count() == iou.MAX_POINTS_PER_BOX


def test_subjects_of_figure_5_ascend_within_sex_and_muscle(study):
    frame = drawn(study, "fig5_csa")
    for _, panel in frame.groupby(["sex", "muscle"]):
        of_rank = panel.groupby("rank")["csa_mean_mm2"].mean()
        assert of_rank.is_monotonic_increasing
        assert list(of_rank.index) == list(range(1, panel["subject"].nunique() + 1))


def test_figure_5_shows_mean_and_sd_of_the_muscles_table(study):
    keys, values = ["subject", "muscle", "side"], ["csa_mean_mm2", "csa_sd_mm2"]
    expected = table(study, "muscles").set_index(keys)[values].sort_index()
    found = drawn(study, "fig5_csa").set_index(keys)[values].sort_index()
    pd.testing.assert_frame_equal(found, expected)


def test_lines_of_figure_6_are_the_least_squares_of_each_group(study):
    frame = drawn(study, "fig6_fat_fraction")
    assert set(frame.loc[frame["panel"] == "muscle", "group"]) == set(MUSCLES)
    for _, points in frame[frame["panel"] == "muscle"].groupby("group"):
        line = np.polyval(
            np.polyfit(points["age_years"], points["fat_fraction"], 1), points["age_years"]
        )
        np.testing.assert_allclose(points["fitted"], line)


def test_points_of_figure_6_are_fat_fractions_of_the_subjects_table(study):
    frame, subjects = drawn(study, "fig6_fat_fraction"), table(study, "subjects")
    of_sex = frame[frame["panel"] == "sex"].set_index("subject")["fat_fraction"]
    assert of_sex.to_dict() == pytest.approx(
        subjects.set_index("subject")["fat_fraction"].to_dict()
    )


def test_two_subjects_of_a_sex_have_no_regression_line(study):
    frame = drawn(study, "fig6_fat_fraction")
    men = frame[(frame["panel"] == "sex") & (frame["group"] == "M")]
    assert len(men) == 2
    assert men["fitted"].isna().all()


def test_limits_of_the_agreement_figure_are_those_of_the_agreement_table(study):
    expected = area_agreement(table(study, "overlap"), pixel_areas(table(study, "slices")))
    expected = expected[expected["side"] == "both"].set_index("muscle")
    found = drawn(study, "agreement").drop_duplicates("muscle").set_index("muscle")
    for column in ("bias_mm2", "lower_limit_mm2", "upper_limit_mm2"):
        np.testing.assert_allclose(found[column], expected.loc[found.index, column])


def test_a_muscle_that_nobody_drew_on_both_sides_has_an_empty_panel(study):
    overlap, pixels = table(study, "overlap"), pixel_areas(table(study, "slices"))
    multifidus = overlap["muscle"] == "multifidus"
    psoas = (overlap["muscle"] == "psoas_major") & (overlap["side"] == "left")
    frame = agreement.data(overlap[~multifidus & ~psoas], pixels)
    assert set(frame["muscle"]) == {"quadratus_lumborum", "erector_spinae"}
    told = [[text.get_text() for text in axes.texts] for axes in agreement.draw(frame).axes]
    assert [texts == ["no judging subject has both sides"] for texts in told] == [
        True,
        False,
        False,
        True,
    ]


def test_flow_counts_every_subject_of_the_sheet_once(study):
    frame = drawn(study, "flow")
    count = frame.groupby("kind")["subjects"].sum()
    assert count["sheet"] == count["analysed"] + count["reason"] == 7


def test_figure_2_tells_no_iou_of_whom_the_network_learnt_from(tmp_path):
    write_study(tmp_path, 3)
    path = tmp_path / "cohort/overlap.parquet"
    overlap = pq.read_table(path)
    judges = pa.array([name != "S0002" for name in overlap["subject"].to_pylist()])
    place = overlap.schema.get_field_index("judges_network")
    overlap = overlap.set_column(place, overlap.schema.field(place), judges)
    pq.write_table(overlap, path)
    draw(tmp_path)
    frame = drawn(tmp_path, "fig2_examples")
    assert set(frame["subject"]) == {"S0001", "S0002", "S0003"}
    assert (frame["mean_iou"].isna() == (frame["subject"] == "S0002")).all()


def test_mean_iou_of_figure_2_is_the_mean_of_the_slices_muscles(study):
    overlap = table(study, "overlap")
    for row in drawn(study, "fig2_examples").itertuples():
        own = overlap[(overlap["subject"] == row.subject) & (overlap["slice"] == row.slice)]
        assert row.mean_iou == pytest.approx(own["iou"].mean())


def test_muscles_are_drawn_in_the_colours_of_the_anatomy():
    labels = discs(1)[0]
    shown = examples.overlay(np.zeros(labels.shape), labels)
    for label in LABELS:
        column = 10 + 20 * ((label.value - 1) % 4)
        top = 14 + 20 * ((label.value - 1) // 4) - 7  # the outline, which covers the image
        np.testing.assert_allclose(shown[top, column], to_rgb(label.colour))


def test_boxes_of_figure_4_have_the_colours_of_the_anatomy(study):
    with style.applied():
        axes = iou.draw(drawn(study, "fig4_iou")).axes[0]
    found = [tuple(points.get_facecolor()[0, :3]) for points in axes.collections]
    assert found == [to_rgb(label.colour) for label in LABELS]


def test_one_subject_is_drawn_and_twice_with_the_same_bytes(tmp_path):
    write_study(tmp_path, 1)
    once, twice = draw(tmp_path), draw(tmp_path, "again")
    for path in once.iterdir():
        assert path.read_bytes() == (twice / path.name).read_bytes(), path.name


def test_an_empty_cohort_is_drawn_with_words(tmp_path):
    write_study(tmp_path, 0, truth=False)
    out = draw(tmp_path)
    assert {path.stem for path in out.glob("*.svg")} == STEMS
    assert pd.read_csv(out / "fig4_iou.csv").empty


def test_subjects_without_masks_or_covariates_are_drawn(tmp_path):
    cohort = tmp_path / "cohort"
    write_study(tmp_path, 2, truth=False)
    rewrite(cohort, codebook.SUBJECT_TABLE, sex=None, age_years=None)
    rewrite(cohort, codebook.MUSCLE_TABLE, sex=None, age_years=None)
    out = draw(tmp_path)
    assert set(pd.read_csv(out / "fig5_csa.csv")["sex"]) == {"unknown"}
    assert pd.read_csv(out / "fig6_fat_fraction.csv").empty


def test_ten_thousand_subjects_are_not_named():
    subjects = np.repeat([f"S{number:05d}" for number in range(10_000)], 2)
    frame = csa.data(
        pd.DataFrame(
            {
                "subject": subjects, "sex": "F", "muscle": "multifidus",
                "side": ["left", "right"] * 10_000, "slices": 5,
                "csa_mean_mm2": np.random.default_rng(1).normal(500, 50, 20_000),
                "csa_sd_mm2": 20.0,
            }
        )
    )  # fmt: skip
    with style.applied():
        figure = csa.draw(frame)
    names = [tick.get_text() for tick in figure.axes[3].get_xticklabels()]
    assert len(names) < 20
    assert not any(name.startswith("S") for name in names)


def test_drawing_leaves_the_settings_of_matplotlib_as_they_were():
    before = dict(mpl.rcParams)
    with style.applied():
        assert mpl.rcParams["svg.hashsalt"] == "paravert"
    assert dict(mpl.rcParams) == before


# --- which subjects ------------------------------------------------------------------------------


def people(count):
    sexes = ["F", "M"] * (count // 2)
    return pd.DataFrame(
        {"subject": [f"S{n:02d}" for n in range(count)], "sex": sexes, "size": range(count)}
    )


def test_representatives_of_a_cohort_of_women_and_men_are_half_women():
    chosen = representatives(people(20), "size", 4, seed=1)
    sex = people(20).set_index("subject")["sex"]
    assert [sex[subject] for subject in chosen] == ["F", "F", "M", "M"]


def test_representatives_do_not_depend_on_the_order_of_rows():
    shuffled = people(20).sample(frac=1, random_state=5)
    assert representatives(shuffled, "size", 4, 1) == representatives(people(20), "size", 4, 1)


def test_all_subjects_represent_a_cohort_smaller_than_asked_for():
    assert sorted(representatives(people(2), "size", 8, seed=1)) == ["S00", "S01"]


# --- surfaces and their pictures -----------------------------------------------------------------


def ball(radius_mm, spacing_mm):
    shape = tuple(int(2 * radius_mm / mm) + 9 for mm in spacing_mm)
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return (z**2 + y**2 + x**2 <= radius_mm**2).astype(np.uint8)


def test_surface_of_a_ball_encloses_its_volume():
    surface = surface_of(volume_of(ball(30, (3, 1, 1)), (3, 1, 1)), 1)
    assert surface.volume_mm3 == pytest.approx(4 / 3 * np.pi * 30**3, rel=0.05)


def test_normals_of_a_ball_point_away_from_its_centre():
    surface = surface_of(volume_of(ball(30, (3, 1, 1)), (3, 1, 1)), 1)
    outwards = surface.vertices - surface.vertices.mean(axis=0)
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    assert np.einsum("ij,ij->i", outwards, surface.normals).min() > 0.8


def test_surface_stands_where_the_affine_puts_the_label():
    labels = discs()
    stack = volume_of(labels)
    surface = surface_of(stack, 3)
    index = np.argwhere(labels == 3).mean(axis=0)[::-1]
    expected = (stack.affine @ [*index, 1])[:3]
    np.testing.assert_allclose(surface.vertices.mean(axis=0), expected, atol=1)


def test_a_label_in_one_thin_slice_has_a_surface():
    surface = surface_of(volume_of(discs(1), (0.4, 2, 2)), 1)
    assert np.ptp(surface.vertices[:, 2]) < 3


def test_an_absent_label_has_no_surface():
    assert surface_of(volume_of(np.zeros((4, 9, 9), np.uint8)), 1) is None


def seen(*surfaces_and_colours, azimuth_deg):
    surfaces, colours = zip(*surfaces_and_colours, strict=True)
    view = View("", azimuth_deg, 0)
    return picture(list(surfaces), list(colours), view, np.array([200.0, 80.0]))


def moved_ball(right_mm, front_mm):
    stack = volume_of(ball(12, (2, 2, 2)), (2, 2, 2))
    affine = stack.affine.copy()
    affine[:2, 3] += (right_mm, front_mm)
    return surface_of(Volume(stack.array, affine), 1)


def test_the_left_ball_is_on_the_right_from_the_front_and_on_the_left_from_the_back():
    left, right = (moved_ball(-60, 0), (1, 0, 0)), (moved_ball(60, 0), (0, 0, 1))
    for azimuth_deg, columns_of_left in ((0, slice(250, None)), (180, slice(None, 190))):
        rgba = seen(left, right, azimuth_deg=azimuth_deg)
        part = rgba[:, columns_of_left]
        red = part[part[..., 3] > 0.9][:, :3].mean(axis=0)
        assert red[0] > 2 * red[2]


def test_the_nearer_ball_hides_the_farther():
    front, back = (moved_ball(0, 40), (1, 0, 0)), (moved_ball(0, -40), (0, 0, 1))
    for azimuth_deg, strong in ((0, 0), (180, 2)):
        rgba = seen(front, back, azimuth_deg=azimuth_deg)
        colour = rgba[rgba[..., 3] > 0.9][:, :3].mean(axis=0)
        assert np.argmax(colour) == strong


def test_picture_of_a_ball_has_the_area_of_its_great_circle():
    rgba = seen(
        (surface_of(volume_of(ball(30, (2, 2, 2)), (2, 2, 2)), 1), (1, 1, 1)), azimuth_deg=40
    )
    assert rgba[..., 3].sum() * 0.45**2 == pytest.approx(np.pi * 30**2, rel=0.05)
