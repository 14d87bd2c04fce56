"""Warnings that only the cohort as a whole gives cause to: images that are away or shared."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from paravert.errors import Caution, some_of
from paravert.plan import images_away
from paravert.records import ANALYSED
from paravert.steps import STEPS

log = logging.getLogger(__name__)

Cautions = Mapping[str, set[Caution]]


def cohort_cautions(
    folder: Path,
    by_shard: Mapping[str, Sequence[str]],
    rows: Mapping[str, Mapping[str, str]],
) -> Cautions:
    """Return these warnings by subject.

    folder: of the shards. rows: lines of the sheet by subject.
    """
    told: dict[str, set[Caution]] = defaultdict(set)
    owners: dict[bytes, list[str]] = defaultdict(list)
    columns = ["subject", "status", "image_digests"]
    for shard in by_shard:
        table = folder / shard / f"{STEPS['convert_dicom'].table.name}.parquet"
        for row in pq.read_table(table, columns=columns).to_pylist():
            if row["status"] == ANALYSED and images_away(rows[row["subject"]]):
                told[row["subject"]].add(Caution.IMAGES_OFFLINE)
            for digest in set(row["image_digests"] or ()):
                owners[digest].append(row["subject"])
    for group in sorted({tuple(sorted(group)) for group in owners.values() if len(group) > 1}):
        log.info("gather_cohort: the same images: %s", some_of(group))
        for subject in group:
            told[subject].add(Caution.IMAGES_SHARED)
    return told
