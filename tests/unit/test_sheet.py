from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from paravert import sheet as sheet_module
from paravert.errors import InputError
from paravert.sheet import read_sheet


@pytest.fixture
def sheet(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "subjects.tsv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def faults(path):
    with pytest.raises(InputError) as caught:
        read_sheet(path)
    return str(caught.value)


@pytest.mark.parametrize("delimiter", ["\t", ","])
def test_tabs_and_commas_read_alike(sheet, delimiter):
    text = "subject|images|sex|age_years\nS1|a b|F|\n\n S2 | c|M|40.5\n".replace("|", delimiter)
    rows = read_sheet(sheet(text))
    assert [row["subject"] for row in rows] == ["S1", "S2"]
    assert rows[0]["age_years"] == ""
    assert rows[1]["age_years"] == "40.5"
    assert rows[0]["site"] == ""


def test_paths_are_relative_to_the_sheet(sheet):
    path = sheet("subject\timages\ttruth\nS1\tdicom/one\t\n")
    row = read_sheet(path)[0]
    assert Path(row["images"]) == path.parent / "dicom/one"
    assert row["truth"] == ""


def test_a_byte_order_mark_is_no_part_of_the_first_column(sheet):
    assert read_sheet(sheet("subject,images\nS1,a\n", "utf-8-sig"))[0]["subject"] == "S1"


def test_every_fault_is_told_with_its_line(sheet):
    told = faults(
        sheet(
            "subject,images,sex,age_years,height_cm\nS1,a,F,30,170\nS 2,b,W,30,170\nS1,,M,old,17\n"
        )
    )
    assert "line 3: subject is 'S 2', expected a pseudonym" in told
    assert "line 3: sex is 'W', expected F or M" in told
    assert "line 4: subject S1 is already on line 2" in told
    assert "line 4: images is empty" in told
    assert "line 4: age_years is 'old', expected years, 0 to 120" in told
    assert "line 4: height_cm is 17.0, expected centimetres, 30 to 250" in told
    assert "6 faults" in told


def test_names_that_one_folder_would_hold_on_some_disks_are_twice_the_same(sheet):
    assert "already on line 2" in faults(sheet("subject,images\ns1,a\nS1,b\n"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("subject,image\nS1,a\n", "no column images; unknown column 'image'"),
        ("subject,images,images\nS1,a,a\n", "column images twice"),
        ("subject,images\n", "no subjects"),
        ("", "no column subject"),
        ("subject,images\nS1,a,b\n", "line 2: 3 cells, expected 2"),
    ],
)
def test_a_faulty_header_or_body_is_told(sheet, text, told):
    assert told in faults(sheet(text))


def test_a_missing_or_foreign_file_is_told(tmp_path, sheet):
    assert "no such file" in faults(tmp_path / "none.tsv")
    assert "not UTF-8" in faults(sheet("subject,images,site\nS1,a,Köln\n", "latin-1"))


CELLS = [
    *("S1", "s-1_x", "-S1", "S 1", "S1\n", "ü", "x" * 64, "x" * 65, "a/b", "~"),
    *("F", "M", "f", "FM", "0", "-1", "119.99", "120", "120.1", "1e3", "30", "29.9", "250", "251"),
    *("2", "1.99", "400", "400.5", "nan", "1.", ".5", "+1", "٣٠", "1,5"),
]


@pytest.mark.parametrize("column", sheet_module._schema()["properties"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_quick_check_of_a_cell_is_that_of_the_schema(column, cell):
    row = {"subject": "S1", "images": "a"} | {column: cell}
    validator = Draft202012Validator(sheet_module._schema())
    allowed = validator.is_valid(sheet_module._typed(row))
    assert bool(sheet_module._cell_checks()[column](cell)) == allowed


def test_the_quick_check_knows_every_word_of_the_schema():
    known = {"type", "pattern", "enum", "minimum", "maximum", "description"}
    for column in sheet_module._schema()["properties"].values():
        assert set(column) <= known
        assert column.get("type", "string") in ("string", "number")
        assert (column.get("type") == "number") == {"minimum", "maximum"}.issubset(column)


def test_a_sheet_of_very_many_subjects_is_checked_to_its_last_line(sheet):
    lines = [f"S{number},images/{number},F" for number in range(5000)]
    told = faults(sheet("\n".join(["subject,images,sex", *lines, "S5000,a,W", "S7,b,F"])))
    assert "line 5002: sex is 'W', expected F or M" in told
    assert "line 5003: subject S7 is already on line 9" in told
    assert "2 faults" in told
