"""The review page in a real Chromium: `make browser-test`."""

import csv

import pytest

from review_browser import WCAG, Page, axe_script
from review_study import HOSTILE, SUBJECTS, write_study

pytest.importorskip("selenium")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

pytestmark = pytest.mark.browser
FIELDS = ["scan", "rater", "time", "verdict", "muscle", "side", "reason", "note", "fingerprint"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("review")
    write_study(home)
    return home


@pytest.fixture
def pages(home, tmp_path):
    """Return a function that opens the page in a new browser."""
    opened = []

    def new():
        downloads = tmp_path / f"downloads{len(opened)}"
        downloads.mkdir()
        opened.append(Page(home, downloads))
        return opened[-1]

    yield new
    for page in opened:
        faults = [one["message"] for one in page.driver.get_log("browser")]
        page.driver.quit()
        assert not faults


def write_ratings(file, *rows):
    file.write_text("".join(f"{row}\r\n" for row in [",".join(FIELDS), *rows]))
    return file


def rows_of(file):
    with file.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_scans_are_sorted_by_lowest_predicted_iou_and_by_any_column(pages):
    page = pages()
    assert len(page.scans()) == SUBJECTS + 2
    assert page.scans()[:2] == ["S0003", "S0007"]
    assert set(page.scans()[-2:]) == {"S0013", "S0014"}  # nothing predicted: last
    page.find("[data-column=age] button").click()
    assert page.scans()[0] == "S0001"
    page.find("[data-column=age] button").click()
    assert page.scans()[0] == "S0014"
    assert page.find("[data-column=age]").get_attribute("aria-sort") == "descending"


def test_scans_are_filtered_by_muscle_status_age_and_site(pages):
    page = pages()
    page.find("#find-iou").send_keys("0.7")
    page.wait(lambda: page.scans() == ["S0003", "S0007"])
    Select(page.find("#find-muscle")).select_by_value("multifidus")
    page.wait(lambda: page.scans() == ["S0007"])
    page.find("#find-iou").clear()
    page.find("#find-iou").send_keys(Keys.BACKSPACE)
    Select(page.find("#find-status")).select_by_value("quarantined")
    page.wait(lambda: sorted(page.scans()) == ["S0013", "S0014"])
    Select(page.find("#find-status")).select_by_value("")
    page.find("#find-youngest").send_keys("22")
    page.find("#find-oldest").send_keys("23")
    page.wait(lambda: sorted(page.scans()) == ["S0002", "S0003"])
    Select(page.find("#find-site")).select_by_value(HOSTILE)
    page.wait(lambda: page.scans() == ["S0002"])


def test_levels_are_shown_and_filtered(pages):
    page = pages()
    Select(page.find("#find-level")).select_by_value("L1")
    page.wait(lambda: page.scans() == [])
    Select(page.find("#find-level")).select_by_value("L3/4")
    page.wait(lambda: len(page.scans()) == SUBJECTS)
    page.press("j")
    page.wait(lambda: len(page.texts("figcaption")) == 6)
    assert page.texts("figcaption")[0].endswith(", L4")


def test_a_scan_shows_all_slices_and_keys_lead_from_scan_to_scan(pages):
    page = pages()
    page.press("j")
    page.wait(lambda: page.find("#name").text == "S0003")
    page.wait(lambda: len(page.texts("figure")) == 6)
    assert page.texts("#slices td.low") == ["0.21"]
    page.press("j")
    page.wait(lambda: page.find("#name").text == "S0007")
    page.press("k")
    page.wait(lambda: page.find("#name").text == "S0003")
    page.press("c")
    assert not page.find(".contour").is_displayed()
    page.press("c")
    assert page.find(".contour").is_displayed()
    page.press("u")
    page.wait(lambda: len(page.scans()) == SUBJECTS + 2)


def test_manual_contours_stand_beside_where_there_are_any(pages):
    page = pages()
    page.open("S0001")
    page.wait(lambda: len(page.texts(".manual")) == 6)
    page.press("m")
    assert not page.find(".manual").is_displayed()
    page.open("S0004")
    page.wait(lambda: len(page.texts("figure")) == 6)
    assert not page.texts(".manual")


def test_pictures_are_loaded_and_lie_in_their_place(pages):
    page = pages()
    page.open("S0004")
    page.wait(lambda: len(page.texts("figure")) == 6)
    page.wait(lambda: page.find(".grey").value_of_css_property("background-image") != "none")
    source = page.find(".grey").value_of_css_property("background-image")[5:-2]
    size = "const p = new Image(); p.onload = () => arguments[1]([p.width, p.height]);"
    found = page.driver.execute_async_script(
        f"{size} p.onerror = () => arguments[1](null); p.src = arguments[0];", source
    )
    assert found == [6 * 384, 288]


def test_the_sagittal_picture_has_a_line_for_each_slice_and_the_levels_beside(pages, home):
    page = pages()
    page.open("S0001")
    page.wait(lambda: len(page.texts("#sagittal line")) == 5)
    slices = [caption.rpartition(", ")[2] for caption in page.texts("figcaption")]
    assert set(page.texts("#sagittal text")) == set(slices[:5])
    image = page.find("#sagittal image")
    assert image.get_attribute("href").endswith("/S0001/review/sagittal.jpg")
    assert image.rect["width"] > 200
    ActionChains(page.driver).move_to_element(page.find("figure")).perform()
    page.wait(lambda: page.texts("#sagittal .on") == [""])
    assert page.find("#sagittal .on").get_attribute("data-slice") == "0"
    page.open("S0004")
    page.wait(lambda: len(page.texts("figure")) == 6)
    assert not page.find("#sagittal").is_displayed()


def test_ratings_by_keyboard_outlive_a_reload_and_drive_export_and_import(pages):
    page = pages()
    page.set_rater("R2")
    page.press("j")
    page.wait(lambda: page.find("#name").text == "S0003")
    page.press("3")
    assert page.rated() == ["whole scan: fail"]
    Select(page.find("#reason")).select_by_value("boundary")
    page.find("#note").send_keys('low, "blurred"\nimage', Keys.TAB)
    page.press("j")
    page.wait(lambda: page.find("#name").text == "S0007")
    Select(page.find("#muscle")).select_by_value("multifidus")
    Select(page.find("#sidename")).select_by_value("left")
    page.press("2")
    assert page.rated() == ["multifidus left: correct"]
    page.open("S0003")
    page.wait(lambda: page.rated() == ['whole scan: fail, boundary, low, "blurred" image'])
    assert page.find("#progress").text == "2 of 14 scans rated"

    file = page.export()
    with file.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == FIELDS
    assert [row["scan"] for row in rows] == ["S0003", "S0007"]
    assert rows[0]["verdict"] == "fail"
    assert rows[0]["note"] == 'low, "blurred"\nimage'
    assert rows[0]["fingerprint"] == "d000000000000003"
    assert {row["rater"] for row in rows} == {"R2"}
    assert (rows[1]["muscle"], rows[1]["side"]) == ("multifidus", "left")
    assert len(rows[0]["time"]) == 5
    assert file.name == "ratings_R2.csv"

    other = pages()
    other.give(file)
    other.wait(lambda: other.find("#told").text == "Rater R2: 2 imported.")
    assert other.find("#rater").get_attribute("value") == "R2"
    assert other.export().read_bytes() == file.read_bytes()
    Select(other.find("#find-verdict")).select_by_value("fail")
    other.wait(lambda: other.scans() == ["S0003"])


def form_of(page):
    return [page.find(css).get_attribute("value") for css in ("#reason", "#note")]


def test_the_form_shows_the_reason_and_note_of_the_rating(pages):
    page = pages()
    page.open("S0007")
    page.press("3")
    page.choose("#reason", "boundary")
    page.find("#note").send_keys("left, slices 3 to 5", Keys.TAB)
    page.press("j")
    page.wait(lambda: page.find("#name").text != "S0007")
    assert form_of(page) == ["", ""]
    page.press("k")
    page.wait(lambda: page.find("#name").text == "S0007")
    assert form_of(page) == ["boundary", "left, slices 3 to 5"]
    page.press("2")
    assert page.rated() == ["whole scan: correct, boundary, left, slices 3 to 5"]
    page.open("S0007")
    page.wait(lambda: form_of(page) == ["boundary", "left, slices 3 to 5"])
    page.find("#note").send_keys("!", Keys.TAB)
    assert page.rated() == ["whole scan: correct, boundary, left, slices 3 to 5!"]
    page.choose("#muscle", "multifidus")
    assert form_of(page) == ["", ""]
    page.choose("#reason", "incomplete")
    page.choose("#sidename", "left")
    assert form_of(page) == ["incomplete", ""]  # chosen, not rated yet
    page.press("1")
    assert page.rated()[1] == "multifidus left: pass, incomplete"
    page.press("0")
    assert form_of(page) == ["", ""]


def test_letters_and_digits_are_the_pages_keys_in_lists_and_sliders(pages):
    page = pages()
    page.open("S0007")
    page.press("3")
    page.choose("#reason", "boundary")
    reason = page.find("#reason")
    reason.send_keys("2")
    assert page.rated() == ["whole scan: correct, boundary"]
    reason.send_keys("w")  # wrong-muscle: no entry is chosen by its letter
    reason.send_keys("n")
    page.wait(lambda: page.find("#name").text != "S0007")
    page.open("S0007")
    page.wait(lambda: page.rated() == ["whole scan: correct, boundary"])
    reason = page.find("#reason")
    reason.send_keys(Keys.ARROW_DOWN)
    assert page.rated() == ["whole scan: correct, incomplete"]
    reason.send_keys(Keys.ARROW_RIGHT)
    assert page.find("#name").text == "S0007"
    zoom = page.find("#zoom")
    zoom.send_keys(Keys.ARROW_RIGHT)
    assert (zoom.get_attribute("value"), page.find("#name").text) == ("320", "S0007")
    zoom.send_keys("1")
    assert page.rated()[0].startswith("whole scan: pass")
    page.find("#note").send_keys("j3", Keys.ESCAPE)
    assert page.rated()[0].endswith(", j3")
    page.press("u")
    page.wait(lambda: page.find("#list").is_displayed())
    page.find("#find-scan").send_keys("n1")
    assert page.find("#list").is_displayed()


def test_a_rating_is_taken_back_with_0(pages):
    page = pages()
    page.open("S0004")
    page.press("1")
    assert page.rated() == ["whole scan: pass"]
    page.press("0")
    assert page.rated() == []


OLD = "feedfeedfeedfeed"  # digest of labels that are no more


def test_a_rating_of_labels_that_have_changed_is_told_and_counts_as_none(pages, tmp_path):
    page = pages()
    page.give(
        write_ratings(
            tmp_path / "ratings.csv",
            f"S0003,A,10:00,fail,,,boundary,low,{OLD}",
            "S0007,A,10:00,pass,,,,,d000000000000007",
        )
    )
    page.wait(lambda: page.find("#told").text.endswith(": 2 imported."))
    assert page.find("#progress").text == "1 of 14 scans rated"
    page.choose("#find-verdict", "fail")
    page.wait(lambda: page.scans() == [])
    page.choose("#find-verdict", "unrated")
    page.wait(lambda: len(page.scans()) == SUBJECTS + 1 and "S0003" in page.scans())
    page.press("n")
    page.wait(lambda: page.find("#name").text == "S0003")
    assert page.rated() == ["whole scan: fail, boundary, low – the labels have changed since"]
    assert page.find("[data-verdict=fail]").get_attribute("aria-pressed") == "false"
    page.find("#note").send_keys("of the new labels", Keys.TAB)  # no verdict on the new labels
    assert page.find("#progress").text == "1 of 14 scans rated"
    page.press("1")
    assert page.rated() == ["whole scan: pass, of the new labels"]


def test_rating_a_scan_anew_drops_what_this_rater_said_of_its_older_labels(pages, tmp_path):
    rows = [
        f"S0003,A,10:00,fail,multifidus,left,,,{OLD}",
        f"S0003,A,10:00,correct,,,,,{OLD}",
        f"S0004,A,10:00,correct,,,,,{OLD}",
    ]
    page = pages()
    page.give(write_ratings(tmp_path / "a.csv", *rows))
    page.wait(lambda: page.find("#told").text.endswith(": 3 imported."))
    page.set_rater("B")
    page.give(write_ratings(tmp_path / "b.csv", f"S0003,B,10:00,fail,,,,,{OLD}"))
    page.wait(lambda: page.find("#told").text.endswith(": 1 imported."))
    page.set_rater("A")
    page.open("S0003")
    page.choose("#muscle", "psoas_major")
    page.press("1")
    assert page.rated() == ["psoas major: pass"]
    assert [(row["scan"], row["fingerprint"]) for row in rows_of(page.export())] == [
        ("S0003", "d000000000000003"),
        ("S0004", OLD),
    ]
    page.set_rater("B")
    assert page.rated() == ["whole scan: fail – the labels have changed since"]


def test_ratings_of_two_raters_are_not_mixed(pages, tmp_path):
    file = write_ratings(tmp_path / "ratings.csv", "S0003,B,10:00,fail,,,,,d000000000000003")
    page = pages()
    page.open("S0004")
    page.press("1")
    page.give(file)
    page.wait(lambda: "nothing imported" in page.find("#told").text)
    assert page.find("#progress").text == "1 of 14 scans rated"
    page.set_rater("B")
    page.give(file)
    page.wait(lambda: page.find("#told").text == "Rater B: 1 imported.")
    assert [row["scan"] for row in rows_of(page.export())] == ["S0003"]


def test_a_file_that_a_spreadsheet_saved_is_imported_or_refused(pages, tmp_path):
    page = pages()
    row = 'S0003;A;10:00;fail;;;;"low, ""left""";d000000000000003'
    file = tmp_path / "ratings.csv"
    file.write_text(f"{';'.join(FIELDS)}\r\n{row}\r\n", encoding="utf-8-sig")
    page.give(file)
    page.wait(lambda: page.find("#told").text == "Rater A: 1 imported.")
    assert rows_of(page.export())[0]["note"] == 'low, "left"'
    file.write_text(f"{';'.join(FIELDS)}\r\nS0004;A;10:00;fail;;;;;1,23457E+15\r\n")
    page.give(file)
    page.wait(lambda: "1,23457E+15 of S0004. Spreadsheets" in page.find("#told").text)


def test_an_import_asks_before_it_replaces_ratings(pages, tmp_path):
    rows = [  # S0003 is rated alike here, S0004 and S0005 otherwise, S0006 not
        "S0003,A,08:00,fail,,,,,d000000000000003",
        "S0004,A,08:00,pass,,,,,d000000000000004",
        "S0005,A,08:00,fail,,,other,,d000000000000005",
        "S0006,A,08:00,pass,,,,,d000000000000006",
        f"S0003,A,08:00,pass,multifidus,,,,{OLD}",
        "S9999,A,08:00,pass,,,,,d000000000009999",
    ]
    file = write_ratings(tmp_path / "ratings.csv", *rows)
    page = pages()
    for scan in ("S0003", "S0004", "S0005"):
        page.open(scan)
        page.press("3")

    def verdicts():
        return [(row["scan"], row["verdict"], row["reason"]) for row in rows_of(page.export())]

    asked = "Ratings that differ from those here: 2. Replace those here? Cancel keeps them."
    left_out = "1 left out: the labels have changed since; 1 left out: scan or verdict unknown."
    page.give(file)
    question = page.wait_for_question()
    assert question.text == asked
    question.dismiss()
    told = f"Rater A: 1 imported; 2 kept as here; 1 equal to those here; {left_out}"
    page.wait(lambda: page.find("#told").text == told)
    here = [("S0003", "fail", ""), ("S0004", "fail", ""), ("S0005", "fail", "")]
    assert verdicts() == [*here, ("S0006", "pass", "")]
    page.give(file)
    page.wait_for_question().accept()
    told = f"Rater A: 2 replaced; 2 equal to those here; {left_out}"
    page.wait(lambda: page.find("#told").text == told)
    assert verdicts() == [
        ("S0003", "fail", ""),
        ("S0004", "pass", ""),
        ("S0005", "fail", "other"),
        ("S0006", "pass", ""),
    ]
    page.give(file)  # nothing differs: no question
    page.wait(lambda: page.find("#told").text == f"Rater A: 4 equal to those here; {left_out}")


def test_a_rating_of_changed_labels_is_replaced_by_an_import_without_a_question(pages, tmp_path):
    page = pages()
    page.give(write_ratings(tmp_path / "old.csv", f"S0003,A,10:00,fail,,,,,{OLD}"))
    page.wait(lambda: page.find("#told").text == "Rater A: 1 imported.")
    row = "S0003,A,10:00,pass,multifidus,,,,d000000000000003"
    page.give(write_ratings(tmp_path / "new.csv", row, "S0003,A,10:00,pass,,,,,d000000000000003"))
    page.wait(lambda: page.find("#told").text == "Rater A: 2 imported.")
    assert [row["verdict"] for row in rows_of(page.export())] == ["pass", "pass"]


def open_second_tab(page, scan):
    page.driver.switch_to.new_window("tab")
    page.open(scan)
    page.wait(lambda: page.find("#name").text == scan)
    return page.driver.current_window_handle


def test_two_tabs_keep_each_others_ratings_and_show_them(pages):
    page = pages()
    page.open("S0004")
    first = page.driver.current_window_handle
    second = open_second_tab(page, "S0005")
    page.press("3")
    page.driver.switch_to.window(first)
    page.wait(lambda: page.find("#progress").text == "1 of 14 scans rated")
    page.find("#note").send_keys("typed before the rating")
    page.driver.switch_to.window(second)
    page.open("S0006")
    page.press("2")
    page.driver.switch_to.window(first)
    page.wait(lambda: page.find("#progress").text == "2 of 14 scans rated")
    page.find("#note").send_keys(Keys.TAB)
    page.press("1")
    assert page.rated() == ["whole scan: pass, typed before the rating"]
    assert page.find("#progress").text == "3 of 14 scans rated"
    page.press("u")
    page.wait(lambda: sorted(page.texts("td.text[class*=verdict]")) == ["correct", "fail", "pass"])
    page.driver.switch_to.window(second)
    page.press("0")
    page.driver.switch_to.window(first)
    page.wait(lambda: sorted(page.texts("td.text[class*=verdict]")) == ["fail", "pass"])
    assert [row["scan"] for row in rows_of(page.export())] == ["S0004", "S0005"]


# A change of the store by the same tab sends it no event: here it stands for one of another tab.
RATE_ELSEWHERE = """
const key = "paravert-ratings:" + location.pathname, kept = JSON.parse(localStorage.getItem(key));
const rating = { ...Object.values(kept.ratings)[0], scan: arguments[0], fingerprint: arguments[1] };
kept.ratings[arguments[0]] = rating;
localStorage.setItem(key, JSON.stringify(kept));
"""


def test_ratings_are_read_before_every_change_and_export(pages, tmp_path):
    page = pages()

    def rate_elsewhere(number):
        page.driver.execute_script(RATE_ELSEWHERE, f"S{number:04d}", f"d{number:015d}")

    page.open("S0001")
    page.press("1")
    rate_elsewhere(2)
    page.press("3")
    assert page.find("#progress").text == "2 of 14 scans rated"
    rate_elsewhere(3)
    page.press("0")
    assert page.find("#progress").text == "2 of 14 scans rated"
    rate_elsewhere(4)
    page.set_rater("B")
    page.set_rater("A")
    assert page.find("#progress").text == "3 of 14 scans rated"
    rate_elsewhere(5)
    page.give(write_ratings(tmp_path / "a.csv", "S0006,A,10:00,fail,,,,,d000000000000006"))
    page.wait(lambda: page.find("#told").text == "Rater A: 1 imported.")
    assert page.find("#progress").text == "5 of 14 scans rated"
    rate_elsewhere(7)
    scans = [row["scan"] for row in rows_of(page.export())]
    assert scans == ["S0002", "S0003", "S0004", "S0005", "S0006", "S0007"]


def test_each_rater_has_ratings_of_their_own(pages):
    page = pages()
    page.open("S0004")
    page.press("3")
    page.set_rater("B")
    assert page.find("#told").text == "Rater B: 0 ratings. Rater A keeps 1 rating."
    assert page.rated() == []
    assert page.find("#progress").text == "0 of 14 scans rated"
    assert page.find("[data-verdict=fail]").get_attribute("aria-pressed") == "false"
    page.press("1")
    page.open("S0005")
    page.press("1")
    assert [(row["scan"], row["rater"], row["verdict"]) for row in rows_of(page.export())] == [
        ("S0004", "B", "pass"),
        ("S0005", "B", "pass"),
    ]
    page.set_rater("A")
    assert page.find("#told").text == "Rater A: 1 rating. Rater B keeps 2 ratings."
    page.open("S0004")
    page.wait(lambda: page.rated() == ["whole scan: fail"])
    (row,) = rows_of(page.export())
    assert (row["scan"], row["rater"], row["verdict"]) == ("S0004", "A", "fail")


def test_names_of_rules_are_no_raters(pages, tmp_path):
    page = pages()
    for name in ("any", "all", "ALL", "a b", ""):
        page.set_rater(name or Keys.BACKSPACE)
        assert "any and all are rules" in page.find("#told").text
        assert page.find("#rater").get_attribute("value") == "A"
    page.give(write_ratings(tmp_path / "ratings.csv", "S0003,all,10:00,fail,,,,,d000000000000003"))
    page.wait(lambda: page.find("#told").text.startswith("Expected the ratings of one rater"))
    page.set_rater("anyone")
    assert page.find("#told").text.startswith("Rater anyone: 0 ratings.")


def test_ratings_that_an_older_page_kept_are_read(pages):
    page = pages()
    page.driver.execute_script(
        'const rating = { scan: "S0003", rater: "K1", time: "10:00", verdict: "fail", muscle: "multifidus", side: "left",'
        ' reason: "boundary", note: "low", fingerprint: "d000000000000003" };'
        'const kept = { rater: "K1", ratings: { "S0003|multifidus|left": rating } };'
        'localStorage.setItem("paravert-ratings:" + location.pathname, JSON.stringify(kept));'
    )
    page.open("S0003")
    page.wait(lambda: page.rated() == ["multifidus left: fail, boundary, low"])
    assert page.find("#rater").get_attribute("value") == "K1"
    page.choose("#muscle", "multifidus")
    page.choose("#sidename", "left")
    page.press("2")
    page.set_rater("B")
    page.set_rater("K1")
    assert page.rated() == ["multifidus left: correct, boundary, low"]
    (row,) = rows_of(page.export())
    assert (row["rater"], row["verdict"]) == ("K1", "correct")


def test_html_in_the_data_is_text(pages):
    page = pages()
    assert page.driver.title == f"Review: Test {HOSTILE}"
    page.open("S0002")
    page.wait(lambda: HOSTILE in page.texts("#facts dd"))
    assert not page.driver.find_elements(By.CSS_SELECTOR, "main img, main script")
    assert page.driver.title == f"Review: Test {HOSTILE}"


def test_one_visit_of_a_subject_is_rated_alone(tmp_path):
    write_study(tmp_path, visits=True)
    page = Page(tmp_path, tmp_path)
    try:
        assert page.scans()[:2] == ["P2_1", "P4_1"]
        page.open("P2_1")
        page.wait(lambda: len(page.texts("figure")) == 6)
        page.wait(lambda: page.find(".grey").value_of_css_property("background-image") != "none")
        assert "/P2_1/" in page.find(".grey").value_of_css_property("background-image")
        page.press("3")
        with page.export().open(newline="", encoding="utf-8") as handle:
            (row,) = csv.DictReader(handle)
        assert (row["scan"], row["fingerprint"]) == ("P2_1", "d000000000000003")
        page.open("P2_2")
        page.wait(lambda: page.find("#name").text == "P2_2")
        assert page.rated() == []
    finally:
        page.driver.quit()


def test_the_reading_list_is_blind_and_its_ratings_are_those_of_the_scans(pages, home):
    listed = [
        line.split(",")[0] for line in (home / "review/reading_list.csv").read_text().split()
    ][1:]
    page = pages()
    page.find("#reading").click()
    page.wait(lambda: page.scans() == [f"Reading {n + 1}" for n in range(len(listed))])
    shown = page.find("body").text
    assert not any(word in shown for word in [*listed, "analysed", "0.90", "0.21", "spacing"])
    page.press("j")
    page.wait(lambda: len(page.texts("figure")) == 6)
    assert page.find("#name").text == "Reading 1"
    shown = page.find("body").text
    assert not any(word in shown for word in [*listed, "analysed", "0.90", "0.21", "IoU", "Ulm"])
    assert "/S" not in page.driver.current_url.rpartition("index.html")[2]
    page.press("3", "j")
    page.wait(lambda: page.find("#name").text == "Reading 2")
    assert page.find("#position").text == f"2 of {len(listed)} in the order of the reading list"
    page.press("1", "k", "n")
    page.wait(lambda: page.find("#name").text == "Reading 3")
    page.press("u")
    page.wait(lambda: page.texts("#scans tbody td:last-child")[:3] == ["fail", "pass", ""])
    page.find("#reading").click()
    page.wait(lambda: len(page.scans()) == SUBJECTS + 2)
    with page.export().open(newline="", encoding="utf-8") as handle:
        rows = {row["scan"]: row["verdict"] for row in csv.DictReader(handle)}
    assert rows == {listed[0]: "fail", listed[1]: "pass"}


def test_a_scan_without_labels_is_not_rated(pages):
    page = pages()
    page.open("S0013")
    page.press("1")
    assert "without labels" in page.find("#told").text


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    return axe_script(tmp_path_factory.mktemp("axe"))


@pytest.mark.parametrize("place", ["", "S0001", "S0003", "S0013", "/reading", "/reading/1"])
def test_the_page_meets_wcag_aa(pages, axe, place):
    page = pages()
    page.open(place)
    if place[:5] in ("S0001", "S0003", "/read"):
        page.press("1")
    assert not faults_of(page, axe)


def faults_of(page, axe):
    """Return the faults that axe-core finds: id of the rule and elements."""
    page.driver.execute_script(axe)
    found = page.driver.execute_async_script(
        "axe.run({runOnly: arguments[0]}).then(arguments[1]);", WCAG
    )
    assert len(found["passes"]) > 10
    return {one["id"]: [node["html"] for node in one["nodes"]] for one in found["violations"]}


def test_planted_faults_are_found(pages, axe):
    page = pages()
    page.driver.execute_script(
        'byId("progress").style.color = "#aaa"; byId("find-iou").parentElement.replaceWith(byId("find-iou"));'
    )
    assert set(faults_of(page, axe)) == {"color-contrast", "label"}


def test_everything_can_be_reached_by_keyboard_in_the_order_of_the_page(pages):
    page = pages()
    page.open("S0003")
    page.wait(lambda: len(page.texts("figure")) == 6)
    reached = []
    for _ in range(40):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(page.driver.switch_to.active_element.get_attribute("id"))
    order = ["rater", "export", "import", "back", "previous", "next", "unrated", "contours", "zoom"]
    order += ["brightness", "contrast", "muscle", "sidename", "reason", "note"]
    places = [reached.index(name) for name in order if name != "previous"]
    assert places == sorted(places)
