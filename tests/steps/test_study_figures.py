from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.colors import to_rgb
from scipy import stats

from paravert import codebook, tables
from paravert.anatomy import LABELS, MUSCLES
from paravert.imaging.volume import Volume, write_volume
from paravert.outputs import FIGURES
from paravert.steps import COHORT_STEPS
from paravert.study import figures
from paravert.study.accuracy import area_agreement, subject_areas
from paravert.study.centiles import fit_centiles
from paravert.study.describe import write_tables
from paravert.study.drawing import accuracy_plots, style
from paravert.study.drawing.accuracy_plots import (
    agreement_points,
    draw_agreement,
    draw_iou,
    iou_points,
)
from paravert.study.drawing.diagrams import STAGE_NAMES, draw_flow, flow_counts
from paravert.study.drawing.examples import (
    Example,
    draw_examples,
    example_slices,
    overlay,
    representatives,
)
from paravert.study.drawing.model_plots import (
    draw_adjusted_means,
    draw_site_effects,
    site_effect_points,
)
from paravert.study.drawing.reconstructions import draw_reconstructions, reconstructed
from paravert.study.drawing.surfaces import (
    AMBIENT,
    DIFFUSE,
    GLOSS,
    LIGHT,
    PIXEL_MM,
    SHININESS,
    Viewpoint,
    mesh_of,
    shaded,
)
from paravert.study.drawing.value_plots import (
    csa_points,
    distribution_points,
    draw_csa,
    draw_distributions,
    draw_fat_fraction,
    fat_points,
)
from paravert.study.inference import CSA, FAT
from paravert.study.models import fit_models
from paravert.subject_folder import SubjectFolder
from study_tables import cohort_rows, write_card, write_cohort

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
    if not (home / "tables").exists():
        fit_models(home / "cohort", home / "tables" / "models.csv", bootstrap_samples=20)
        fit_centiles(home / "cohort", home / "tables" / "centiles.parquet")
    figures.draw_figures(
        home / "cohort", home / "subjects", model, home / out, home / "tables", seed=3
    )
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
    assert found == {f"{stem}.{kind}" for stem in FIGURES for kind in ("svg", "png", "csv")}


def test_points_of_figure_4_are_the_known_iou_of_the_overlap_table(study):
    keys = ["subject", "stack_id", "slice", "muscle", "side"]
    known = table(study, "overlap").dropna(subset=["iou"]).set_index(keys)["iou"]
    points = drawn(study, "fig4_iou").set_index(keys)["iou"]
    pd.testing.assert_series_equal(points.sort_index(), known.sort_index(), check_index_type=False)


def test_a_box_of_very_many_values_has_fewer_points_and_all_values():
    keys = {"subject": "S1", "stack_id": 1, "muscle": "multifidus", "side": "left"}
    values = pd.DataFrame({**keys, "slice": range(4000), "iou": np.linspace(0.5, 1, 4000)})
    frame = iou_points(values.assign(pixels_truth=50, pixels_prediction=50), seed=1)
    assert len(frame) == 4000
    assert frame["point"].sum() == accuracy_plots.MAX_POINTS_PER_BOX


def scores(values, pixels):
    keys = {"subject": "S1", "stack_id": 1, "muscle": "quadratus_lumborum", "side": "left"}
    return iou_points(
        pd.DataFrame(keys | {"slice": range(len(values)), "iou": values})
        .assign(pixels_truth=pixels, pixels_prediction=0),
        seed=1,
    )  # fmt: skip


def texts_of(axes):
    return [text.get_text() for text in axes.texts] + [axes.get_title("left")]


def test_few_values_of_0_do_not_stretch_figure_4_but_are_counted():
    frame = scores(np.r_[np.zeros(3), np.linspace(0.8, 0.95, 397)], np.r_[1, 2, 3, [90] * 397])
    with style.applied():
        axes = draw_iou(frame).axes[0]
    assert 0.6 < axes.get_ylim()[0] < 0.7
    assert "3 below" in texts_of(axes)
    assert (
        "3 of 400 values are below 0.7; 3 are 0, in sections of at most 3 pixels"
        in texts_of(axes)[-1]
    )


def test_many_low_values_are_drawn_in_figure_4():
    with style.applied():
        axes = draw_iou(scores(np.r_[np.full(40, 0.31), np.full(60, 0.9)], 90)).axes[0]
    assert axes.get_ylim()[0] < 0.3
    assert not any("below" in text for text in texts_of(axes)[:-1])


def test_boxes_of_figure_4_are_the_quartiles_of_all_values():
    values = np.linspace(0.75, 0.95, 101)
    with style.applied():
        axes = draw_iou(scores(values, 90)).axes[0]
    heights = {round(float(y), 4) for line in axes.lines for y in line.get_ydata()}
    assert {round(float(q), 4) for q in np.quantile(values, [0.25, 0.5, 0.75])} <= heights


def test_subjects_of_figure_5_stand_in_one_order_of_their_area(study):
    frame = drawn(study, "fig5_csa")
    assert (frame.groupby("subject")["rank"].nunique() == 1).all()
    for _, of_sex in frame.groupby("sex"):
        area = of_sex.groupby("rank")["csa_at_level_mm2"].sum()
        assert area.is_monotonic_increasing
        assert list(area.index) == list(range(1, of_sex["subject"].nunique() + 1))


def test_muscles_of_figure_5_have_their_own_scales(study):
    with style.applied():
        figure = draw_csa(drawn(study, "fig5_csa"))
    highest = [axes.get_ylim()[1] for axes in figure.axes[: len(MUSCLES)]]
    frame = drawn(study, "fig5_csa")
    for muscle, height in zip(MUSCLES, highest, strict=True):
        own = frame[frame["muscle"] == muscle]
        tops = pd.concat([own["csa_mean_mm2"] + own["csa_sd_mm2"], own["csa_at_level_mm2"]])
        assert 1 < height / tops.max() < 1.1


def test_lines_of_figure_5_reach_one_sd_to_both_sides_of_the_mean(study):
    frame = drawn(study, "fig5_csa")
    with style.applied():
        axes = draw_csa(frame).axes[0]
    lines = np.array([path.vertices[:, 1] for path in axes.collections[0].get_paths()])
    own = frame[(frame["muscle"] == MUSCLES[0]) & (frame["sex"] == "F")]
    np.testing.assert_allclose(lines.mean(axis=1), own["csa_mean_mm2"])
    np.testing.assert_allclose(np.ptp(lines, axis=1), 2 * own["csa_sd_mm2"])


def test_figure_5_shows_mean_and_sd_of_the_muscles_table(study):
    keys, values = ["subject", "muscle", "side"], ["csa_mean_mm2", "csa_sd_mm2"]
    expected = table(study, "muscles").set_index(keys)[values].sort_index()
    found = drawn(study, "fig5_csa").set_index(keys)[values].sort_index()
    pd.testing.assert_frame_equal(found, expected)


def of_age(ages, sex="F", slope=0.002, noise=0.01):
    fat = 0.1 + slope * np.array(ages) + np.random.default_rng(1).normal(0, noise, len(ages))
    frame = pd.DataFrame({"subject": [f"S{n}" for n in range(len(ages))], "age_years": ages})
    columns = ["fat_fraction", *(f"fat_fraction_{muscle}" for muscle in MUSCLES)]
    return frame.assign(sex=sex, **dict.fromkeys(columns, fat))


def test_lines_of_figure_6_are_the_least_squares_of_each_sex_and_muscle():
    ages = [22.0, 30.0, 35.0, 51.0, 60.0, 44.0]
    frame = fat_points(pd.concat([of_age(ages), of_age(ages, "M", 0.004)]))
    assert set(frame["muscle"]) == {"all", *MUSCLES}
    for _, points in frame.groupby(["muscle", "sex"]):
        fit = np.polyfit(points["age_years"], points["fat_fraction"], 1)
        np.testing.assert_allclose(points["fitted"], np.polyval(fit, points["age_years"]))
        np.testing.assert_allclose(points["slope_per_year"], fit[0])


def test_the_band_of_figure_6_is_that_of_the_textbook():
    ages = np.array([22.0, 30.0, 35.0, 51.0, 60.0, 44.0])
    points = fat_points(of_age(ages)).query("muscle == 'all'")
    residual = points["fat_fraction"] - points["fitted"]
    sd, spread = np.sqrt(np.sum(residual**2) / 4), np.sum((ages - ages.mean()) ** 2)
    t = stats.t.ppf(0.975, 4)
    reach = t * sd * np.sqrt(1 / 6 + (ages - ages.mean()) ** 2 / spread)
    np.testing.assert_allclose(points["high_95"], points["fitted"] + reach)
    np.testing.assert_allclose(points["low_95"], points["fitted"] - reach)
    np.testing.assert_allclose(
        points["slope_high_95"] - points["slope_per_year"], t * sd / np.sqrt(spread)
    )


@pytest.mark.parametrize(("subjects", "has_line"), [(4, False), (5, True)])
def test_five_subjects_of_a_sex_are_the_fewest_with_a_line(subjects, has_line):
    frame = fat_points(of_age(np.linspace(20, 60, subjects)))
    assert frame["fitted"].notna().all() == has_line
    with style.applied():
        axes = draw_fat_fraction(frame).axes[0]
    assert any(len(line.get_xdata()) for line in axes.lines) == has_line


def test_subjects_of_one_age_have_no_line():
    assert fat_points(of_age([40.0] * 9))["fitted"].isna().all()


def test_subjects_with_muscles_that_are_not_labelled_are_in_the_panels_of_the_others():
    rows = of_age(np.linspace(20, 60, 8)).assign(
        fat_fraction=np.nan, fat_fraction_multifidus=np.nan
    )
    frame = fat_points(rows)
    assert set(frame["muscle"]) == set(MUSCLES) - {"multifidus"}
    with style.applied():
        figure = draw_fat_fraction(frame)
    shown = [sum(len(points.get_offsets()) for points in axes.collections) for axes in figure.axes]
    assert shown[0] == shown[4] == 0
    assert all(shown[1:4])


def test_figure_6_tells_how_many_subjects_have_no_fat_fraction():
    people = of_age(np.linspace(20, 60, 8))
    people.loc[:1, ["fat_fraction", "fat_fraction_multifidus"]] = np.nan
    frame = fat_points(people)
    counts = frame.groupby("muscle")["left_out"].agg(["first", "size"])
    assert counts.loc["all"].tolist() == [2, 6]
    assert counts.loc["multifidus"].tolist() == [2, 6]
    assert counts.loc["psoas_major"].tolist() == [0, 8]
    with style.applied():
        legend = draw_fat_fraction(frame).axes[0].get_legend()
    assert "(n = 6; 2 without)" in legend.get_texts()[0].get_text()


def test_points_of_figure_6_are_fat_fractions_of_the_subjects_table(study):
    frame, subjects = drawn(study, "fig6_fat_fraction"), table(study, "subjects")
    everything = frame[(frame["muscle"] == "all") & (frame["level"] == "all slices")]
    assert everything.set_index("subject")["fat_fraction"].to_dict() == pytest.approx(
        subjects.set_index("subject")["fat_fraction"].to_dict()
    )
    at_level = frame[(frame["muscle"] == "multifidus") & (frame["level"] == "L3/4")]
    muscles = table(study, "muscles").query("muscle == 'multifidus'")
    fat = muscles.assign(fat=muscles["csa_at_level_mm2"] * muscles["fat_fraction_at_level"])
    sums = fat.groupby("subject")[["fat", "csa_at_level_mm2"]].sum()
    expected = (sums["fat"] / sums["csa_at_level_mm2"]).to_dict()
    assert at_level.set_index("subject")["fat_fraction"].to_dict() == pytest.approx(expected)


def test_values_of_the_distributions_are_those_of_the_subjects_table(study):
    frame, subjects = drawn(study, "distributions"), table(study, "subjects").set_index("subject")
    assert set(frame["muscle"]) == set(MUSCLES)
    for (measure, muscle), own in frame.groupby(["measure", "muscle"]):
        column = f"csa_{muscle}_mm2" if measure == "csa" else f"fat_fraction_{muscle}"
        expected = subjects[column].loc[own["subject"]]
        np.testing.assert_allclose(own["value"], expected)


@pytest.mark.parametrize("subjects", [1, 9, 10, 300])
def test_distributions_show_points_of_few_subjects_and_violins_of_many(subjects):
    frame = of_age(np.linspace(20, 60, subjects)).assign(
        **{f"csa_{muscle}_mm2": np.linspace(900, 1500, subjects) for muscle in MUSCLES}
    )
    with style.applied():
        axes = draw_distributions(distribution_points(frame)).axes[0]
    points = sum(
        len(shown.get_offsets()) for shown in axes.collections if shown.get_offsets().any()
    )
    assert points == (subjects if subjects <= 200 else 0)
    assert (len(axes.lines) == 3) == (subjects >= 10)  # the quartiles of the violin


def test_limits_of_the_agreement_figure_are_those_of_the_agreement_table(study):
    expected = area_agreement(figures.read_cohort(study / "cohort").compared)
    assert set(expected["level"]) == {"L3/4", "all slices"}
    expected = expected[(expected["side"] == "both") & (expected["level"] == "L3/4")]
    expected = expected.set_index("muscle")
    found = drawn(study, "agreement").drop_duplicates("muscle").set_index("muscle")
    for column in ("bias_mm2", "lower_limit_mm2", "upper_limit_mm2"):
        np.testing.assert_allclose(found[column], expected.loc[found.index, column])


def test_a_muscle_that_nobody_drew_on_both_sides_has_an_empty_panel(study):
    overlap = table(study, "overlap")
    multifidus = overlap["muscle"] == "multifidus"
    psoas = (overlap["muscle"] == "psoas_major") & (overlap["side"] == "left")
    areas = subject_areas(overlap[~multifidus & ~psoas])
    frame = agreement_points({"all slices": areas})
    assert set(frame["muscle"]) == {"quadratus_lumborum", "erector_spinae"}
    told = [[text.get_text() for text in axes.texts] for axes in draw_agreement(frame).axes]
    assert [texts == ["no held-out subject has both sides"] for texts in told] == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("subjects", [1, 2, 3, 40])
def test_labels_of_the_agreement_figure_do_not_overlap(subjects):
    random = np.random.default_rng(2)
    truth = random.normal(1000, 100, subjects)
    frame = pd.DataFrame(
        {"subject": range(subjects), "side": "left", "stack_id": 1, "slice": 0}
        | {"muscle": "multifidus", "iou": 0.9, "pixels_truth": truth}
        | {
            "pixels_prediction": truth + random.normal(0, 5, subjects),
            "review_failed": False,
            "pixel_mm2": 1.0,
        }
    )
    overlap = pd.concat([frame, frame.assign(side="right")])
    with style.applied():
        figure = draw_agreement(agreement_points({"all slices": subject_areas(overlap)}))
        figure.draw_without_rendering()
    axes = figure.axes[3]
    boxes = [text.get_window_extent() for text in axes.texts if "\n" in text.get_text()]
    assert len(boxes) == (1 if subjects == 1 else 3)
    for upper, lower in zip(boxes, boxes[1:], strict=False):
        assert upper.y0 > lower.y1
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)


def test_the_flow_has_words_for_every_step_that_quarantines():
    assert set(STAGE_NAMES) == {"gather_cohort", *(step.name for step in COHORT_STEPS)}


def test_flow_names_excluded_subjects_apart():
    ledger = pd.DataFrame(
        {
            "subject": ["S1", "S2", "S3"],
            "status": ["analysed", "excluded", "quarantined"],
            "stage": [None, "gather_cohort", "convert_dicom"],
            "reason": [None, "review-failed", "no-dicom"],
            "warnings": [[], [], []],
        }
    )
    overlap = pd.DataFrame({"subject": ["S1", "S2"], "held_out": [True, True]})
    frame = flow_counts(ledger, overlap)
    count = frame.dropna(subset=["subjects"]).set_index("kind")["subjects"]
    assert count[["sheet", "analysed", "quarantined", "excluded"]].tolist() == [3, 1, 1, 1]
    assert count[["scored", "scored-excluded"]].tolist() == [2, 1]
    told = texts_of(draw_flow(frame).axes[0])
    assert "Quarantined converting the images: 1" in told
    assert "Excluded after review: 1" in told
    assert "of these excluded after review: 1" in told
    assert "review-failed: 1" in told


def test_flow_counts_every_subject_of_the_sheet_once(study):
    frame = drawn(study, "flow")
    count = frame.groupby("kind")["subjects"].sum()
    assert count["sheet"] == count["analysed"] + count["reason"] == 7


def test_figure_2_has_no_iou_of_subjects_that_are_not_held_out(tmp_path):
    write_study(tmp_path, 3)
    path = tmp_path / "cohort/overlap.parquet"
    overlap = pq.read_table(path)
    held_out = pa.array([name != "S0002" for name in overlap["subject"].to_pylist()])
    place = overlap.schema.get_field_index("held_out")
    pq.write_table(overlap.set_column(place, overlap.schema.field(place), held_out), path)
    cohort = figures.read_cohort(tmp_path / "cohort")
    frame, _ = example_slices(cohort.subjects, cohort.held_out, tmp_path / "subjects", 3)
    assert set(frame["subject"]) == {"S0001", "S0002", "S0003"}
    assert (frame["mean_iou"].isna() == (frame["subject"] == "S0002")).all()


def test_mean_iou_of_figure_2_is_the_mean_of_the_slices_muscles(study):
    overlap = table(study, "overlap")
    for row in drawn(study, "fig2_examples").itertuples():
        own = overlap[(overlap["subject"] == row.subject) & (overlap["slice"] == row.slice)]
        assert row.mean_iou == pytest.approx(own["iou"].mean())


def test_muscles_are_drawn_in_the_colours_of_the_anatomy():
    labels = discs(1)[0]
    shown = overlay(np.zeros(labels.shape), labels)
    for label in LABELS:
        column = 10 + 20 * ((label.value - 1) % 4)
        top = 14 + 20 * ((label.value - 1) // 4) - 7  # the outline, which covers the image
        np.testing.assert_allclose(shown[top, column], to_rgb(label.colour))


def test_boxes_of_figure_4_have_the_colours_of_the_anatomy(study):
    with style.applied():
        axes = draw_iou(drawn(study, "fig4_iou")).axes[0]
    found = [tuple(points.get_facecolor()[0, :3]) for points in axes.collections]
    assert found == [to_rgb(label.colour) for label in LABELS]


def test_colours_of_the_sexes_are_none_of_the_muscles():
    sexes, muscles = style.SEX_COLOURS.values(), [label.colour for label in LABELS]
    distance = [np.linalg.norm(np.subtract(to_rgb(a), to_rgb(b))) for a in sexes for b in muscles]
    assert min(distance) > 0.1


def test_figure_2_draws_the_manual_mask_where_there_is_one(tmp_path):
    write_study(tmp_path, 2)
    truth = np.zeros_like(discs())
    truth[:, 10:20, 30:41] = 3
    write_volume(
        SubjectFolder(tmp_path / "subjects/S0002").stack_file("truth", 1), volume_of(truth)
    )
    cohort = figures.read_cohort(tmp_path / "cohort")
    frame, shown = example_slices(cohort.subjects, cohort.held_out, tmp_path / "subjects", 3)
    by_subject = dict(zip(frame["subject"], shown, strict=True))
    assert not by_subject["S0001"].truth.any()
    assert np.count_nonzero(by_subject["S0002"].truth == 3) == 110
    with style.applied():
        figure = draw_examples(frame, shown)
    outlines = {axes.get_title("left"): len(axes.collections) for axes in figure.axes[:2]}
    assert outlines == {"S0001": 0, "S0002": 1}


def test_the_manual_outline_lies_around_its_pixels():
    truth = np.zeros((20, 30), np.uint8)
    truth[5:9, 10:20] = 1
    example = Example(np.ones((20, 30)), np.zeros((20, 30), np.uint8), truth, 2.0, 1.0)
    row = {"subject": "S1", "mean_iou": np.nan}
    with style.applied():
        axes = draw_examples(pd.DataFrame([row]), [example]).axes[0]
    x, y = axes.collections[0].get_paths()[0].vertices.T
    assert (x.min(), x.max()) == pytest.approx((10, 20), abs=0.1)
    assert (y.min(), y.max()) == pytest.approx((10, 18), abs=0.1)


@pytest.mark.long
def test_one_subject_is_drawn_and_twice_with_the_same_bytes(tmp_path):
    write_study(tmp_path, 1)
    once, twice = draw(tmp_path), draw(tmp_path, "again")
    for path in once.iterdir():
        assert path.read_bytes() == (twice / path.name).read_bytes(), path.name


def test_an_empty_cohort_is_drawn_with_words(tmp_path):
    write_study(tmp_path, 0, truth=False)
    out = draw(tmp_path)
    assert {path.stem for path in out.glob("*.svg")} == set(FIGURES)
    assert pd.read_csv(out / "fig4_iou.csv").empty


def test_subjects_without_masks_or_covariates_are_drawn(tmp_path):
    cohort = tmp_path / "cohort"
    write_study(tmp_path, 2, truth=False)
    rewrite(cohort, codebook.SUBJECT_TABLE, sex=None, age_years=None)
    rewrite(cohort, codebook.MUSCLE_TABLE, sex=None, age_years=None)
    out = draw(tmp_path)
    assert set(pd.read_csv(out / "fig5_csa.csv")["sex"]) == {"unknown"}
    assert pd.read_csv(out / "fig6_fat_fraction.csv").empty


@pytest.mark.long
@pytest.mark.parametrize("sex", ["F", "M"])
def test_a_study_of_one_sex_has_all_tables_and_figures(tmp_path, sex):
    cohort = tmp_path / "cohort"
    write_study(tmp_path, 10)
    for own in (codebook.SUBJECT_TABLE, codebook.MUSCLE_TABLE, codebook.LEVEL_TABLE):
        rewrite(cohort, own, sex=sex)
    write_tables(cohort, tmp_path / "tables", bootstrap_samples=20)
    fit_models(cohort, tmp_path / "tables" / "models.csv", bootstrap_samples=20)
    fit_centiles(cohort, tmp_path / "tables" / "centiles.parquet")
    out = draw(tmp_path)
    assert {path.stem for path in out.glob("*.svg")} == set(FIGURES)
    drawn = pd.read_csv(out / "specification_curve.csv")
    assert set(drawn["family"]) == {"age"}
    assert set(drawn["muscle"]) == set(MUSCLES)
    assert set(pd.read_csv(out / "adjusted_means.csv")["sex"]) == {sex}
    normal = pd.read_csv(tmp_path / "tables" / "normal_values.csv")
    assert set(normal.loc[normal["n"] > 0, "sex"]) == {"all", sex}


def test_ten_thousand_subjects_are_not_named():
    subjects = np.repeat([f"S{number:05d}" for number in range(10_000)], 2)
    frame = csa_points(
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
        figure = draw_csa(frame)
    names = [tick.get_text() for tick in figure.axes[3].get_xticklabels()]
    assert len(names) < 20
    assert not any(name.startswith("S") for name in names)


LONG = "UKB-paravertebral-imaging-substudy-participant-0000000000"  # with a number 60 letters


@pytest.mark.parametrize("subjects", [6, 44])
def test_long_names_of_subjects_leave_room_for_the_panels_of_figure_5(subjects):
    muscles = pd.DataFrame(cohort_rows(subjects)["muscles"])
    frame = csa_points(muscles.assign(subject=LONG + muscles["subject"].str[2:]))
    with style.applied():
        figure = draw_csa(frame)
        figure.draw_without_rendering()
    upper, lower = figure.axes[0], figure.axes[4]
    assert min(axes.bbox.height for axes in (upper, lower)) > figure.dpi
    names = upper.get_xticklabels()
    assert len({name.get_text() for name in names}) == subjects // 2
    assert min(name.get_window_extent().y0 for name in names) > lower.bbox.y1
    points = names[0].get_fontsize() * figure.dpi / 72
    places = [name.get_window_extent().x0 for name in names]
    assert min(np.diff(places)) > 0.7 * points  # letters are that high


def test_long_names_of_subjects_do_not_overlap_in_figures_2_and_3(tmp_path):
    write_study(tmp_path, 4)
    cohort = figures.read_cohort(tmp_path / "cohort")
    parts = [cohort.subjects, cohort.held_out, cohort.muscles]
    for home in sorted((tmp_path / "subjects").iterdir()):
        home.rename(home.with_name(LONG + home.name[2:]))
    subjects, overlap, muscles = (
        part.assign(subject=LONG + part["subject"].str[2:]) for part in parts
    )
    with style.applied():
        second = draw_examples(*example_slices(subjects, overlap, tmp_path / "subjects", 3))
        third = draw_reconstructions(*reconstructed(subjects, muscles, tmp_path / "subjects", 3))
        for figure in (second, third):
            figure.draw_without_rendering()
    titles = [
        title.get_window_extent()
        for axes in second.axes
        for title in (axes._left_title, axes._right_title)
    ]
    first_row = [axes._left_title.get_window_extent() for axes in third.axes[:4]]
    for boxes in (titles, first_row):
        assert len(boxes) >= 4
        for left, right in zip(boxes, boxes[1:], strict=False):
            assert left.x1 < right.x0


@pytest.mark.parametrize(
    "names", [("Philips Medical Systems", "SIEMENS"), (f"{LONG}1", f"{LONG}2", f"{LONG}3")]
)
def test_names_of_sites_and_scanners_do_not_overlap(names):
    row = {"factor": "manufacturer", "reference": names[0], "muscle": "multifidus", "low_95": 0.0}
    row |= {"model": "alone", "n_category": 9, "estimate": 1.0, "high_95": 2.0}
    rows = [
        row | {"category": name, "outcome": outcome}
        for name in ("GE MEDICAL SYSTEMS", *names[1:])
        for outcome in (CSA, FAT)
    ]
    with style.applied():
        figure = draw_site_effects(site_effect_points(pd.DataFrame(rows)))
        figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) == len(names)
    for upper, lower in zip(boxes, boxes[1:], strict=False):
        assert upper.y0 > lower.y1


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


def test_a_muscle_that_failed_the_review_is_not_in_figure_3(study):
    cohort = figures.read_cohort(study / "cohort")
    muscles = cohort.muscles.copy()
    before, _ = reconstructed(cohort.subjects, muscles, study / "subjects", seed=1)
    one = before.iloc[0]
    keys = ["subject", "muscle", "side"]
    failed = (muscles[keys] == one[keys].to_list()).all(axis=1)
    assert failed.sum() == 1
    muscles.loc[failed, "csa_reason"] = "review-failed"
    after, meshes = reconstructed(cohort.subjects, muscles, study / "subjects", seed=1)
    assert len(after) == len(before) - 1
    shown = {(label.muscle, label.side) for label, _ in meshes[one["subject"]]}
    assert (one["muscle"], one["side"]) not in shown


# --- surfaces and their pictures -----------------------------------------------------------------


def ball(radius_mm, spacing_mm):
    shape = tuple(int(2 * radius_mm / mm) + 9 for mm in spacing_mm)
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return (z**2 + y**2 + x**2 <= radius_mm**2).astype(np.uint8)


def test_surface_of_a_ball_encloses_its_volume():
    surface = mesh_of(volume_of(ball(30, (3, 1, 1)), (3, 1, 1)), 1)
    assert surface.volume_mm3 == pytest.approx(4 / 3 * np.pi * 30**3, rel=0.05)


@pytest.mark.parametrize("slice_spacing_mm", [0.5, 1, 2, 3, 4, 6, 10])
@pytest.mark.parametrize("n_slices", [1, 2, 12])
def test_the_surface_of_a_cylinder_is_closed_and_ends_half_a_slice_beyond(
    slice_spacing_mm, n_slices
):
    spacing = (slice_spacing_mm, 1, 1)
    disc = ball(20, (1, 1, 1))[24]
    stack = volume_of(np.repeat(np.pad(disc, 8)[None], n_slices, axis=0), spacing)
    surface = mesh_of(stack, 1)
    edges = np.sort(surface.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    length = n_slices * slice_spacing_mm
    assert np.ptp(surface.vertices[:, 2]) == pytest.approx(length, rel=0.1)


def test_normals_of_a_ball_point_away_from_its_centre():
    surface = mesh_of(volume_of(ball(30, (3, 1, 1)), (3, 1, 1)), 1)
    outwards = surface.vertices - surface.vertices.mean(axis=0)
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    assert np.einsum("ij,ij->i", outwards, surface.normals).min() > 0.8


def test_surface_stands_where_the_affine_puts_the_label():
    labels = discs()
    stack = volume_of(labels)
    surface = mesh_of(stack, 3)
    index = np.argwhere(labels == 3).mean(axis=0)[::-1]
    expected = (stack.affine @ [*index, 1])[:3]
    np.testing.assert_allclose(surface.vertices.mean(axis=0), expected, atol=1)


def test_a_label_in_one_thin_slice_has_a_surface():
    surface = mesh_of(volume_of(discs(1), (0.4, 2, 2)), 1)
    assert np.ptp(surface.vertices[:, 2]) < 3


def test_an_absent_label_has_no_surface():
    assert mesh_of(volume_of(np.zeros((4, 9, 9), np.uint8)), 1) is None


def seen(*surfaces_and_colours, azimuth_deg):
    surfaces, colours = zip(*surfaces_and_colours, strict=True)
    view = Viewpoint("", azimuth_deg, 0)
    return shaded(list(surfaces), list(colours), view, np.array([200.0, 80.0]))


def moved_ball(right_mm, front_mm):
    stack = volume_of(ball(12, (2, 2, 2)), (2, 2, 2))
    affine = stack.affine.copy()
    affine[:2, 3] += (right_mm, front_mm)
    return mesh_of(Volume(stack.array, affine), 1)


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
    rgba = seen((mesh_of(volume_of(ball(30, (2, 2, 2)), (2, 2, 2)), 1), (1, 1, 1)), azimuth_deg=40)
    assert rgba[..., 3].sum() * PIXEL_MM**2 == pytest.approx(np.pi * 30**2, rel=0.05)


def test_a_ball_is_lit_from_the_side_of_the_light():
    rgba = seen((mesh_of(volume_of(ball(30, (2, 2, 2)), (2, 2, 2)), 1), (0.5,) * 3), azimuth_deg=0)
    rows, columns = rgba.shape[:2]
    y, x = np.mgrid[:rows, :columns]
    right = (x - (columns - 1) / 2) * PIXEL_MM / 30
    up = ((rows - 1) / 2 - y) * PIXEL_MM / 30
    matt = (right**2 + up**2 < 0.8**2) & (rgba[..., 3] == 1)  # the rim is in shadow
    design = np.column_stack([np.ones(matt.sum()), right[matt], up[matt]])
    (_, to_right, to_top), *_ = np.linalg.lstsq(design, rgba[matt][:, 0], rcond=None)
    assert to_right < 0 < to_top  # from the upper left, as readers expect
    assert np.arctan2(to_top, to_right) == pytest.approx(np.arctan2(LIGHT[1], LIGHT[0]), abs=0.05)


@pytest.mark.parametrize("towards", ["light", "half way to the eye", "away"])
def test_points_of_a_ball_are_as_bright_as_the_formula_of_phong(towards):
    """Ambient and diffuse light times the colour, plus gloss (Blinn 1977); no shadow on a ball."""
    grey, eye, light = 0.5, np.array([0, 0, 1]), LIGHT / np.linalg.norm(LIGHT)
    half = (light + eye) / np.linalg.norm(light + eye)
    away = np.array([-light[0], -light[1], 0.6])
    normal = {"light": light, "half way to the eye": half, "away": away}[towards]
    normal = normal / np.linalg.norm(normal)
    rgba = seen((mesh_of(volume_of(ball(30, (1, 1, 1)), (1, 1, 1)), 1), (grey,) * 3), azimuth_deg=0)
    rows, columns = rgba.shape[:2]
    row = round((rows - 1) / 2 - 30 * normal[1] / PIXEL_MM)
    column = round((columns - 1) / 2 + 30 * normal[0] / PIXEL_MM)
    found = rgba[row - 3 : row + 4, column - 3 : column + 4, 0].mean()
    expected = grey * (AMBIENT + DIFFUSE * max(normal @ light, 0))
    expected += GLOSS * max(normal @ half, 0) ** SHININESS
    assert found == pytest.approx(expected, rel=0.04)


def test_the_legend_of_adjusted_means_names_both_sexes_where_the_first_muscle_lacks_one():
    numbers = {"estimate": 0.2, "low_95": 0.1, "high_95": 0.3, "age_years": 50}
    places = [("psoas_major", "F"), ("multifidus", "F"), ("multifidus", "M")]
    rows = [
        numbers | {"outcome": outcome, "muscle": muscle, "sex": sex}
        for outcome in (CSA, FAT)
        for muscle, sex in places
    ]
    with style.applied():
        figure = draw_adjusted_means(pd.DataFrame(rows))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Women", "Men"]


def test_a_site_with_dollar_signs_is_drawn_as_it_is_written(tmp_path):
    row = {"factor": "site", "category": r"US$ \x AU$", "reference": "B", "outcome": CSA}
    row |= {"model": "alone", "muscle": "multifidus", "n_category": 9}
    row |= {"estimate": 1.0, "low_95": 0.0, "high_95": 2.0}
    points = site_effect_points(pd.DataFrame([row]))
    with style.applied():
        figure = draw_site_effects(points)
        style.write_figure(figure, points, tmp_path, "site_effects")
    assert "$" in figure.axes[0].get_yticklabels()[0].get_text()
