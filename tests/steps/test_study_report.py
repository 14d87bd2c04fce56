import json
import re
import shutil
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

import paravert
from paravert import codebook, tables
from paravert.outputs import FIGURES, MODEL_TABLES
from paravert.study import report, report_tables
from paravert.study.centiles import fit_centiles
from paravert.study.describe import write_tables
from paravert.study.drawing.model_plots import adjusted_mean_points
from paravert.study.drawing.value_plots import draw_fat_fraction, fat_points
from paravert.study.figures import model_figures, read_cohort
from paravert.study.inference import CONTRAST_COLUMNS, CSA, MEAN_COLUMNS
from paravert.study.models import fit_models
from paravert.study.ratings import COLUMNS
from paravert.study.result_tables import basis_sentences, for_sharing, write_result
from paravert.study.review import write_review
from paravert.study.selection import selection
from paravert.study.site_effects import EFFECT_COLUMNS
from paravert.study.standard_level import both_sides_at_level
from study_tables import SLICES_PER_SUBJECT, cohort_rows, write_cohort

HOSTILE = '<script>alert("x")</script>'
RUN = {"software_version": "1.2.3", "model_sha256": "ab" * 32, "run_id": "0123456789ab"}


def write_figures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in FIGURES:
        (folder / f"{name}.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
        (folder / f"{name}.png").write_bytes(b"png")
    (folder / "fig2_examples.csv").write_text("subject,slice\nS0002,1\nS0001,0\nS0001,3\n")


def write_study(home: Path, subjects: int, *, previews: bool = True) -> None:
    write_cohort(home / "cohort", subjects, quarantined=3)
    _poison(home / "cohort", subjects)
    write_tables(home / "cohort", home / "tables", bootstrap_samples=20)
    fit_models(home / "cohort", home / "tables" / "models.csv", bootstrap_samples=20)
    fit_centiles(home / "cohort", home / "tables" / "centiles.parquet")
    write_figures(home / "figures")
    for name in FIGURES.keys() & MODEL_TABLES.keys():
        shutil.copy(home / "tables" / f"{name}.csv", home / "figures")
    write_review(home / "cohort", home / "subjects", home / "review")
    settings = (Path(paravert.__file__).parent / "config/config.yaml").read_text()
    (home / "configuration.yaml").write_text(f"{settings}\nnote: '{HOSTILE}'\n")
    for number in range(1, subjects + 1):
        folder = home / "subjects" / f"S{number:04d}"
        folder.mkdir(parents=True)
        if number == 1:
            write_sagittal(folder / "review")
        if previews:
            Image.new("RGB", (1600, 1200), (number, 90, 90)).save(folder / "preview.png")


def write_sagittal(folder: Path) -> None:
    folder.mkdir()
    Image.new("L", (300, 420), 90).save(folder / "sagittal.jpg")
    lines = [[20, 400 - 60 * n, 280, 380 - 60 * n] for n in range(SLICES_PER_SUBJECT - 1)] + [None]
    (folder / "sagittal.json").write_text(json.dumps({"size": [300, 420], "lines": lines}))


def _poison(cohort: Path, subjects: int) -> None:
    """Put a hostile site and a hostile message into the tables, and the run into the metadata."""
    rows = cohort_rows(subjects, quarantined=3)
    for row in rows["subjects"]:
        row["site"] = HOSTILE
    rows["ledger"][-1]["message"] = f"found {HOSTILE}"
    for table in (codebook.SUBJECT_TABLE, codebook.LEDGER):
        data = tables.from_rows(table, rows[table.name])
        tables.write(cohort / f"{table.name}.parquet", table, data, RUN)


def make_report(home: Path, **options: str) -> str:
    out = home / "report.html"
    report.write_report(
        home / "cohort",
        home / "tables",
        home / "figures",
        home / "subjects",
        home / "review",
        home / "configuration.yaml",
        out,
        **options,
    )
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("report")
    write_study(home, 4)
    return home


@pytest.fixture(scope="module")
def page(home):
    return make_report(home)


def rows_of(page: str) -> list[str]:
    return [
        " ".join(unescape(re.sub(r"<[^>]+>", " ", row)).split())
        for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)
    ]


def test_the_report_needs_nothing_beside_it(page):
    sources = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert not re.search(r"<script|<link|@import|url\(|<iframe|<object", page)


def test_the_report_holds_no_path_of_this_machine(page, home):
    assert str(home) not in page
    assert not re.search(r'[\s"\'>](/[a-z]+){2,}', re.sub(r"data:[^\"]+", "", page))


def test_examples_have_their_sagittal_slice_with_lines_and_levels(page, home):
    figures = re.findall(
        r'<svg viewBox="-76 0 376 420".*?</svg><figcaption>(.*?)</f', page, re.DOTALL
    )
    assert figures == ["S0001"]
    assert len(re.findall(r"<line ", page)) == SLICES_PER_SUBJECT - 1
    slices = pq.read_table(home / "cohort/slices.parquet").to_pandas()
    own = slices[(slices.subject == "S0001") & (slices.slice < SLICES_PER_SUBJECT - 1)]
    assert set(re.findall(r"<text .*?>(.*?)</text>", page)) == set(own.level)


def test_a_study_without_examples_has_no_sagittal_pictures(home):
    scans = pd.DataFrame({"subject": [], "scan": []})
    assert report.sagittal_pictures(home / "cohort", home / "subjects", scans, []) == []


def test_names_of_levels_stand_apart_in_the_order_of_their_lines():
    lines = [[0, y, 9, 0] for y in (100, 90, 80, 75)] + [None]
    places = report._level_places(lines, ["L5/S1", "L5", "L4/5", "L4/5", "L4"])
    assert places == [("L4/5", 77.5), ("L5", 95.5), ("L5/S1", 113.5)]


def test_the_report_says_how_many_lumbar_vertebrae_are_assumed():
    none, some = pd.DataFrame({"subject": ["A"]}), pd.DataFrame({"n_lumbar": [5.0, 6, 6, None]})
    assert report.lumbar_note(none).endswith("all names may be one off.")
    assert report.lumbar_note(some).endswith("In this study: 6 lumbar vertebrae in 2 scans.")
    assert report.lumbar_note(some[:2]).endswith("6 lumbar vertebrae in 1 scan.")


def test_every_quarantined_subject_stands_in_the_report_with_its_reason(page, home):
    ledger = pq.read_table(home / "cohort" / "ledger.parquet").to_pylist()
    quarantined = [row for row in ledger if row["status"] == "quarantined"]
    assert len(quarantined) == 3
    for row in quarantined:
        line = next(line for line in rows_of(page) if line.startswith(row["subject"]))
        assert row["reason"] in line
        assert row["message"] in line


def test_hostile_texts_are_escaped(page):
    assert HOSTILE not in page
    assert len(re.findall(r"&lt;script&gt;alert\((&#34;|\")x\1\)&lt;/script&gt;", page)) == 2


def test_the_report_counts_flags_failures_and_agreement_of_raters(home, tmp_path):
    files = []
    for rater, verdicts in {"1": ("fail", "pass", "pass"), "2": ("fail", "fail", "pass")}.items():
        rows = [
            f"S000{n},{rater},10:30,{verdict},,,,,d{n:015x}"
            for n, verdict in enumerate(verdicts, 1)
        ]
        files.append(tmp_path / f"{rater}.csv")
        files[-1].write_text("\n".join([",".join(COLUMNS), *rows]))
    write_review(home / "cohort", home / "subjects", home / "review", ratings=files)
    lines = rows_of(make_report(home))
    assert any(
        line.startswith("low-predicted-iou Predicted IoU of a section below 0.5 0 0")
        for line in lines
    )
    assert "Scan fail 4 3 2 66.7 20.8 to 93.9" in lines
    assert any(line.startswith("1 and 2 fail or not 3 66.7 0.40") for line in lines)


def test_every_entry_of_the_contents_leads_somewhere(page):
    targets = re.findall(r'href="#([^"]+)"', page)
    assert targets == list(report.SECTIONS)
    assert set(targets) <= set(re.findall(r'id="([^"]+)"', page))


def test_the_report_says_what_was_run_and_that_it_is_not_for_patients(page):
    assert all(value in page for value in RUN.values())
    assert report.NOTICE in page


def test_table_1_stands_in_the_report_rounded_beside_the_papers_value(page, home):
    first = pd.read_csv(home / "tables" / "table1_iou.csv").iloc[0]
    line = next(line for line in rows_of(page) if line.startswith("Psoas major left 4 24"))
    assert f"{first['iou_median']:.3f}" in line
    assert "0.930" in line


def test_every_preview_is_reduced_and_inside(page):
    assert page.count('src="data:image/jpeg;base64,') == 4


def test_previews_beyond_the_limit_are_counted(home, monkeypatch):
    monkeypatch.setattr(report, "MOST_PREVIEWS", 3)
    page = make_report(home)
    assert page.count('src="data:image/jpeg') == 3
    assert "1 more previews" in page


def test_quarantined_subjects_beyond_the_limit_are_counted(home, page, monkeypatch):
    assert "more subjects: <code>" not in page
    monkeypatch.setattr(report, "MOST_QUARANTINED", 1)
    shorter = make_report(home)
    assert "2 more subjects: <code>" in shorter
    assert sum(line.startswith("S000") for line in rows_of(shorter)) == 1


def test_a_study_without_analysed_subjects_has_a_report(tmp_path):
    write_study(tmp_path, 0)
    page = make_report(tmp_path)
    assert "No analysed subjects." in page
    assert sum(line.startswith("S000") for line in rows_of(page)) == 3


def test_one_subject_without_preview_has_a_report(tmp_path):
    write_study(tmp_path, 1, previews=False)
    page = make_report(tmp_path)
    assert "No previews." in page
    assert "Fewer than two held-out subjects have a manual mask." in page  # reliability
    assert "No held-out subject has a manual mask" not in page
    told = re.sub("<[^>]*>", " ", page)
    assert not re.search(r"\b1 (subjects|rows|scans|slices|men|women|degrees)\b", told)
    assert not re.search(r"\b0 (to|degrees)\b", told)


@pytest.mark.parametrize(
    ("dixon", "note", "axis"),
    [
        (0, "Fat fractions are a fat index, from a single contrast.", "Fat index at L3/4, %"),
        (
            1,
            "1 of 3 scans by Dixon, the others a fat index; not comparable.",
            "Fat fraction at L3/4, %",
        ),
        (3, "", "Fat fraction at L3/4, %"),
    ],
)
def test_captions_and_axes_say_what_a_fat_fraction_is(tmp_path, dixon, note, axis):
    write_study(tmp_path, 3, previews=False)
    file = tmp_path / "cohort/subjects.parquet"
    table = pq.read_table(file)
    methods = ["dixon"] * dixon + ["linear"] * (3 - dixon)
    place = table.schema.get_field_index("fat_fraction_method")
    pq.write_table(table.set_column(place, table.schema.field(place), [methods]), file)
    page = make_report(tmp_path)
    captions = re.findall(
        r'<p class="caption">(.*?)</p>|<figcaption>(.*?)</figcaption>', page, re.S
    )
    told = [" ".join(pair) for pair in captions if note and note in " ".join(pair)]
    for start in ("Description of the analysed", "Cross-sectional area, volume and", "Figure 6"):
        assert any(start in text for text in told) == bool(note)
    for name in ("Along the spine", "Distributions of area"):
        assert any(name in text for text in told) == bool(note)
    cohort = read_cohort(tmp_path / "cohort")
    points = fat_points(cohort.subjects, both_sides_at_level(cohort.muscles), cohort.level)
    figure = draw_fat_fraction(points, cohort.level, cohort.fat_name)
    labels = [axes.get_ylabel() for part in figure.subfigs for axes in part.axes]
    assert axis in labels


def test_captions_count_the_scans_that_are_shown():
    people = pd.DataFrame(
        {
            "subject": np.repeat([f"S{number}" for number in range(6)], 2),
            "visit": ["1", "2"] * 6,
            "fat_fraction_method": ["dixon"] * 3 + ["linear"] * 9,
        }
    )
    notes = report.fat_notes(people)
    for name in ("cohort", "normal_values", "centiles", "distributions", "along_spine"):
        assert "2 of 6 scans by Dixon" in notes[name]
    for name in ("contrasts", "models", "change"):
        assert "3 of 12 scans by Dixon" in notes[name]


def test_the_reliability_is_told_with_the_subjects_of_the_rows_shown(home):
    file = home / "tables" / "reliability.csv"
    before = file.read_bytes()
    table = pd.read_csv(file)
    hidden = table["level"] != "all slices"
    table.loc[hidden, ["n_subjects", "n_rows", "df"]] = 2, 2, 1
    table.to_csv(file, index=False)
    told = " ".join(make_report(home).split())
    file.write_bytes(before)
    start = told.index("Two-way analysis of variance")
    assert "t with 3 degrees of freedom; 4 subjects; 4 rows." in told[start : start + 400]


def test_empty_groups_do_not_count_in_the_basis():
    row = {"estimator": "Mean", "n_subjects": 1, "n_rows": 1, "df": 0}
    frame = pd.DataFrame([row, row | {"n_subjects": 0, "n_rows": 0}])
    assert basis_sentences(frame) == ["Mean; 1 subject; 1 row."]
    more = pd.DataFrame([row, row | {"n_subjects": 2, "n_rows": 30, "df": 1}])
    assert basis_sentences(more) == [
        "Mean; t with 1 degree of freedom; 1 to 2 subjects; 1 to 30 rows."
    ]
    of_sites = frame.assign(category="A", reference="B")
    assert basis_sentences(of_sites) == ["Mean; 1 subject of a category; 1 row of a category."]


@pytest.mark.parametrize("used", [True, False])
def test_figures_of_all_slices_say_where_ranges_differ(home, used):
    note = "Means over all slices, whose ranges differ."
    coverage = pd.DataFrame({"used": [used], "note": [note]})
    for name, figure in FIGURES.items():
        caption = report._figure_caption(figure, home / "figures", coverage)
        shown = {"adjusted_means", "site_effects", "specification_curve", "distributions"}
        assert (note in caption) == (name in shown and not used), name


def test_notes_of_comparisons_are_told_once():
    rows = pd.DataFrame({"model": "m", "family": ["f", "g"], "label": "x", "unit": "mm2"})
    numbers = [
        "estimate",
        "low_95",
        "high_95",
        "p_value",
        "p_holm",
        "tests_in_family",
        "n_subjects",
    ]
    rows = rows.assign(**dict.fromkeys(numbers, 1.0), note=["b left out", "b left out; a"])
    (told,) = report_tables.contrast_texts(rows)
    assert told["note"] == "B left out. A."


def shared_comparison(n_sex):
    """Return a comparison of the sexes, and its model's term, as tables for sharing hold them."""
    row = dict.fromkeys(CONTRAST_COLUMNS, 1.0) | {"model": "m", "label": "x", "unit": "mm2"}
    row |= {"family": "sex, area", "outcome": CSA, "n_subjects": 9, "n_rows": 72}
    row |= {"n_sex": n_sex} | dict.fromkeys(("estimator", "link", "covariance", "formula", "note"))
    return for_sharing(pd.DataFrame([row]))


@pytest.mark.parametrize(("men", "shown"), [(3, False), (5, True)])
def test_a_comparison_that_sharing_leaves_out_is_told_as_such(men, shown):
    table = shared_comparison(men)
    (told,) = report_tables.contrast_texts(table)
    assert "nan" not in told["note"]
    assert ("Sex, area: not shown: fewer than 5 subjects." in told["note"]) != shown
    assert ("Not shown: fewer than 5 subjects." in told["table"]) != shown
    (model,) = report_tables.model_texts(table)
    assert ("Not shown: fewer than 5 subjects." in model["terms"]) != shown


def test_a_very_large_svg_gives_way_to_the_png(tmp_path, monkeypatch):
    write_figures(tmp_path / "figures")
    assert report.figure_uri(tmp_path / "figures", "flow").startswith("data:image/svg+xml")
    monkeypatch.setattr("paravert.study.report.LARGEST_SVG_BYTES", 10)
    assert report.figure_uri(tmp_path / "figures", "flow").startswith("data:image/png")


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1234.5678, 1, "1,234.6"), (-0.04, 1, "0.0"), (-2.5, 1, "−2.5"), (float("nan"), 1, "–")],
)
def test_numbers_are_read_with_separated_thousands_and_a_true_minus(value, digits, text):
    assert report_tables.number_text(value, digits) == text


def test_small_p_values_are_read_as_a_bound():
    assert [report_tables.p_value_text(p) for p in (0.0004, 0.04321)] == ["< 0.001", "0.043"]


def test_fat_fractions_are_read_in_percent_and_areas_in_square_millimetres(home):
    table = report_tables.cohort_text(
        pd.read_csv(home / "tables" / "cohort.csv", dtype={"unit": str})
    )
    assert "Multifidus, fat fraction at L3/4, %" in table.index
    assert "Psoas major, CSA (all slices), mm²" in table.index
    raw = pd.read_csv(home / "tables" / "cohort.csv").query("sex == 'all'").set_index("variable")
    cell = table.loc["All muscles, fat fraction (all slices), %", "All (n = 4)"]
    assert cell.startswith(f"{100 * raw.loc['fat_fraction', 'mean']:.1f} ±")


def test_one_value_stands_without_a_range_and_missing_values_are_counted(tmp_path):
    write_study(tmp_path, 1)
    frame = pd.read_csv(tmp_path / "tables" / "cohort.csv", dtype={"unit": str})
    frame.loc[frame["variable"] == "weight_kg", ["n", "missing"]] = 0, 1
    table = report_tables.cohort_text(frame)
    assert re.fullmatch(r"[\d.]+", table.loc["Age, years", "All (n = 1)"])
    assert table.loc[["Age, years", "Weight, kg"], "Missing"].tolist() == ["0", "1"]
    assert table.loc["Weight, kg", "All (n = 1)"] == "–"


@pytest.mark.parametrize(
    ("men", "shown"),
    [
        (500, ["All (n = 1,501)", "Women (n = 1,001)", "Men (n = 500)", "Missing"]),
        (3, ["Women (n = 1,001)"]),
    ],
)
def test_cells_of_a_table_for_sharing_have_no_range_and_whole_counts(home, tmp_path, men, shown):
    frame = pd.read_csv(home / "tables" / "cohort.csv", dtype={"unit": str})
    counts = {"all": 1001 + men, "F": 1001, "M": men}
    frame["n"] = frame["n_subjects"] = frame["sex"].map(counts)
    for_sharing(frame).to_csv(tmp_path / "cohort.csv", index=False)
    shared = pd.read_csv(tmp_path / "cohort.csv", dtype={"unit": str})
    table = report_tables.cohort_text(shared)
    assert list(table.columns) == shown
    assert re.fullmatch(r"[\d.]+ ± [\d.]+", table.loc["Age, years", "Women (n = 1,001)"])


@pytest.mark.parametrize("visits", [False, True])
def test_the_numbers_at_the_head_add_up(visits):
    ledger = pd.DataFrame(
        {
            "subject": ["S1", "S2", "S3", "S4"],
            "status": ["analysed", "excluded", "quarantined", "analysed"],
        }
    )
    ledger = ledger.assign(visit="1") if visits else ledger
    told = {what: number for number, what in report.counts(ledger, ledger[:2])}
    told = {what.removeprefix("scans ").removeprefix("scan "): n for what, n in told.items()}
    assert (told["analysed"], told["quarantined"], told["excluded after review"]) == ("2", "1", "1")
    without = report.counts(ledger[ledger["status"] != "excluded"], ledger[:1])
    assert all("excluded" not in what for _, what in without)


def test_a_table_that_sharing_leaves_empty_does_not_say_that_nobody_was_scored(tmp_path):
    write_study(tmp_path, 3)
    write_tables(tmp_path / "cohort", tmp_path / "tables", bootstrap_samples=20, share_tables=True)
    found = report._study_tables(tmp_path / "tables")
    assert "Not shown: fewer than 5 subjects." in found["table1_iou"]
    assert "manual mask" not in found["table1_iou"]


def test_a_caption_says_what_the_numbers_of_the_figure_rest_on(home):
    row = dict.fromkeys(MEAN_COLUMNS) | {"outcome": "csa_mean_mm2", "model": "sex and age"}
    row |= {"estimate": 1.0, "estimator": "GEE", "df": 19, "n_subjects": 22, "n_rows": 176}
    others = {"model": "adjusted", "df": 17}, {"outcome": "csa_by_level_mm2", "n_rows": 1703}
    means = pd.DataFrame([row, *(row | other for other in others)])
    drawn = home / "figures/adjusted_means.csv"
    before = drawn.read_text()
    adjusted_mean_points(means).to_csv(drawn, index=False)
    page = make_report(home)
    drawn.write_text(before)
    assert "GEE; t with 19 degrees of freedom; 22 subjects; 176 rows." in page


def test_the_report_names_study_and_date(home):
    page = make_report(home, study_name="Knees & <backs>")
    assert "<h1>Knees &amp; &lt;backs&gt;</h1>" in page
    assert report.TITLE in page
    assert re.search(r"<dt>Report of</dt><dd>\d{4}-\d{2}-\d{2}</dd>", page)


def test_the_report_tells_whose_images_gave_which_warning(page):
    (line,) = [line for line in rows_of(page) if line.startswith("spacing-tag-missing")]
    assert line == "spacing-tag-missing 1 S0003"


def test_warnings_of_analysed_subjects_are_not_those_of_quarantined_ones(tmp_path):
    write_study(tmp_path, 3)
    rows = cohort_rows(3, quarantined=3)["ledger"]
    rows[2] |= {"status": "quarantined", "stage": "segment_muscles", "reason": "process-died"}
    ledger = tables.from_rows(codebook.LEDGER, rows)
    tables.write(tmp_path / "cohort/ledger.parquet", codebook.LEDGER, ledger, RUN)
    told = [
        line for line in rows_of(make_report(tmp_path)) if line.startswith("spacing-tag-missing")
    ]
    assert told == []


def test_very_many_subjects_with_a_warning_are_counted():
    subjects = [f"S{number:03d}" for number in range(30)]
    ledger = pd.DataFrame({"subject": subjects, "warnings": [["multi-stack"]] * 30})
    row = report_tables.warnings_text(ledger).loc["multi-stack"]
    assert row["Number"] == "30"
    assert row["Subjects"].endswith("S019 and 10 more")


def test_a_long_message_is_shown_whole():
    told = "found " + "many, " * 40 + "expected one"
    ledger = {"subject": ["S1"], "reason": ["r"], "message": [told], "stage": ["convert_dicom"]}
    page = report_tables.as_html(report_tables.quarantined_text(pd.DataFrame(ledger)))
    assert told in page


def test_figures_stand_in_the_order_of_their_numbers(page):
    numbers = [int(number) for number in re.findall(r'<figure id="fig(\d)', page)]
    assert numbers == [1, 2, 3, 4, 5, 6]
    assert set(re.findall(r'<figure id="(\w+)"', page)) == set(FIGURES)


def test_words_of_the_sheet_that_look_like_numbers_or_unknown_stay_as_they_are(tmp_path):
    ledger = pd.DataFrame({"status": ["analysed", "quarantined"] * 3, "reason": "no-dicom"})
    ledger["study_group"] = ["None", "None", "01", "1", "NULL", "01"]
    write_result(tmp_path, "selection", selection(ledger), shared=False)
    shown = report_tables.selection_text(report._read_csv(tmp_path, "selection")).reset_index()
    assert shown["Category"].tolist() == ["01", "1", "NULL", "None", "no-dicom"]
    assert shown["Analysed (missing)"].tolist() == ["33 % (0)", "0 % (0)", *["33 % (0)"] * 2, "–"]
    effect = dict.fromkeys(EFFECT_COLUMNS) | {
        "factor": "site",
        "muscle": "multifidus",
        "n_category": 9,
    }
    effect |= {"outcome": CSA, "model": "alone", "estimate": 3.0, "low_95": 1.0, "high_95": 5.0}
    effects = pd.DataFrame([effect | {"category": "01", "reference": "None"}])
    write_result(tmp_path, "site_effects", effects, shared=False)
    drawn, _ = model_figures(tmp_path, SimpleNamespace(fat_name="Fat"))["site_effects"]()
    assert drawn["name"].tolist() == ["site: 01 against None"]
