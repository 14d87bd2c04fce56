"""How much longer the demo cohort takes on a Slurm than its computing, and that its tables are equal.

As root, python tests/benchmark/slurm_overhead.py [subjects, as in --config subjects=]; on a Slurm of
two nodes that this starts on the host, and then without it. The computing time is that of the local
run, on the same cores.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests", "tests/cluster")]

from one_host import OneHost  # noqa: E402
from studies import Study, assert_same, cohort_tables, copy_of_the_workflow  # noqa: E402


def run(study: Study, *arguments: str) -> float:
    """Run a study to its end and return the seconds that it took."""
    start = time.perf_counter()
    done = study.run(*arguments)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return seconds


def main(subjects: str) -> None:
    """Run the demo cohort on Slurm and without, and tell how long each took."""
    with tempfile.TemporaryDirectory() as folder:
        here = Study(Path(folder) / "here")
        here.folder.mkdir()
        copy_of_the_workflow(here.folder)
        here.settings = yaml.safe_load((REPOSITORY / "config/demo.yaml").read_text())
        here.settings |= {"subjects": subjects, "subjects_per_shard": 8}  # four shards
        there = here.copy(Path(folder) / "there")
        slurm = OneHost()
        slurm.start()
        try:
            on_slurm = run(there, "--profile", "slurm")
        finally:
            slurm.stop()
        alone = run(here)
        assert_same(cohort_tables(there), cohort_tables(here))
    sys.stdout.write(
        f"on Slurm {on_slurm:.0f} s, without {alone:.0f} s: {on_slurm - alone:.0f} s more\n"
        "the tables are equal\n"
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("subjects", nargs="?", default="", help="as in --config subjects=")
    main(options.parse_args().subjects)
