import gzip
import io
import re
import zipfile
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from paravert import sheet as sheet_module
from paravert import sheet_file
from paravert.errors import InputError
from paravert.sheet import read_sheet


def rows_of(path):
    return read_sheet(path).rows


def faults(path):
    with pytest.raises(InputError) as caught:
        read_sheet(path)
    return str(caught.value)


@pytest.mark.parametrize("delimiter", ["\t", ",", ";"])
def test_tabs_commas_and_semicolons_read_alike(sheet, delimiter):
    text = "subject|images|sex|age_years\nS1|a b|F|\n\n S2 | c|M|40.5\n".replace("|", delimiter)
    rows = rows_of(sheet(text))
    assert [row["subject"] for row in rows] == ["S1", "S2"]
    assert rows[0]["age_years"] == ""
    assert rows[1]["age_years"] == "40.5"
    assert rows[0]["site"] == ""


@pytest.mark.parametrize("images", ["images,", ""])
def test_the_fat_image_is_the_image_where_water_and_fat_stand_alone(sheet, images):
    empty = images and ","
    path = sheet(f"subject,{images}water,fat\nS1,{empty}w.nii,f.nii\n")
    (row,) = rows_of(path)
    assert Path(row["images"]) == Path(row["fat"]) == path.parent / "f.nii"
    assert Path(row["water"]) == path.parent / "w.nii"
    assert "line 2, images: empty" in faults(sheet("subject,images,water,fat\nS1,,w.nii,\n"))


def test_an_absent_dixon_part_is_told_at_its_cell_where_there_is_no_column_images(sheet):
    told = faults(sheet("subject,Water,Fat\nS1,w,f\nS2,w,\nS3,NA,f\nS4,,\n"))
    assert [line.strip() for line in told.splitlines()[1:]] == [
        "line 3, Fat: empty, expected the fat image because water is given",
        "line 4, Water: empty, expected the water image because fat is given",
        "line 5, Water: empty, expected the water image because the sheet has no column images",
        "line 5, Fat: empty, expected the fat image because the sheet has no column images",
    ]
    (row,) = rows_of(sheet("subject,images,water,fat\nS1,a,w.nii,\n"))  # a reason of the subject
    assert (Path(row["images"]).name, row["fat"]) == ("a", "")


def test_paths_are_relative_to_the_sheet(sheet):
    path = sheet("subject\timages\ttruth\nS1\tdicom/one\t\n")
    row = rows_of(path)[0]
    assert Path(row["images"]) == path.parent / "dicom/one"
    assert row["truth"] == ""


def test_a_byte_order_mark_is_no_part_of_the_first_column(sheet):
    assert rows_of(sheet("subject,images\nS1,a\n", "utf-8-sig"))[0]["subject"] == "S1"


def test_every_fault_is_told_with_its_line(sheet):
    told = faults(
        sheet(
            "subject,images,sex,age_years,height_cm\nS1,a,F,30,170\nS 2,b,X,30,170\nS1,,M,old,17\n"
        )
    )
    lines = told.splitlines()
    assert lines[0].endswith("subjects.tsv: 6 faults in the subject sheet:")
    for line, start in zip(
        lines[1:],
        (
            "line 3, subject: 'S 2', expected a pseudonym",
            "line 3, sex: 'X', expected F or M",
            "line 4, subject: 'S1' is already on line 2, expected each subject once",
            "line 4, images: empty, expected a folder",
            "line 4, age_years: 'old', expected years, 0 to 120",
            "line 4, height_cm: '17', expected centimetres, 30 to 250",
        ),
        strict=True,
    ):
        assert line.startswith(f"  {start}")


def test_names_that_one_folder_would_hold_on_some_disks_are_twice_the_same(sheet):
    assert "already on line 2" in faults(sheet("subject,images\ns1,a\nS1,b\n"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "subject,image\nS1,a\n",
            "line 1: column image is unknown, did you mean images?",
        ),
        (
            "subject,images,Images\nS1,a,a\n",
            "line 1, Images: also the name of column 2, expected each",
        ),
        ("subject,images,Age,AGE\nS1,a,,\n", "line 1, AGE: also the name of column 3"),
        (
            "subject,images,\nS1,a,b\n",
            "line 1, column 3: no name, expected one: the column has values",
        ),
        (
            "subject,images,Status\nS1,a,b\n",
            "line 1, Status: the name of a column of the cohort tables",
        ),
        ("subject,images,SIDE\nS1,a,b\n", "line 1, SIDE: the name of a column of the"),
        ("subject,images\n", "no subjects"),
        ("", "an empty file"),
        ("\n \t\r\n", "an empty file"),
        ("subject\n", "no column images"),
        ("subject,images\nS1,a,b\n", "line 2: 3 cells, expected 2"),
        (
            "subject,images,truth2\nS1,a,m\n",
            "line 2, truth2: second masks alone, expected the first",
        ),
        ("subject,images,Truth2,truth\nS1,a,m,\n", "line 2, Truth2: second masks alone"),
    ],
)
def test_a_faulty_header_or_body_is_told(sheet, text, told):
    assert told in faults(sheet(text))


def test_a_missing_or_foreign_file_is_told(tmp_path, sheet):
    assert "no such file" in faults(tmp_path / "none.tsv")
    assert "a folder, expected the subject sheet" in faults(tmp_path)


def archive():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    return content.getvalue()


TEXT = "subject,images\r\nS1,a\r\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (archive(), "a damaged Excel workbook or another zip archive"),
        (b"PK\x03\x04" + bytes(100), "a damaged Excel workbook or another zip archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "an old Excel workbook"),
        (
            TEXT.encode("utf-16-le"),
            "UTF-16 without a byte order mark (or a binary file), expected text",
        ),
        (
            TEXT.encode("utf-16-be"),
            "UTF-16 without a byte order mark (or a binary file), expected text",
        ),
        (
            TEXT.encode("utf-32"),
            "UTF-16 without a byte order mark (or a binary file), expected text",
        ),
        (TEXT.encode("utf-16") + b"a", "line 3 is not UTF-16; save the sheet as CSV, UTF-8"),
        (TEXT.encode("utf-16")[:-20] + TEXT.encode("utf-16")[-19:] + b"a", "is damaged UTF-16"),
        (
            "subject,images,site\nS1,a,ü\nS2,".encode() + b"b,\xfc",
            "line 3 is not UTF-8, but other text",
        ),
        (b"\xef\xbb\xbfsubject,images\nS1,\xfc", "line 2 is not UTF-8, but other text is"),
        (b"subject,images\nS1,\x81", "line 2 is not UTF-8 or Windows-1252"),
        (gzip.compress(TEXT.encode(), mtime=0), "a binary file, expected text"),
        (b"", "an empty file, expected a header line"),
        (b"\xef\xbb\xbf", "an empty file, expected a header line"),
    ],
)
def test_a_file_that_is_no_text_is_told_in_one_sentence(tmp_path, content, told):
    path = tmp_path / "sheet.csv"
    path.write_bytes(content)
    assert told in faults(path)
    assert "\n" not in faults(path)


def test_a_file_too_large_for_a_sheet_is_not_read(tmp_path):
    path = tmp_path / "sheet.csv"
    with path.open("wb") as file:
        file.truncate(sheet_file.SHEET_LIMIT_BYTES + 1)
    assert "more than 128 MiB" in faults(path)


# --- no line swallows another --------------------------------------------------------------------


def forty_lines(spoilt, delimiter="\t"):
    """Return a sheet of 40 subjects, of which line 11 reads as given, and its number of lines."""
    lines = [f"S{number}|images/{number}|F|a place" for number in range(40)]
    lines[9] = spoilt
    return "\n".join(["subject|images|sex|site", *lines, ""]).replace("|", delimiter)


@pytest.mark.parametrize("delimiter", ["\t", ","])
@pytest.mark.parametrize(
    ("line", "column"),
    [
        ('"S9|images/9|F|a place', "subject"),
        ('S9|"images/9|F|a place', "images"),
        ('S9| "images/9|F|', "images"),
        ('S9|images/9|F|"a ""place""', "site"),
        ('S9|"images"/9|F|a place', "images"),
        ('"S9"|images/9|"F" |"a place"', "sex"),
    ],
)
def test_a_quote_that_does_not_close_is_a_fault_of_its_line_alone(sheet, line, column, delimiter):
    told = faults(sheet(forty_lines(line, delimiter)))
    assert f"line 11, {column}: a quote that does not close at the end of its cell" in told
    assert "1 fault in" in told


@pytest.mark.parametrize("delimiter", ["\t", ","])
def test_quoted_cells_are_read_as_they_were_written(sheet, delimiter):
    rows = rows_of(sheet(forty_lines('"S9"| "images/9"|F|"of ""Ulm"", A"', delimiter)))
    assert len(rows) == 40
    assert Path(rows[9]["images"]).name == "9"
    assert rows[9]["site"] == 'of "Ulm", A'


def test_a_line_break_in_quotes_is_a_fault_and_joins_no_path(sheet):
    told = faults(sheet('subject,images\nS1,"a\nb"\nS2,c\n'))
    assert "line 2, images: a quote that does not close" in told
    assert "line 3, subject: 'b\"', expected a pseudonym" in told
    assert "line 4" not in told


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_each_kind_of_line_end_makes_as_many_rows_as_lines(sheet, end):
    rows = rows_of(sheet(end.join(["subject,images", "S1,a", "", "S2,b", "S3,c"])))
    assert [row["subject"] for row in rows] == ["S1", "S2", "S3"]


UNSEEN = "\0\x01\x0b\x0c\x1b\x1c\x1d\x1e\x7f\x85\u200b\u2028\u2029\ufeff"


@pytest.mark.parametrize("unseen", UNSEEN, ids=lambda unseen: f"U+{ord(unseen):04X}")
@pytest.mark.parametrize("place", ["{}a place", "a{}place", "a place{}"])
def test_a_control_character_is_a_fault_of_its_cell_and_makes_no_row(sheet, unseen, place):
    told = faults(sheet(forty_lines(f"S9|images/9|F|{place.format(unseen)}")))
    assert f"line 11, site: the control character U+{ord(unseen):04X}, expected text" in told
    assert "1 fault in" in told


def test_a_tab_in_a_cell_is_a_fault_and_around_it_is_none(sheet):
    rows = rows_of(sheet("subject,images,site\nS1\t,\ta,\u00a0b\n"))
    assert (rows[0]["subject"], rows[0]["site"]) == ("S1", "b")
    assert Path(rows[0]["images"]).name == "a"
    told = faults(sheet("subject,images\nS1,a\tb\n"))
    assert "line 2, images: the control character U+0009 (tab)" in told
    assert "U+0009 (tab)" in faults(sheet('subject\timages\nS1\t"a\tb"\n'))


def test_a_cell_longer_than_any_path_is_a_fault(sheet):
    longest = sheet_file.CELL_LIMIT
    assert len(rows_of(sheet(f"subject,images,site\nS1,a,{'x' * longest}\n"))) == 1
    told = faults(sheet(f"subject,images,site\nS1,a,{'x' * (longest + 1)}\nS2,b,c\n"))
    assert "line 2, site: 4097 characters, expected at most 4096" in told
    told = faults(sheet(f"subject,images\nS1,{'x' * 200_000}\nS2,,\n"))
    assert "line 2: 200003 characters, expected at most 65536" in told
    assert "line 3: 3 cells, expected 2" in told


def test_faults_of_all_kinds_are_told_in_the_order_of_the_lines(sheet):
    told = faults(sheet('subject,images,sex\nS1,a,X\n"S2,b,F\nS3,\x0b,F\nS1,c,F\nS5,d,F,e\n'))
    places = re.findall(r"line \d", told.replace("already on line", ""))
    assert places == [f"line {number}" for number in range(2, 7)]
    assert "5 faults" in told


def test_very_many_faults_are_counted_and_the_first_are_told(sheet):
    told = faults(sheet("\n".join(["subject,images", *(f"S {n},a" for n in range(1000))])))
    assert "1000 faults" in told
    assert "line 51, subject: 'S 49'" in told
    assert "line 52" not in told
    assert told.endswith("and 950 more")


def test_a_faulty_cell_is_shown_by_its_beginning(sheet):
    told = faults(sheet(f"subject,images\n{'x' * 4000},a\n"))
    assert "(4000 characters), expected a pseudonym" in told
    assert len(told) < 500


CELLS = [
    *("S1", "s-1_x", "-S1", "S 1", "S1\n", "ü", "x" * 16, "x" * 64, "x" * 65, "a/b", "~"),
    *("F", "M", "f", "FM", "0", "-1", "119.99", "120", "120.1", "1e3", "30", "29.9", "250", "251"),
    *("2", "1.99", "400", "400.5", "nan", "inf", "1.", ".5", "+1", "٣٠", "1_0", "1e999"),
]


@pytest.mark.parametrize("column", sheet_module._properties())
def test_a_cell_fits_if_it_fits_the_schema(column):
    schema, check = Draft202012Validator(sheet_module._schema()), sheet_module._cell_check(column)
    for cell in CELLS:
        value = float(cell) if sheet_module.is_number(cell) else cell
        value = value if column in sheet_module.NUMBER_COLUMNS else cell
        row = {"subject": "S1", "images": "a"} | {column: value}
        assert bool(check(cell)) == schema.is_valid(row), cell


def test_a_name_does_not_end_with_a_line_break():
    assert sheet_module._cell_check("subject")("S1")
    assert not sheet_module._cell_check("subject")("S1\n")


def test_the_checks_know_every_word_of_the_schema():
    known = {"type", "pattern", "enum", "minimum", "maximum", "description"}
    for column in sheet_module._properties().values():
        assert set(column) <= known
        assert column.get("type", "string") in ("string", "number")
        assert (column.get("type") == "number") == {"minimum", "maximum"}.issubset(column)


def test_a_sheet_of_very_many_subjects_is_checked_to_its_last_line(sheet):
    lines = [f"S{number},images/{number},F" for number in range(5000)]
    told = faults(sheet("\n".join(["subject,images,sex", *lines, "S5000,a,X", "S7,b,F"])))
    assert "line 5002, sex: 'X', expected F or M" in told
    assert "line 5003, subject: 'S7' is already on line 9" in told
    assert "2 faults" in told
