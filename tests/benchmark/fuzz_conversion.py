"""Converts files with random damage: each must end in ok or a reason, within 5 s and 1 GB.

The same subjects are then converted as shards of 100, and each must have its row.

python tests/benchmark/fuzz_conversion.py [--suite any|nifti|gzip] [--files 2000] [--seed 1]
    [--only NUMBER]
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "workflow"), str(REPOSITORY / "tests")]

from damaged_files import (  # noqa: E402
    FAILURES,
    OK,
    SUITES,
    Outcome,
    Trial,
    run_cohort,
    run_trial,
    run_trials,
    write_good,
)

SHARD, SHARD_SECONDS = 100, 300


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a line for each form and kind of damage: files, ok, reasons, slowest, largest."""
    lines = [f"{'form':20s} {'damage':9s} {'files':>5s} {'ok':>5s} {'s':>5s} {'MB':>5s}  reasons"]
    suite = outcomes[0].trial.of
    for form in suite.forms:
        for how in suite.damages:
            members = [o for o in outcomes if (o.trial.form, o.trial.how) == (form, how)]
            if members:
                lines.append(_line(form, how, members))
    return [*lines, _line("all", "", outcomes)]


def _line(form: str, how: str, members: Sequence[Outcome]) -> str:
    counts = Counter(o.result for o in members)
    reasons = ", ".join(f"{r} {n}" for r, n in counts.most_common() if r != OK)
    slowest, largest = max(o.seconds for o in members), max(o.peak_mb for o in members)
    start = f"{form:20s} {how:9s} {len(members):5d} {counts[OK]:5d}"
    return f"{start} {slowest:5.2f} {largest:5.0f}  {reasons}"


def shards(home: Path, trials: Sequence[Trial]) -> int:
    """Convert the subjects of trials as shards; prints and returns how many shards failed."""
    parts = [list(trials[start : start + SHARD]) for start in range(0, len(trials), SHARD)]
    results = [run_cohort(home, part, SHARD_SECONDS) for part in parts]
    failed = [(result, told) for result, told, _ in results if result != OK]
    largest = max(peak_mb for _, _, peak_mb in results)
    print(f"{len(trials)} subjects as {len(parts)} shards, at most {largest:.0f} MB: ", end="")
    print(f"each has its row in all but {len(failed)} shards")
    print("".join(f"{result}\n{told}\n" for result, told in failed))
    return len(failed)


def main() -> int:
    """Run the trials and print the table; returns 1 if any file failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", choices=SUITES, default="any")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="number of the one file to try")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if told.only is None:
            outcomes = list(run_trials(Path(scratch), told.seed, told.files, told.suite))
        else:
            write_good(Path(scratch), told.suite)
            outcomes = [run_trial(Path(scratch), Trial(told.seed, told.only, told.suite))]
        lost = shards(Path(scratch), [outcome.trial for outcome in outcomes])
    print("\n".join(table(outcomes)))
    failed = [o for o in outcomes if o.result in FAILURES]
    for outcome in failed:
        trial = outcome.trial
        print(f"\n{trial.number}: {trial.form}, {trial.how}: {outcome.result}\n{outcome.told}")
    print(f"\nseed {told.seed}: {len(outcomes)} files, {len(failed)} failed")
    return 1 if failed or lost else 0


if __name__ == "__main__":
    sys.exit(main())
