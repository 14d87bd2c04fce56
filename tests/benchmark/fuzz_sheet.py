"""Reads subject sheets with random damage: each line must become a row, or a fault be told.

python tests/benchmark/fuzz_sheet.py [--sheets 2000] [--seed 1] [--only NUMBER]
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "workflow"), str(REPOSITORY / "tests")]

from damaged_sheets import (  # noqa: E402
    DAMAGES,
    FAILURES,
    FORMS,
    OK,
    TOLD,
    Outcome,
    run_trial,
    run_trials,
)


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a line for each form and kind of damage: sheets, read, told, failed, slowest."""
    lines = [
        f"{'form':16s} {'damage':9s} {'sheets':>6s} {'read':>5s} {'told':>5s} {'failed':>6s} {'s':>5s}"
    ]
    for form in FORMS:
        for how in DAMAGES:
            members = [o for o in outcomes if (o.form, o.how) == (form, how)]
            if members:
                lines.append(_line(form, how, members))
    return [*lines, _line("all", "", outcomes)]


def _line(form: str, how: str, members: Sequence[Outcome]) -> str:
    counts = Counter(outcome.result for outcome in members)
    failed = sum(counts[failure] for failure in FAILURES)
    slowest = max(outcome.seconds for outcome in members)
    start = f"{form:16s} {how:9s} {len(members):6d} {counts[OK]:5d} {counts[TOLD]:5d}"
    return f"{start} {failed:6d} {slowest:5.2f}"


def main() -> int:
    """Run the trials and print the table; returns 1 if any sheet failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sheets", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="number of the one sheet to try")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        if told.only is None:
            outcomes = list(run_trials(home, told.seed, told.sheets))
        else:
            outcomes = [run_trial(home, told.seed, told.only)]
    print("\n".join(table(outcomes)))
    failed = [outcome for outcome in outcomes if outcome.result in FAILURES]
    for one in failed:
        print(f"\n{one.number}: {one.form}, {one.how}: {one.result}\n{one.told}")
    peak_mb = max(outcome.peak_mb for outcome in outcomes)
    print(f"\nseed {told.seed}: {len(outcomes)} sheets, {len(failed)} failed, {peak_mb:.0f} MB")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
