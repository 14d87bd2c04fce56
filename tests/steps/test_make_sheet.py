"""The sheet of an archive: the one that a careful person would write by hand."""

import csv
import errno
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pydicom
import pytest
import yaml
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    MPEG4HP41,
    ExplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from archives import SAGITTAL, five_people, put_ct, put_other_files, put_real_studies, put_series
from dicom_writer import Plan, of_macos, save, slice_dataset, uid, write_enhanced, write_nifti
from nobody import as_nobody
from paravert.__main__ import main
from paravert.archive import index
from paravert.archive.examinations import Person
from paravert.archive.index import Index
from paravert.archive.key import COLUMNS as KEY_COLUMNS
from paravert.archive.key import Key
from paravert.archive.make_sheet import make_sheet
from paravert.archive.visits import SERIES_COLUMNS
from paravert.errors import InputError, SubjectFault
from paravert.imaging import input_files
from paravert.imaging.convert import read_images
from paravert.sheet import read_sheet

REPOSITORY = Path(__file__).parents[2]
NAMES = ("ANNA", "BERT", "CLEO", "DORA", "EMIL")


def rows_of(file):
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


class Made:
    """What make_sheet wrote."""

    def __init__(self, folder):
        self.folder = folder
        self.sheet, self.series, self.key = (
            rows_of(folder / f"{name}.csv") for name in ("sheet", "series", "key")
        )
        self.names = {row["subject"]: row["patient_id"] for row in self.key}

    def of(self, name, rows=None):
        """Rows of the sheet, or of another table, of a person."""
        rows = self.sheet if rows is None else rows
        return [row for row in rows if self.names.get(row["subject"]) == name]


def made(archive, folder, **options):
    make_sheet(archive, folder / "sheet.csv", **{"workers": 1, **options})
    return Made(folder)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = five_people(tmp_path_factory.mktemp("archive"))
    put_other_files(folder, 60)
    (folder / "site-1/ANNA/2020/DICOMDIR").write_bytes(b"no directory")
    if data := os.environ.get("PARAVERT_REAL_DATA"):
        put_real_studies(folder, Path(data))
    return folder


@pytest.fixture(scope="module")
def study(archive, tmp_path_factory):
    return made(archive, tmp_path_factory.mktemp("study"), workers=2)


# --- the sheet -----------------------------------------------------------------------------------


def cells(rows, home, archive):
    """Visit, years, folder, sex and age of some rows."""
    return [
        (
            row["visit"],
            row["years_since_first"],
            str((home / row["images"]).resolve().relative_to(archive)),
            row["sex"],
            row["age_years"],
        )
        for row in rows
    ]


def test_the_sheet_has_a_line_per_examination_in_order_of_date(study, archive):
    assert list(study.sheet[0]) == [
        "subject",
        "visit",
        "years_since_first",
        "images",
        "sex",
        "age_years",
    ]
    assert cells(study.of("ANNA"), study.folder, archive) == [
        ("1", "0.00", "site-1/ANNA/2018", "F", "58"),
        ("2", "2.00", "site-1/ANNA/2020", "F", "60"),
    ]
    assert cells(study.of("BERT"), study.folder, archive) == [
        ("1", "0.00", "site-2/BERT/2019/t2_tse_tra", "M", "59"),
        ("2", "2.00", "site-2/BERT/2021/t2_tse_tra", "M", "61"),
    ]
    assert cells(study.of("CLEO"), study.folder, archive) == [
        ("1", "0.00", "site-2/CLEO", "F", "61")
    ]
    assert {study.names[row["subject"]] for row in study.sheet} - {"LUMBAR-CC0"} == set(NAMES[:3])


@pytest.mark.real
def test_two_real_studies_of_a_man_are_two_visits(real_data, study, archive):
    assert cells(study.of("LUMBAR-CC0"), study.folder, archive) == [
        ("1", "0.00", "site-3/lumbar_study_cc0", "M", "42"),
        ("2", "0.02", "site-3/lumbar_study_cc0_15t", "M", "42"),
    ]
    told = [(row["plane"], row["sequence"]) for row in study.of("LUMBAR-CC0", study.series)]
    assert sorted(told[:4]) == [
        ("axial", "T1"),
        ("sagittal", "STIR"),
        ("sagittal", "T1"),
        ("sagittal", "T2"),
    ]
    assert sorted(told[4:]) == [("axial", "T2"), ("sagittal", "T1"), ("sagittal", "T2")]
    (axial,) = [r for r in study.of("LUMBAR-CC0", study.series)[:4] if r["plane"] == "axial"]
    assert (axial["slices"], axial["stacks"], axial["chosen"]) == ("17", "5", "yes")


def test_conversion_takes_every_line_with_the_proposed_patterns(study):
    settings = yaml.safe_load((study.folder / "series_description.yaml").read_text())
    patterns = settings["convert_dicom"]["series_description"]
    assert patterns == ["^t2_tse_tra$"]
    for row in study.sheet:
        assert read_images(str(study.folder / row["images"]), patterns).stacks


def test_lines_are_sorted_by_pseudonyms_that_tell_nothing(study):
    subjects = [row["subject"] for row in study.sheet]
    assert subjects == sorted(subjects)
    assert all(re.fullmatch(r"P\d{6}", subject) for subject in subjects)


def test_without_a_second_visit_there_is_no_column_of_visits(tmp_path):
    folder = five_people(tmp_path / "archive", visits=False)
    told = made(folder, tmp_path / "study")
    assert list(told.sheet[0]) == ["subject", "images", "sex", "age_years"]
    assert len(told.sheet) == 3


def test_spaces_of_other_scripts_in_a_path_are_no_fault(tmp_path):
    folder = five_people(tmp_path / "archive", visits=False)
    plain = made(folder, tmp_path / "plain")
    renamed = folder.rename(tmp_path / "検査\u3000腰椎\u00a0MR")
    told = made(renamed, tmp_path / "study")
    assert len(told.sheet) == len(plain.sheet)
    assert all("\u3000" in row["images"] for row in told.sheet)
    assert len(read_sheet(tmp_path / "study/sheet.csv").rows) == len(told.sheet)


def linked(folder, link):
    """Make a folder, and a link to it."""
    folder.mkdir(parents=True)
    link.symlink_to(folder)


def test_paths_are_right_where_the_folder_of_the_sheet_is_a_link(tmp_path):
    put_series(tmp_path / "archive/ANNA", "ANNA", "1", "axial")
    linked(tmp_path / "real/deep/er/study", tmp_path / "study")
    made(tmp_path / "archive", tmp_path / "study")
    (row,) = read_sheet(tmp_path / "study/sheet.csv").rows
    assert row["images"] == str(tmp_path / "archive/ANNA/axial")


def test_a_sheet_that_is_a_link_is_replaced_and_its_paths_are_right(tmp_path):
    put_series(tmp_path / "archive/ANNA", "ANNA", "1", "axial")
    (tmp_path / "other/deep").mkdir(parents=True)
    (tmp_path / "study").mkdir()
    (tmp_path / "study/sheet.csv").symlink_to(tmp_path / "other/deep/sheet.csv")
    made(tmp_path / "archive", tmp_path / "study")
    (row,) = read_sheet(tmp_path / "study/sheet.csv").rows
    assert row["images"] == str(tmp_path / "archive/ANNA/axial")
    assert not list((tmp_path / "other/deep").iterdir()), "the key stays in the folder named"


def test_files_of_the_sheet_in_an_archive_that_is_a_link_are_not_of_the_archive(tmp_path, caplog):
    linked(tmp_path / "real", tmp_path / "archive")
    put_series(tmp_path / "archive/ANNA", "ANNA", "1", "axial")
    with caplog.at_level("INFO"):
        for _ in range(2):
            made(tmp_path / "archive", tmp_path / "archive", overwrite=True)
    assert caplog.text.count("5 files in 3 folders") == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_names_that_are_not_utf_8_leave_the_rest_of_the_archive_in_the_sheet(tmp_path, workers):
    archive, odd = tmp_path / "archive", os.fsdecode(b"M\xfcller")
    put_series(archive / "ANNA", "ANNA", "1", "axial")
    put_series(archive / "BERT/1", "BERT", "2", "axial")
    put_series(archive / "BERT" / odd, "BERT", "2", "sagittal", plan=SAGITTAL)
    put_series(archive / odd, "", "3", "axial", StudyInstanceUID=None)
    (archive / f"{odd}-2").mkdir()
    write_nifti(archive / f"{odd}.nii.gz", Plan())
    options = {"nifti": "{subject}.nii.gz", "workers": workers}
    told = made(archive, tmp_path / "study", **options)
    assert {row["images"] for row in told.sheet} == {"../archive/ANNA/axial", "../archive/BERT"}
    without = {row["folder"]: row for row in told.series if row["in_sheet"] == "no"}
    assert set(without) == {
        r"../archive/M\xfcller/axial",
        r"../archive/M\xfcller-2",
        "../archive",
    }
    refused = without[r"../archive/M\xfcller/axial"]
    assert refused["examination_reason"] == "unreadable-header"
    assert "the path holds what a cell of the sheet cannot" in refused["examination_message"]
    assert {row["patient_id"] for row in told.key} == {"ANNA", "BERT", "", r"M\xfcller"}
    again = made(archive, tmp_path / "study", overwrite=True, **options)
    assert again.key == told.key


@pytest.mark.long
def test_twenty_thousand_other_files_change_no_line(tmp_path):
    archive = five_people(tmp_path / "archive")
    if data := os.environ.get("PARAVERT_REAL_DATA"):
        put_real_studies(archive, Path(data))
    before = made(archive, tmp_path)
    put_other_files(archive, 20_000)
    after = made(archive, tmp_path, overwrite=True, workers=2)
    assert after.sheet == before.sheet
    assert [row for row in after.series if row["subject"]] == [
        row for row in before.series if row["subject"]
    ]


# --- series.csv ----------------------------------------------------------------------------------


def test_every_series_is_told_with_what_conversion_says_of_it(study, archive):
    assert tuple(study.series[0]) == SERIES_COLUMNS
    anna = study.of("ANNA", study.series)[:2]
    assert [(r["visit"], r["plane"], r["accepted"], r["reason"], r["chosen"]) for r in anna] == [
        ("1", "axial", "yes", "", "yes"),
        ("1", "sagittal", "no", "no-axial-series", "no"),
    ]
    first = anna[0]
    assert (first["slices"], first["stacks"], first["spacing_mm"]) == ("5", "1", "6")
    assert (first["row_spacing_mm"], first["column_spacing_mm"]) == ("3.5", "2.5")
    assert (first["echo_time_ms"], first["repetition_time_ms"]) == ("100", "4000")
    for row in study.series:
        if row["subject"]:
            told = conversion_of(study.folder / row["folder"])
            assert (row["accepted"], row["reason"], row["message"]) == told


def conversion_of(folder, patterns=()):
    """Whether conversion takes a folder, the reason and the message, as series.csv has them."""
    try:
        read_images(str(folder), patterns)
    except SubjectFault as fault:
        return "no", str(fault.reason), fault.message
    return "yes", "", ""


def in_mpeg4(folder, name):
    for file in put_series(folder, name, name, "axial"):
        data = pydicom.dcmread(file)
        data.compress(RLELossless, generate_instance_uid=False)
        data.file_meta.TransferSyntaxUID = MPEG4HP41
        data.save_as(file)


def with_a_slope_of_0(folder, name):
    put_series(folder, name, name, "axial", RescaleSlope=0, RescaleIntercept=0)


def of_4_m(folder, name):
    wide = Plan(columns=401, column_spacing=10.0, slices=2)
    put_series(folder, name, name, "axial", plan=wide)


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (in_mpeg4, "unsupported-pixels"),
        (with_a_slope_of_0, "unsupported-pixels"),
        (of_4_m, "bad-geometry-position"),
    ],
)
def test_what_conversion_refuses_by_the_header_alone_is_not_accepted(tmp_path, put, reason):
    put(tmp_path / "archive/ANNA", "ANNA")
    (row,) = made(tmp_path / "archive", tmp_path / "study").series
    assert (row["in_sheet"], row["examination_reason"]) == ("yes", reason)
    told = conversion_of(tmp_path / "archive/ANNA/axial")
    assert (row["accepted"], row["reason"], row["message"]) == told
    assert told[0] == "no"


def test_three_axial_series_are_told_apart_and_one_is_proposed(study):
    cleo = study.of("CLEO", study.series)
    assert [(row["sequence"], row["accepted"], row["chosen"]) for row in cleo] == [
        ("T2", "yes", "yes"),
        ("T1", "yes", "no"),
        ("PD", "yes", "no"),
    ]
    assert {row["examination_reason"] for row in cleo} == {"ambiguous-series"}
    assert {row["in_sheet"] for row in cleo} == {"yes"}


def test_who_is_not_in_the_sheet_is_told_with_the_reason(study):
    (dora,) = study.of("DORA", study.series)
    assert (dora["modality"], dora["in_sheet"], dora["visit"]) == ("CT", "no", "")
    assert dora["examination_reason"] == dora["reason"] == "wrong-modality"
    nobody = {row["folder"].split("/")[-1]: row for row in study.series if not row["subject"]}
    assert set(nobody) == {"EMIL", "papers"}
    assert nobody["EMIL"]["examination_reason"] == "no-dicom"
    assert nobody["papers"]["examination_message"] == "no DICOM image among 20 files"


# --- privacy -------------------------------------------------------------------------------------


def test_the_key_is_for_its_owner_alone_and_the_sheet_tells_no_date_or_name(study, archive):
    assert (study.folder / "key.csv").stat().st_mode & 0o777 == 0o600
    assert tuple(study.key[0]) == KEY_COLUMNS
    for name in ("sheet", "series"):
        text = (study.folder / f"{name}.csv").read_text().replace(str(archive), "")
        assert "SECRET" not in text
        assert not re.search(r"1\.2\.826|\d{8}", text)
    without_paths = [{**row, "images": ""} for row in study.sheet]
    assert not re.search("|".join(NAMES), str(without_paths))


def test_the_log_tells_counts_and_no_names(archive, tmp_path, caplog):
    with caplog.at_level("INFO"):
        made(archive, tmp_path)
    assert "subjects with several axial series: 1, settled by the patterns in it: 1" in caplog.text
    assert "1: wrong-modality" in caplog.text
    assert not re.search("|".join((*NAMES, "SECRET", r"1\.2\.826", "tse", "site-")), caplog.text)
    assert not list(tmp_path.glob(".*")), "the index is deleted"


def test_the_key_stays_out_of_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="within results, expected one outside"):
        make_sheet(tmp_path, tmp_path / "results/study/sheet.csv")
    linked(tmp_path / "results/study", tmp_path / "study")
    with pytest.raises(InputError, match="within results, expected one outside"):
        make_sheet(tmp_path, Path("study/sheet.csv"))


# --- a second run --------------------------------------------------------------------------------


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_sheet_is_not_replaced_unless_told_and_pseudonyms_stay(archive, study, tmp_path):
    shutil.copytree(study.folder, tmp_path, dirs_exist_ok=True)
    with pytest.raises(InputError, match="there already, expected none or --overwrite"):
        made(archive, tmp_path)
    made(archive, tmp_path, overwrite=True)
    assert contents(tmp_path) == contents(study.folder)


def test_new_people_get_new_pseudonyms_and_the_key_forgets_nobody(tmp_path):
    put_series(tmp_path / "archive/a", "ANNA", "1", "axial")
    put_series(tmp_path / "archive/b", "BERT", "2", "axial")
    first = made(tmp_path / "archive", tmp_path / "study")
    shutil.rmtree(tmp_path / "archive/a")
    put_series(tmp_path / "archive/c", "CLEO", "3", "axial")
    second = made(tmp_path / "archive", tmp_path / "study", overwrite=True)
    assert sorted(second.names.values()) == ["ANNA", "BERT", "CLEO"]
    assert first.names.items() <= second.names.items()
    assert len(second.sheet) == 2


def test_a_key_that_is_none_stops_the_run(archive, tmp_path):
    (tmp_path / "key.csv").write_text("subject,name\nP1,x\n")
    with pytest.raises(InputError, match="no key, expected the columns subject, visit"):
        made(archive, tmp_path)


@pytest.mark.parametrize(("cells", "more"), [(8, "more"), (6, "fewer")])
def test_a_line_of_the_key_with_other_cells_stops_the_run_before_the_archive_is_read(
    tmp_path, monkeypatch, cells, more
):
    monkeypatch.delattr("paravert.archive.make_sheet.list_tree")
    lines = [",".join(KEY_COLUMNS), "P1,1,dicom,ANNA,,1,20200101", ",".join(cells * "x")]
    (tmp_path / "key.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=f"line 3 has {more} cells than the 7 columns"):
        make_sheet(tmp_path, tmp_path / "sheet.csv")


KILLED = """
import os, sys
from pathlib import Path
from paravert.archive import index
from paravert.archive.make_sheet import make_sheet
add = index.Index._add
def killed(self, chunk, parts):
    add(self, chunk, parts)
    done = self._base.execute("SELECT COUNT(*) FROM chunks").fetchone()[0]
    if done >= int(sys.argv[3]):
        os.kill(os.getpid(), 9)
index.Index._add = killed
index.COMMIT_SECONDS = -1
make_sheet(Path(sys.argv[1]), Path(sys.argv[2]), workers=2)
"""


def test_a_run_that_was_killed_goes_on_and_writes_the_same(archive, study, tmp_path, monkeypatch):
    shutil.copy(study.folder / "key.csv", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")}
    out = tmp_path / "sheet.csv"
    for chunks in ("3", "8"):
        words = [sys.executable, "-c", KILLED, str(archive), str(out), chunks]
        assert subprocess.run(words, env=environment, check=False).returncode == -signal.SIGKILL
    left = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert left.keys() <= {".sheet.csv.index", ".sheet.csv.index-journal", "key.csv"}
    assert set(left.values()) == {0o600}
    read = []
    monkeypatch.setattr("paravert.archive.index.tqdm", lambda **told: Bar(told, read))
    make_sheet(archive, out, workers=2)
    assert read[0]["initial"] > 0, "what was read is not read again"
    assert contents(tmp_path) == contents(study.folder)


def test_a_run_that_ends_after_the_key_was_written_keeps_the_pseudonyms(tmp_path, monkeypatch):
    archive = five_people(tmp_path / "archive")
    with monkeypatch.context() as patch:
        patch.setattr("paravert.archive.make_sheet.series_rows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made(archive, tmp_path / "study")
    key = (tmp_path / "study/key.csv").read_bytes()
    assert not (tmp_path / "study/sheet.csv").exists()
    made(archive, tmp_path / "study")
    assert (tmp_path / "study/key.csv").read_bytes() == key


def test_a_file_that_a_disk_did_not_give_is_read_again_after_an_interruption(tmp_path, monkeypatch):
    archive = five_people(tmp_path / "archive")
    made(archive, tmp_path / "whole")
    first = min(path for path in archive.rglob("*") if path.is_file())
    read = input_files.BoundedFile.read

    def fails(stream, size=-1):
        if stream.raw.name == first:
            raise OSError(errno.EIO, "Input/output error")
        return read(stream, size)

    with monkeypatch.context() as patch:
        patch.setattr(input_files.BoundedFile, "read", fails)
        patch.setattr("paravert.archive.make_sheet.series_rows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made(archive, tmp_path / "study")
    (tmp_path / "study/key.csv").unlink()
    shutil.copy(tmp_path / "whole/key.csv", tmp_path / "study")
    made(archive, tmp_path / "study")
    assert contents(tmp_path / "study") == contents(tmp_path / "whole")


def interrupted(*_):
    raise KeyboardInterrupt


class Bar:
    def __init__(self, told, kept):
        kept.append(told)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def update(self, count):
        """Do nothing."""


def test_workers_end_with_a_killed_run(archive, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")}
    words = [sys.executable, "-c", KILLED, str(archive), str(tmp_path / "sheet.csv"), "3"]
    running = subprocess.Popen(words, env=environment, start_new_session=True)
    running.wait()
    end = time.monotonic() + 20
    while time.monotonic() < end and alive(running.pid):
        time.sleep(0.1)
    assert not alive(running.pid)


def alive(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


# --- examinations in folders of every kind -------------------------------------------------------


def told_of(told, name):
    rows = told.of(name, told.series)
    return {(row["in_sheet"], row["examination_reason"]) for row in rows}


def flat(archive, *series):
    """Move the files of all series into one folder."""
    for number, file in enumerate(path for paths in series for path in paths):
        file.rename(archive / f"I{number:05d}")
    for folder in [path for path in archive.iterdir() if path.is_dir()]:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("second", "reason"), [("ANNA", "multiple-studies"), ("BERT", "mixed-patients")]
)
def test_examinations_in_one_folder_are_told_and_not_in_the_sheet(tmp_path, second, reason):
    archive = tmp_path / "archive"
    first = put_series(archive, "ANNA", "1", "axial-1")
    flat(archive, first, put_series(archive, second, "2", "axial-2"))
    told = made(archive, tmp_path)
    assert told.sheet == []
    assert told_of(told, "ANNA") == told_of(told, second) == {("no", reason)}
    assert [row["accepted"] for row in told.series] == ["yes", "yes"]


def test_an_examination_spread_over_shared_folders_is_its_axial_series(tmp_path):
    archive = tmp_path / "archive"
    for number, name in enumerate(("ANNA", "BERT")):
        put_series(archive / "axial" / name, name, str(number), "axial")
        put_series(archive / "sagittal" / name, name, str(number), "sagittal", plan=SAGITTAL)
    told = made(archive, tmp_path)
    assert [row["images"] for row in told.of("ANNA")] == ["archive/axial/ANNA/axial"]
    assert [row["images"] for row in told.of("BERT")] == ["archive/axial/BERT/axial"]


def test_an_examination_in_several_folders_of_its_own_is_their_common_folder(tmp_path):
    archive = tmp_path / "archive"
    put_series(archive / "1/ANNA/today", "ANNA", "1", "axial")
    put_series(archive / "1/ANNA/later", "ANNA", "1", "sagittal", plan=SAGITTAL)
    put_series(archive / "2/BERT", "BERT", "2", "axial")
    told = made(archive, tmp_path)
    assert [row["images"] for row in told.of("ANNA")] == ["archive/1/ANNA"]


def test_an_examination_in_a_shared_folder_may_be_one_file(tmp_path):
    archive = tmp_path / "archive"
    for name in ("ANNA", "BERT"):
        write_enhanced(archive / f"{name}.dcm", [Plan()], edit=of(name))
    told = made(archive, tmp_path)
    assert [row["images"] for row in told.of("ANNA")] == ["archive/ANNA.dcm"]
    assert read_images(str(archive / "ANNA.dcm")).stacks


def of(name):
    def edit(data):
        data.PatientID, data.StudyInstanceUID = name, uid(name)

    return edit


def test_a_copy_elsewhere_in_the_archive_is_told(tmp_path):
    archive = tmp_path / "archive"
    put_series(archive / "1/ANNA", "ANNA", "1", "axial")
    put_series(archive / "2/BERT", "BERT", "2", "axial")
    shutil.copytree(archive / "1/ANNA", archive / "backup/ANNA")
    told = made(archive, tmp_path)
    assert told_of(told, "ANNA") == {("no", "mixed-patients")}
    (message,) = {row["examination_message"] for row in told.of("ANNA", told.series)}
    assert message.startswith("its images are in 2 folders of its own")
    assert len(told.of("BERT")) == 1


def test_a_damaged_file_leaves_the_line_and_tells_the_reason(tmp_path):
    archive = tmp_path / "archive"
    file, *_ = put_series(archive / "ANNA", "ANNA", "1", "axial")
    file.write_bytes(b"")
    put_series(archive / "BERT", "BERT", "2", "axial")
    told = made(archive, tmp_path)
    assert len(told.sheet) == 2
    assert told_of(told, "ANNA") == {("yes", "unreadable-header")}
    assert told_of(told, "BERT") == {("yes", "")}


def put_report(path):
    """Write a report (SR) about ANNA."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.11", uid("report")
    data.PatientID, data.StudyInstanceUID, data.SeriesInstanceUID = "ANNA", uid("1"), uid("s")
    data.Modality = "SR"
    save(data, path)


def put_directory(path):
    """Write a DICOMDIR, which lists one patient."""
    record = Dataset()
    record.DirectoryRecordType, record.PatientID, record.PatientName = "PATIENT", "ANNA", "A"
    data = Dataset()
    data.FileSetID, data.DirectoryRecordSequence = "DISC", [record]
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    data.file_meta.MediaStorageSOPInstanceUID = uid("directory")
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, data, enforce_file_format=True)


def test_a_dicomdir_is_neither_a_person_nor_an_examination(tmp_path, caplog):
    archive = tmp_path / "archive"
    put_series(archive / "site-1/ANNA", "ANNA", "1", "axial")
    (archive / "site-1/EMIL").mkdir()
    for folder in ("site-1", "site-1/ANNA/axial", "disc"):
        put_directory(archive / folder / "DICOMDIR")
    with caplog.at_level("INFO"):
        told = made(archive, tmp_path)
    assert [row["patient_id"] for row in told.key] == ["ANNA"]
    assert "not in the sheet: people: 0, examinations and folders: 2" in caplog.text
    assert [(row["folder"], row["accepted"]) for row in told.series] == [
        ("archive/site-1/ANNA/axial", "yes"),
        ("archive/disc", ""),
        ("archive/site-1/EMIL", ""),
    ]


def test_a_report_beside_folders_of_people_hides_no_empty_one(tmp_path):
    archive = tmp_path / "archive"
    put_report(archive / "site-1/report")
    (archive / "site-1/EMIL").mkdir()
    told = made(archive, tmp_path)
    assert [row["folder"] for row in told.series[1:]] == ["archive/site-1/EMIL"]


def test_a_report_alone_is_no_image(tmp_path):
    archive = tmp_path / "archive"
    put_report(archive / "ANNA/report")
    told = made(archive, tmp_path)
    assert told_of(told, "ANNA") == {("no", "no-dicom")}
    assert [row["modality"] for row in told.series] == ["SR"]


# --- people --------------------------------------------------------------------------------------


@pytest.mark.parametrize("malformed", ["2018", "2020-03-05", "20200231", "ANON"])
def test_a_malformed_date_is_unknown_and_comes_last(tmp_path, malformed):
    archive = tmp_path / "archive"
    for study, date in (("0", malformed), ("1", "20190305"), ("2", "20200305")):
        put_series(archive / study, "ANNA", study, "axial", StudyDate=date)
    told = made(archive, tmp_path)
    visits = [(row["images"][8:9], row["years_since_first"]) for row in told.sheet]
    assert visits == [("1", "0.00"), ("2", "1.00"), ("0", "")]


def test_the_date_of_the_series_stands_in_for_a_malformed_one_of_the_study(tmp_path):
    archive = tmp_path / "archive"
    put_series(archive / "1", "ANNA", "1", "axial", StudyDate="2020", SeriesDate="20200305")
    assert [row["date"] for row in made(archive, tmp_path).key] == ["20200305"]


def test_an_id_of_two_issuers_is_two_people_and_one_of_an_unnamed_issuer_one(tmp_path):
    archive = tmp_path / "archive"
    for study, patient, issuer in (
        ("1", "007", "NORTH"),
        ("2", "007", "SOUTH"),
        ("3", "008", "NORTH"),
        ("4", "008", ""),
    ):
        values = {"IssuerOfPatientID": issuer, "PatientName": "X"}
        put_series(archive / study, patient, study, "axial", **values)
    told = made(archive, tmp_path)
    people = {(row["patient_id"], row["issuer_of_patient_id"], row["visit"]) for row in told.key}
    assert people == {
        ("007", "NORTH", "1"),
        ("007", "SOUTH", "1"),
        ("008", "NORTH", "1"),
        ("008", "NORTH", "2"),
    }
    assert len({row["subject"] for row in told.sheet}) == 3


@pytest.mark.parametrize("issuers", [("", "NORTH"), ("NORTH", "")])
def test_an_issuer_that_comes_or_goes_gives_no_second_pseudonym(tmp_path, issuers):
    archive = tmp_path / "archive"
    for study, issuer in zip("12", issuers, strict=True):
        shutil.rmtree(archive, ignore_errors=True)
        values = {"IssuerOfPatientID": issuer, "PatientName": "X"}
        put_series(archive / study, "008", study, "axial", **values)
        told = made(archive, tmp_path, overwrite=True)
    assert len({row["subject"] for row in told.key}) == 1
    assert [row["examination"] for row in told.key if row["visit"]] == [uid("008", "2")]


def test_an_issuer_is_not_guessed_where_two_are_known(tmp_path):
    key = Key(tmp_path / "key.csv")
    unnamed, north, south = (Person("dicom", "7", issuer) for issuer in ("", "NORTH", "SOUTH"))
    first = key.subjects_of([(unnamed, "1")])
    both = key.subjects_of([(north, "2"), (south, "3")])
    assert len({*first.values(), *both.values()}) == 3


def test_ids_that_a_spreadsheet_program_changed_in_the_key_give_no_second_pseudonym(tmp_path):
    archive = tmp_path / "archive"
    for patient in ("7", "007", "008"):
        put_series(archive / patient, patient, patient, "axial", PatientName="X")
    before = made(archive, tmp_path)
    key = tmp_path / "key.csv"
    key.write_text(key.read_text().replace(",007,", ",7,").replace(",008,", ",8,"))
    after = made(archive, tmp_path, overwrite=True)
    assert {tuple(row.values()) for row in after.key} == {tuple(row.values()) for row in before.key}
    assert len({row["subject"] for row in after.sheet}) == 3


def test_ids_with_one_pseudonym_in_the_key_are_one_person(tmp_path):
    archive = tmp_path / "archive"
    for patient, year in (("A1", 2021), ("B7", 2020), ("C9", 2022)):
        put_series(archive / patient, patient, patient, "axial", StudyDate=f"{year}0305")
    key = tmp_path / "key.csv"
    subjects = {row["patient_id"]: row["subject"] for row in made(archive, tmp_path).key}
    key.write_text(key.read_text().replace(subjects["B7"], subjects["A1"]))
    for _ in range(2):
        study = made(archive, tmp_path, overwrite=True)
        both = [row for row in study.sheet if row["subject"] == subjects["A1"]]
        assert [(row["visit"], row["years_since_first"]) for row in both] == [
            ("1", "0.00"),
            ("2", "1.00"),
        ]
        assert len(read_sheet(tmp_path / "sheet.csv").rows) == 3
    born = {"PatientBirthDate": "19590101", "StudyDate": "20230305"}
    put_series(archive / "A1-2", "A1", "A1-2", "axial", **born)
    put_series(archive / "B7-2", "B7", "B7-2", "axial", **born | {"PatientBirthDate": "19591231"})
    study = made(archive, tmp_path, overwrite=True)
    assert [row["subject"] for row in study.sheet] == [subjects["C9"]]


def test_a_carriage_return_in_a_header_breaks_no_row(tmp_path):
    """A barcode scanner appends one to the PatientID."""
    archive = tmp_path / "archive"
    for file in put_series(archive / "a", "SCANNED", "a", "axial"):
        data = pydicom.dcmread(file)
        data.PatientID, data.SeriesDescription = "A001\r", "t2\rtra"
        data.save_as(file)
    before = made(archive, tmp_path)
    assert [row["patient_id"] for row in before.key] == ["A001\r"]
    assert [row["description"] for row in before.series] == ["t2\rtra"]
    assert made(archive, tmp_path, overwrite=True).key == before.key


def test_an_examination_that_went_to_another_person_gives_no_shared_pseudonym(tmp_path):
    path = tmp_path / "key.csv"
    one, other, third = (Person("dicom", patient, "") for patient in ("1", "2", "3"))
    first = Key(path).subjects_of([(one, "a"), (one, "b")])[one]
    Key(path).write(key_rows([(one, first, "a"), (one, first, "b")]))
    again = Key(path).subjects_of([(one, "a"), (other, "b")])
    assert again[one] == first != again[other]
    Key(path).write(key_rows([(one, first, "a"), (other, again[other], "b")]))
    last = Key(path).subjects_of([(third, "b")])  # the key has "b" of two people
    assert last[third] not in again.values()


def key_rows(entries):
    """Return rows of the key, of persons with PatientID: (person, pseudonym, examination)."""
    return [
        dict.fromkeys(KEY_COLUMNS, "")
        | {
            "subject": subject,
            "source": person.source,
            "patient_id": person.patient_id,
            "examination": name,
        }
        for person, subject, name in entries
    ]


def test_without_an_id_each_examination_is_a_person(tmp_path):
    archive = tmp_path / "archive"
    put_series(archive / "1", "", "1", "axial")
    put_series(archive / "2", "", "2", "axial")
    told = made(archive, tmp_path)
    assert len({row["subject"] for row in told.sheet}) == 2
    again = made(archive, tmp_path, overwrite=True)
    assert again.sheet == told.sheet


def test_two_dates_of_birth_under_one_id_are_not_believed(tmp_path):
    archive = tmp_path / "archive"
    put_series(archive / "1", "ANNA", "1", "axial", PatientBirthDate="19500101")
    put_series(archive / "2", "ANNA", "2", "axial", PatientBirthDate="19710101")
    told = made(archive, tmp_path)
    assert told.sheet == []
    assert told_of(told, "ANNA") == {("no", "mixed-patients")}


def test_a_date_of_birth_of_superscript_digits_is_unknown(tmp_path):
    archive = tmp_path / "archive"
    born = {"PatientBirthDate": "\xb2\xb2\xb2\xb20101", "PatientAge": ""}
    put_series(archive / "1", "ANNA", "1", "axial", **born)
    told = made(archive, tmp_path)
    assert [row["age_years"] for row in told.sheet] == [""]


def test_dates_and_ages_that_stand_for_unknown_ones_are_unknown(tmp_path):
    archive = tmp_path / "archive"
    born = {"PatientBirthDate": "19000101", "PatientAge": None}
    put_series(archive / "1", "ANNA", "1", "axial", StudyDate="20150305", **born)
    put_series(archive / "2", "BERT", "2", "axial", PatientAge="000Y", PatientBirthDate="")
    for study in "34":
        put_series(archive / study, "CLEO", study, "axial", StudyDate="19000101")
    told = made(archive, tmp_path)
    assert [row["age_years"] for name in NAMES[:2] for row in told.of(name)] == ["", ""]
    assert [row["years_since_first"] for row in told.of("CLEO")] == ["", ""]


def test_dates_with_points_are_in_order(tmp_path):
    archive = tmp_path / "archive"
    for study, date in (("1", "2015.03.05"), ("2", "20150101")):
        put_series(archive / study, "ANNA", study, "axial", StudyDate=date)
    told = made(archive, tmp_path)
    assert [(Path(row["images"]).parent.name, row["years_since_first"]) for row in told.sheet] == [
        ("2", "0.00"),
        ("1", "0.17"),
    ]


def test_visits_without_a_date_come_last_and_a_sex_that_differs_is_unknown(tmp_path):
    archive = tmp_path / "archive"
    put_series(archive / "1", "ANNA", "1", "axial", StudyDate="", PatientSex="M")
    put_series(archive / "2", "ANNA", "2", "axial", StudyDate="20200101")
    told = made(archive, tmp_path)
    assert [(r["visit"], r["images"], r["sex"], r["years_since_first"]) for r in told.sheet] == [
        ("1", "archive/2/axial", "", "0.00"),
        ("2", "archive/1/axial", "", ""),
    ]


def test_an_examination_without_an_axial_series_is_no_visit(tmp_path):
    archive = tmp_path / "archive"
    early = {"StudyDate": "20190101"}
    put_series(archive / "1", "ANNA", "1", "knee", plan=SAGITTAL, **early)
    put_series(archive / "2", "ANNA", "2", "axial")
    put_ct(archive / "3", "ANNA")
    told = made(archive, tmp_path)
    assert [row["images"] for row in told.sheet] == ["archive/2/axial"]
    assert "visit" not in told.sheet[0]
    assert told_of(told, "ANNA") == {
        ("no", "no-axial-series"),
        ("yes", ""),
        ("no", "wrong-modality"),
    }


# --- patterns ------------------------------------------------------------------------------------


def test_the_patterns_settle_as_many_subjects_as_they_say(tmp_path):
    archive = tmp_path / "archive"
    protocols = 4 * [("T2 tra (L)", "T1 tra")] + 2 * [("t2_cor*", "t1_b")] + [("same", "same")]
    for number, names in enumerate(protocols):
        for part, name in enumerate(names):
            folder = archive / str(number)
            put_series(folder, f"P{number}", str(number), f"series-{part}", name=name)
    made(archive, tmp_path)
    text = (tmp_path / "series_description.yaml").read_text()
    patterns = yaml.safe_load(text)["convert_dicom"]["series_description"]
    assert len(patterns) == 2
    assert "7 subjects have several axial series; these patterns settle 6 of them" in text
    told = [conversion_of(archive / str(number), patterns) for number in range(len(protocols))]
    assert [reason for _, reason, _ in told] == [*6 * [""], "ambiguous-series"]


# --- NIfTI ---------------------------------------------------------------------------------------


def test_nifti_files_are_found_by_a_pattern(tmp_path):
    archive = tmp_path / "archive"
    for name in ("sub-1/ses-2/sub-1_T2.nii.gz", "sub-1/ses-10/sub-1_T2.nii.gz"):
        write_nifti(archive / name, Plan())
    write_nifti(archive / "sub-2/ses-1/sub-2_T2.nii.gz", SAGITTAL)
    write_nifti(archive / "sub-3/ses-1/sub-4_T2.nii.gz", Plan())
    pattern = "sub-{subject}/ses-{visit}/sub-{subject}_*.nii.gz"
    told = made(archive, tmp_path, nifti=pattern)
    assert [(row["visit"], row["images"]) for row in told.sheet] == [
        ("1", "archive/sub-1/ses-2/sub-1_T2.nii.gz"),
        ("2", "archive/sub-1/ses-10/sub-1_T2.nii.gz"),
    ]
    assert told_of(told, "2") == {("no", "no-axial-series")}
    assert set(told.names.values()) == {"1", "2"}
    nobody = [row["folder"] for row in told.series if not row["subject"]]
    assert nobody == ["archive/sub-3"], "a file that does not match"
    (first, *_) = told.of("1", told.series)
    assert (first["slices"], first["spacing_mm"], first["chosen"]) == ("5", "6", "yes")


def test_nifti_files_that_do_not_match_the_pattern_are_counted(tmp_path, caplog):
    archive = tmp_path / "archive"
    for name in ("B_t2.nii.gz", "C_T2.NII.GZ", "A_T2.nii.gz"):
        write_nifti(archive / "A_T2.nii.gz", Plan()).rename(archive / name)
    with caplog.at_level("INFO"):
        told = made(archive, tmp_path, nifti="{subject}_T2.nii.gz")
    assert len(told.sheet) == 1
    assert "2 NIfTI files ignored: not of the pattern of --nifti" in caplog.text


def test_files_of_macos_are_no_images(tmp_path):
    archive = tmp_path / "archive"
    of_macos(write_nifti(archive / "1/2.nii.gz", Plan()))
    told = made(archive, tmp_path, nifti="{subject}/{visit}.nii.gz")
    assert [row["images"] for row in told.sheet] == ["archive/1/2.nii.gz"]


@pytest.mark.parametrize("pattern", ["{person}/x.nii.gz", "scan.nii.gz"])
def test_a_pattern_without_a_subject_is_told(tmp_path, pattern):
    with pytest.raises(InputError, match="subject"):
        make_sheet(tmp_path, tmp_path / "study/sheet.csv", nifti=pattern)


def test_several_files_that_match_a_pattern_are_told(tmp_path):
    archive = tmp_path / "archive"
    for name in ("t1", "t2"):
        write_nifti(archive / f"1/{name}.nii.gz", Plan())
    told = made(archive, tmp_path, nifti="{subject}/*.nii.gz")
    assert told.sheet == []
    assert told_of(told, "1") == {("no", "ambiguous-series")}


def test_a_sheet_that_another_run_is_writing_is_told(tmp_path, monkeypatch):
    put_series(tmp_path / "archive/a", "A", "a", "axial")
    (tmp_path / "study").mkdir()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda file: connect(file, timeout=0.1))
    told = "sheet.csv.index: in use, expected no other make_sheet"
    with (
        Index(tmp_path / "study/.sheet.csv.index", tmp_path / "archive"),
        pytest.raises(InputError, match=told),
    ):
        make_sheet(tmp_path / "archive", tmp_path / "study/sheet.csv", workers=1)


def test_a_full_disk_is_told(archive, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(index, "TABLES", f"{index.TABLES} PRAGMA max_page_count = 1;")
    words = ["make_sheet", archive, "--out", tmp_path / "sheet.csv", "--workers", "1"]
    assert main(list(map(str, words))) == 1
    told = f"{os.strerror(errno.ENOSPC)} ({tmp_path / '.sheet.csv.index'})"
    assert told in capsys.readouterr().err


def test_an_index_that_is_none_is_told(tmp_path):
    (tmp_path / ".sheet.csv.index").write_text("no index" * 100)
    with pytest.raises(InputError, match="no index, expected none: remove it"):
        make_sheet(tmp_path, tmp_path / "sheet.csv")


@pytest.mark.parametrize(
    "name", ["NA", "n/A", "D:/x", r"\\server", r"a\b", "#NAME?", "Müller, J", '"quoted"']
)
def test_folders_of_any_name_are_read_by_the_sheet(tmp_path, name):
    put_series(tmp_path / name, "ANNA", "1", "axial-1")
    put_series(tmp_path / name, "ANNA", "1", "sagittal", plan=SAGITTAL)
    made(tmp_path, tmp_path)
    (row,) = read_rows(tmp_path / "sheet.csv")
    assert row["images"] == str(tmp_path / name)


def read_rows(sheet):
    told = read_sheet(sheet)
    return getattr(told, "rows", told)


def test_an_archive_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="no such folder, expected the archive"):
        make_sheet(tmp_path / "nothing", tmp_path / "sheet.csv")


def test_pipes_sockets_and_devices_are_not_read(tmp_path):
    archive = tmp_path / "archive"
    put_series(archive / "ANNA", "ANNA", "1", "axial")
    for folder in (archive / "ANNA", archive / "PIPES"):
        folder.mkdir(exist_ok=True)
        os.mkfifo(folder / "pipe.nii.gz")
        (folder / "link").symlink_to("pipe.nii.gz")
        (folder / "terminal").symlink_to("/dev/tty")
        os.mknod(folder / "socket", stat.S_IFSOCK | 0o600)
    words = ["make_sheet", "archive", "--out", "sheet.csv", "--workers", "1"]
    words += ["--nifti", "{subject}/*.nii.gz"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow")}
    options = {"cwd": tmp_path, "env": environment, "timeout": 60, "check": True}
    subprocess.run([sys.executable, "-m", "paravert", *words], **options)
    told = Made(tmp_path)
    assert [row["images"] for row in told.sheet] == ["archive/ANNA/axial"]
    assert told.series[0]["accepted"] == "yes"
    assert told.series[1]["examination_message"] == "no DICOM image among 0 files"


@pytest.fixture
def open_folder():
    with tempfile.TemporaryDirectory() as folder:  # tmp_path lies in a folder that is closed itself
        yield Path(folder)


def test_folders_that_may_not_be_read_are_told_and_the_others_are_in_the_sheet(open_folder):
    archive = open_folder / "archive"
    put_series(archive / "ANNA", "ANNA", "1", "axial")
    for name, mode in (("NAMES", 0o444), ("CLOSED", 0o000)):
        for below in ("1", "2"):
            put_series(archive / name / below, name, name + below, "axial")
        (archive / name).chmod(mode)
    (open_folder / "study").mkdir()

    def make():
        make_sheet(Path("archive"), Path("study/sheet.csv"), workers=1)

    try:
        as_nobody(open_folder, make)
    finally:
        for name in ("NAMES", "CLOSED"):
            (archive / name).chmod(0o700)
    told = Made(open_folder / "study")
    assert [row["images"] for row in told.sheet] == ["../archive/ANNA/axial"]
    nobody = {row["folder"]: row["examination_message"] for row in told.series[1:]}
    may_not = "images: a folder may not be read"
    assert nobody == {"../archive/CLOSED": may_not, "../archive/NAMES": may_not}


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("file/sheet.csv", "file: a file or within one, expected a folder for the sheet"),
        ("file/study/sheet.csv", "study: a file or within one, expected a folder for the sheet"),
        ("study", "study: a folder, expected a file or none"),
        ("taken/sheet.csv", "series.csv: a folder, expected a file or none"),
        (
            "locked/sheet.csv",
            "locked: no file may be written there, expected a folder for the sheet",
        ),
        ("locked/a/sheet.csv", "a: no folder may be made there, expected one for the sheet"),
        ("closed/sheet.csv", "closed: no file may be written there, expected a folder"),
        ("closed/a/sheet.csv", "a: no folder may be made there, expected one for the sheet"),
        ("study/series_description.yaml", "the name of another file of this command"),
        ("study/key.csv", "the name of another file of this command"),
    ],
)
def test_a_sheet_that_cannot_be_written_is_told_at_once(open_folder, out, told):
    for name in ("archive", "study", "locked", "closed"):
        (open_folder / name).mkdir()
    (open_folder / "taken/series.csv").mkdir(parents=True)
    (open_folder / "file").touch()
    (open_folder / "locked").chmod(0o500)
    (open_folder / "closed").chmod(0o000)

    def make():
        with pytest.raises(InputError) as caught:
            make_sheet(Path("archive"), Path(out), workers=1)
        return str(caught.value)

    assert told in as_nobody(open_folder, make)


def test_an_archive_that_may_not_be_read_is_told(open_folder):
    (open_folder / "archive").mkdir(mode=0o000)

    def make():
        with pytest.raises(InputError) as caught:
            make_sheet(Path("archive"), Path("sheet.csv"), workers=1)
        return str(caught.value)

    assert as_nobody(open_folder, make).endswith("archive: the archive may not be read")


def test_slices_without_a_study_belong_to_the_examination_beside_them(tmp_path):
    archive = tmp_path / "archive"
    put_series(archive / "ANNA", "ANNA", "1", "axial")
    lone = slice_dataset(SAGITTAL, 0, "sagittal")
    lone.PatientID, lone.PatientName = "ANNA", "ANNA^SECRET"
    del lone.StudyInstanceUID
    save(lone, archive / "ANNA/axial/other")
    told = made(archive, tmp_path)
    assert [row["images"] for row in told.sheet] == ["archive/ANNA/axial"]
    assert {row["plane"] for row in told.series} == {"axial", "sagittal"}


@pytest.mark.parametrize("others", [(), ("BERT",)])
def test_slices_without_a_patient_belong_to_the_one_of_their_study(tmp_path, others):
    archive = tmp_path / "archive"
    for patient in ("ANNA", *others):
        values = {"StudyInstanceUID": uid("one"), "IssuerOfPatientID": "NORTH"}
        put_series(archive / patient, patient, "1", "axial", **values)
    values = {"StudyInstanceUID": uid("one"), "PatientID": None, "plan": SAGITTAL}
    put_series(archive / "ANNA", "ANNA", "1", "sagittal", **values)
    told = made(archive, tmp_path)
    images = {
        row["patient_id"]: [r["images"] for r in told.of(row["patient_id"])] for row in told.key
    }
    if others:
        assert images == {"ANNA": ["archive/ANNA/axial"], "BERT": ["archive/BERT/axial"], "": []}
    else:
        assert images == {"ANNA": ["archive/ANNA"]}


# --- Dixon ---------------------------------------------------------------------------------------


def put_dixon(folder, patient, parts=("WATER", "FAT", "IN_PHASE", "OPP_PHASE"), ends="WFio"):
    """Write a series for each part of a Dixon acquisition, each in a folder of its own."""
    for number, (mark, end) in enumerate(zip(parts, ends, strict=False), start=1):
        name = f"t1_vibe_dixon_{ {'i': 'in', 'o': 'opp'}.get(end, end) }"
        image_type = ["ORIGINAL", "PRIMARY", "DIXON", mark]
        scale = {"RescaleSlope": number, "RescaleIntercept": 0}  # parts differ in their values
        put_series(folder, patient, "dixon", name, number=number, ImageType=image_type, **scale)


def test_a_dixon_acquisition_is_one_series_that_conversion_takes(tmp_path):
    archive = tmp_path / "archive"
    put_dixon(archive / "ANNA", "ANNA")
    study = made(archive, tmp_path)
    (row,) = study.sheet
    assert read_images(str(tmp_path / row["images"])).stacks[0].water is not None
    assert {(line["accepted"], line["chosen"]) for line in study.series} == {("yes", "yes")}
    assert {line["examination_reason"] for line in study.series} == {""}
    assert [line["sequence"] for line in study.series] == [
        *("dixon-water", "dixon-fat", "in-phase", "opposed-phase")
    ]


def test_a_dixon_acquisition_competes_as_one_with_another_series(tmp_path):
    archive = tmp_path / "archive"
    put_dixon(archive / "ANNA", "ANNA")
    put_series(archive / "ANNA", "ANNA", "dixon", "t2_tse_tra", number=9)
    study = made(archive, tmp_path)
    assert "2 axial series" in study.series[0]["examination_message"]
    patterns = yaml.safe_load((tmp_path / "series_description.yaml").read_text())
    patterns = patterns["convert_dicom"]["series_description"]
    assert read_images(str(tmp_path / study.sheet[0]["images"]), patterns).stacks


def test_dixon_parts_of_different_slices_are_told(tmp_path):
    archive = tmp_path / "archive"
    put_dixon(archive / "ANNA", "ANNA", ("WATER", "FAT"))
    next((archive / "ANNA").rglob("*dixon_W/*")).unlink()
    study = made(archive, tmp_path)
    assert {line["examination_reason"] for line in study.series} == {"dixon-parts-differ"}
