"""A real Slurm on this host, and a cohort small enough that its jobs are mostly Snakemake."""

import fcntl
import os
import shutil

import numpy as np
import pytest

from dicom_writer import Plan, labels_phantom, write_nifti, write_series
from disturbances import DISTURBANCES
from one_host import OneHost, obstacle
from runs import finish
from studies import Study, copy_of_the_workflow

SUBJECTS = [f"P{number:02d}" for number in range(12)]


@pytest.fixture(scope="session")
def slurm():
    """A running Slurm of two nodes; where none can be, tests are skipped, but not in CI."""
    reason = obstacle()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    cluster = OneHost()
    with cluster.folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another session of these tests ends first
        cluster.start()
        yield cluster
        cluster.stop()


@pytest.fixture(scope="session")
def untouched(tmp_path_factory):
    """A cohort of small series that was never run: areas differ, one subject has no images."""
    folder = tmp_path_factory.mktemp("cohort")
    copy_of_the_workflow(folder)
    shutil.copy(DISTURBANCES, folder / "workflow/sitecustomize.py")
    study = Study(folder)
    for number, subject in enumerate(SUBJECTS):
        plan = Plan(gap=5.0 + 0.1 * number, row_spacing=3.0 + 0.05 * number)
        write_series(folder / "images" / subject, plan)
        labels = write_nifti(folder / f"{subject}.nii.gz", plan, labels_phantom, dtype=np.uint8)
        columns = {"labels": labels.name, "truth": labels.name, "age_years": str(30 + number)}
        study.add(subject, f"images/{subject}", sex="FM"[number % 2], **columns)
    (folder / "images/EMPTY").mkdir()
    study.add("EMPTY", "images/EMPTY")
    return study


@pytest.fixture(scope="session")
def undisturbed(untouched, tmp_path_factory):
    """The cohort's tables of a run on this machine that nothing disturbed."""
    study = untouched.copy(tmp_path_factory.mktemp("undisturbed") / "study")
    tables = finish(study)
    assert list(tables["ledger"].status) == ["quarantined"] + ["analysed"] * len(SUBJECTS)
    assert tables["slices"].csa_mm2.nunique() > len(SUBJECTS)
    return tables
