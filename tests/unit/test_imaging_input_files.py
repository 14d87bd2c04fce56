"""Paths that may not be read: one subject's reason, and no fault of planning."""

import errno
import logging
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from dicom_writer import Plan, labels_phantom, write_nifti, write_series
from imaging_checks import convert_several
from nobody import as_nobody
from paravert.errors import Reason, SubjectFault
from paravert.imaging import input_files, nifti
from paravert.imaging.dicom_scan import scan_folder
from paravert.imaging.input_files import files_at, quiet_pydicom
from paravert.provenance import state_of

FAULTY = ("FOLDER", "FILE", "NAMES", "ABOVE", "TRUTH", "LABELS")
LOCKED = {  # what is closed to everybody, and how
    "FOLDER": ("FOLDER/axial", 0o000),
    "FILE": ("FILE/axial/IM0002", 0o000),
    "NAMES": ("NAMES/axial", 0o400),  # its names may be listed, but nothing asked of them
    "ABOVE": ("ABOVE", 0o000),
    "TRUTH": ("truth", 0o000),
    "LABELS": ("labels", 0o000),
}


@pytest.fixture
def cohort():
    """Six subjects with something closed to the reader, and one without."""
    with tempfile.TemporaryDirectory() as folder:  # tmp_path lies in a folder that is closed itself
        home = Path(folder)
        rows = {}
        for name in (*FAULTY, "SOUND"):
            write_series(home / name, Plan(slices=3))
            rows[name] = {"images": name}
        rows["ABOVE"]["images"] = "ABOVE/axial"
        for role in ("truth", "labels"):
            write_nifti(home / role / "a.nii.gz", Plan(slices=3), labels_phantom, dtype=np.uint8)
            rows[role.upper()][role] = role
        yield home, rows
        _lock(home, 0o700)


def _lock(home: Path, mode: int | None = None) -> None:
    for place, closed in LOCKED.values():
        os.chmod(home / place, closed if mode is None else mode)


def test_what_may_not_be_read_is_a_reason_of_its_subject_and_the_others_are_analysed(cohort):
    home, rows = cohort
    before = convert_several(home, rows)  # what is imported here is there without the rights too
    assert {row["status"] for row in before.values()} == {"analysed"}
    shutil.rmtree(home / "results")  # finished results would stay while their images are away
    _lock(home)
    told = as_nobody(home, lambda: convert_several(Path("."), rows))
    outcomes = {name: (row["status"], row["reason"]) for name, row in told.items()}
    assert outcomes == {
        "SOUND": ("analysed", None),
        **{name: ("quarantined", "unreadable-header") for name in FAULTY},
    }
    for name in FAULTY:
        assert "may not be read (EACCES)" in told[name]["message"]
        assert "axial" not in told[name]["message"]
    assert told["SOUND"]["slices"] == 3


def test_planning_never_raises_and_sees_that_a_place_was_made_readable(cohort):
    home, rows = cohort
    places = [Path(path) for row in rows.values() for path in row.values()]

    def states():
        return [state_of(place) for place in places]

    before = as_nobody(home, states)
    _lock(home)
    locked = as_nobody(home, states)
    _lock(home, 0o700)
    after = as_nobody(home, states)
    assert after == before
    same = [str(place) for place, b, c in zip(places, before, locked, strict=True) if b == c]
    assert sorted(same) == ["LABELS", "SOUND", "TRUTH"]  # of the latter, the masks differ


# --- any error of the operating system -----------------------------------------------------------

ERRORS = (errno.EACCES, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOENT)


def refusing(function, name, code):
    """Return a function of paths that raises an error for one name."""

    def refuse(path, *given, **options):
        if isinstance(path, str | os.PathLike) and os.path.basename(path) == name:
            raise OSError(code, os.strerror(code), os.fspath(path))
        return function(path, *given, **options)

    return refuse


@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize(("ask", "name"), [("listdir", "axial"), ("lstat", "IM0001")])
def test_no_error_of_the_walk_is_swallowed_or_ends_the_planning(
    tmp_path, monkeypatch, code, ask, name
):
    write_series(tmp_path, Plan())
    before = state_of(tmp_path)
    monkeypatch.setattr(os, ask, refusing(getattr(os, ask), name, code))
    if ask == "lstat":  # asked where a name cannot be followed
        monkeypatch.setattr(os, "stat", refusing(os.stat, name, code))
    assert state_of(tmp_path) not in (before, "absent")
    with pytest.raises(SubjectFault) as caught:
        files_at(tmp_path, "images")
    assert caught.value.reason == Reason.UNREADABLE_HEADER
    assert str(tmp_path) not in caught.value.message
    told = "is gone" if code == errno.ENOENT else f"may not be read ({errno.errorcode[code]})"
    assert told in caught.value.message


@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.get)
def test_an_error_in_the_middle_of_a_file_is_a_reason(tmp_path, monkeypatch, code):
    write_series(tmp_path, Plan())

    def fails(stream, size=-1):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(input_files.BoundedFile, "read", fails)
    with pytest.raises(SubjectFault, match=r"a file (may not be read|is gone)") as caught:
        scan_folder(tmp_path)
    assert caught.value.reason == Reason.UNREADABLE_HEADER
    assert caught.value.passing == (code in (errno.EIO, errno.ESTALE))


@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.get)
def test_an_error_of_a_network_disk_in_a_nifti_file_may_pass(tmp_path, monkeypatch, code):
    file = write_nifti(tmp_path / "image.nii", Plan())

    def fails(*given):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(nifti, "_read_header", fails)
    with pytest.raises(SubjectFault, match="may not be read") as caught:
        nifti.read_nifti(file)
    assert caught.value.passing == (code in (errno.EIO, errno.ESTALE))


def test_too_long_a_path_and_a_circle_of_links_have_a_state(tmp_path):
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    states = {state_of(path) for path in (circle, tmp_path / ("x" * 300))}
    assert len(states) == 2
    assert "absent" not in states
    assert state_of(tmp_path / "x\0y") == "absent"


def test_no_logger_of_pydicom_is_heard_within_and_all_are_after(caplog):
    loggers = [logging.getLogger(name) for name in ("pydicom", "pydicom.pixels.utils")]
    with quiet_pydicom():
        for logger in loggers:
            logger.error("Doe^John")
    assert not caplog.records
    for logger in loggers:
        logger.warning("after")
    assert len(caplog.records) == 2
