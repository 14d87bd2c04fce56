"""The reading list: scans to be rated blind, and the share of failures among those drawn at random."""

import hashlib
from collections.abc import Mapping, Sequence

import pandas as pd

from paravert.anatomy import MUSCLES, SIDES
from paravert.study.ratings import (
    ALL,
    ANY,
    CORRECT,
    FAIL,
    Rating,
    failed,
)
from paravert.study.scans import scan_names

WORST, RANDOM, BOTH = "worst", "random", "both"  # as what a scan is in the list
FAILURE_COLUMNS = (
    *("what", "verdict", "drawn", "rated", "count", "share", "share_low_95", "share_high_95"),
)


def reading_list(ledger: pd.DataFrame, size: int, seed: int) -> pd.DataFrame:
    """Return the scans that raters should rate without knowing why they were chosen, in random order.

    ledger: the cohort table with one row per scan; scans without labels are left out. size: how many
    scans with the lowest predicted IoU of a muscle and side in a slice (predicted_iou_lowest; "worst")
    are taken, and how many of all at random; a scan chosen in both ways ("both") is listed once. seed:
    of the choice and order. Columns: scan; drawn_as, "worst", "random" or "both". The numbers of the
    draw depend on seed and name alone (permanent random numbers, Ohlsson 1995), so most random scans
    stay in the list when few scans are added.
    """
    scans = ledger.assign(scan=scan_names(ledger))[ledger.labels_digest.notna()]
    known = scans.dropna(subset=["predicted_iou_lowest"])
    worst = set(known.sort_values(["predicted_iou_lowest", "scan"]).scan[:size])
    random = set(sorted(scans.scan, key=lambda scan: _number(seed, "drawn", scan))[:size])
    order = sorted(worst | random, key=lambda scan: _number(seed, "order", scan))
    drawn = [BOTH if s in worst & random else WORST if s in worst else RANDOM for s in order]
    return pd.DataFrame({"scan": order, "drawn_as": drawn}, dtype=object)


def _number(seed: int, purpose: str, scan: str) -> bytes:
    return hashlib.sha256(f"{seed}|{purpose}|{scan}".encode()).digest()


def share_of_failures(
    listed: pd.DataFrame,
    ratings: Sequence[Rating],
    digests: Mapping[str, str | None],
    rule: str,
) -> pd.DataFrame:
    """Return the share of failures among the randomly drawn scans that were rated.

    listed: from `reading_list`; those drawn as "random" or "both" are used. ratings: of all raters.
    digests: {scan: digest of its present labels}; ratings of other labels are ignored. rule: where
    raters differ, "any", "all" or a rater's name, see `ratings.failed`. Columns: FAILURE_COLUMNS.
    Rows (what, verdict): ("scan", "fail"), scans that failed as a whole; ("scan or muscle",
    "fail"), as a whole or in a muscle; ("scan or muscle", "fail or correct"), the verdict "correct"
    counted as well; (a muscle, "fail"), scans in which it failed on a side or that failed as a
    whole. drawn: number of random scans; rated: how many of these have a rating of their present
    labels that the rule uses; count, number of scans of the row; share, count / rated, with
    Wilson's 95 % interval share_low_95, share_high_95. These four are null if rated is 0.
    """
    random = set(listed.scan[listed.drawn_as != WORST])
    own = [rating for rating in ratings if rating.scan in random]
    rated = {
        rating.scan
        for rating in own
        if rating.fingerprint == digests.get(rating.scan) and rule in (ANY, ALL, rating.rater)
    }
    fails = failed(own, digests, rule)
    lacks = failed(own, digests, rule, (FAIL, CORRECT))
    counts = {
        ("scan", FAIL): len(fails.scans),
        ("scan or muscle", FAIL): len(fails.scans) + len(fails.muscles),
        ("scan or muscle", f"{FAIL} or {CORRECT}"): len(lacks.scans) + len(lacks.muscles),
    }
    for muscle in MUSCLES:
        sides = {(muscle, side) for side in SIDES}
        with_muscle = [scan for scan, places in fails.muscles.items() if places & sides]
        counts[muscle, FAIL] = len(fails.scans) + len(with_muscle)
    from statsmodels.stats.proportion import proportion_confint  # takes 1 s

    rows = []
    for (what, verdict), count in counts.items():
        row = {"what": what, "verdict": verdict, "drawn": len(random), "rated": len(rated)}
        if rated:
            low, high = proportion_confint(count, len(rated), method="wilson")
            row |= {"count": count, "share": count / len(rated)}
            row |= {"share_low_95": low, "share_high_95": high}
        rows.append(row)
    return pd.DataFrame(rows, columns=list(FAILURE_COLUMNS))
