"""A real Slurm on this host, and a cohort small enough that its jobs are mostly Snakemake."""

import fcntl
import os

import pytest

from one_host import OneHost, obstacle
from runs import finish
from studies import small_cohort

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
    return small_cohort(tmp_path_factory.mktemp("cohort"), SUBJECTS)


@pytest.fixture(scope="session")
def undisturbed(untouched, tmp_path_factory):
    """The cohort's tables of a run on this machine that nothing disturbed."""
    study = untouched.copy(tmp_path_factory.mktemp("undisturbed") / "study")
    tables = finish(study, forks=False)  # those of the tests are compared with it
    assert list(tables["ledger"].status) == ["quarantined"] + ["analysed"] * len(SUBJECTS)
    assert tables["slices"].csa_mm2.nunique() > len(SUBJECTS)
    return tables
