"""How fast the review page of 10,000 simulated scans opens in Chromium, its memory, and its size on disk.

python tests/benchmark/review_page.py --scans 10000

Needs selenium, chromium and chromedriver. Slices have random values; there are no pictures.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "workflow"), str(REPOSITORY / "tests")]

from paravert import codebook, tables  # noqa: E402
from paravert.anatomy import LABELS  # noqa: E402
from paravert.study.review import write_review  # noqa: E402
from paravert.subject_folder import REVIEW_FOLDER, SAGITTAL_LINES  # noqa: E402
from review_browser import Page  # noqa: E402
from study_tables import SLICES_PER_SUBJECT, cohort_rows  # noqa: E402

DISTINCT = 50  # scans; the others are copies of them with other numbers
MEGABYTE = 1e6


def write_cohort(folder: Path, scans: int, slices: int) -> None:
    """Write cohort tables of so many scans with so many slices each."""
    rows = cohort_rows(DISTINCT, truth=False)
    random = np.random.default_rng(1)
    names = [f"S{number:06d}" for number in range(1, scans + 1)]
    for table in codebook.COHORT_TABLES:
        own = pd.DataFrame(tables.from_rows(table, rows[table.name]).to_pandas())
        per_scan = len(own) // DISTINCT
        if table is codebook.SLICES:
            frames = [own.assign(slice=own["slice"] + SLICES_PER_SUBJECT * n) for n in range(9)]
            own = pd.concat(frames).query("slice < @slices")
            own = own.sort_values(["subject", "slice"], kind="stable", ignore_index=True)
            per_scan = slices * len(LABELS)
        if not len(own):
            many = own
        else:
            of_scan = np.arange(scans * per_scan) // per_scan
            place = np.arange(scans * per_scan) % per_scan + per_scan * (of_scan % DISTINCT)
            many = own.iloc[place].reset_index(drop=True)
            many["subject"] = np.array(names)[of_scan]
        if table is codebook.SLICES:
            many["predicted_iou"] = random.beta(30, 3, len(many))
            many["csa_mm2"] *= random.uniform(0.8, 1.2, len(many))
        if table is codebook.LEDGER:
            many["labels_digest"] = [f"{number:016x}" for number in range(scans)]
            many["predicted_iou_lowest"] = random.beta(10, 3, scans)
            many["site"] = random.choice(["Ulm", "Basel", "Bern"], scans)
        data = pa.Table.from_pandas(many, schema=table.schema(), preserve_index=False)
        tables.write(folder / f"{table.name}.parquet", table, data, {})


def write_lines(folder: Path, scans: int, slices: int) -> None:
    """Write for each scan where its slices cut the sagittal picture, which is not there."""
    lines = [[69.6, 371.9 - 9.8 * number, 382.4, 255.3 - 9.1 * number] for number in range(slices)]
    told = {"size": [420, 420], "lines": [[round(x, 1) for x in line] for line in lines]}
    for number in range(1, scans + 1):
        home = folder / f"S{number:06d}" / REVIEW_FOLDER
        home.mkdir(parents=True)
        (home / SAGITTAL_LINES).write_text(json.dumps(told))


def count(page: Page, css: str) -> int:
    """Return the number of elements."""
    return page.driver.execute_script("return document.querySelectorAll(arguments[0]).length", css)


def memory_of_the_page(page: Page) -> float:
    """Return the unique set size of the process that shows the page, MB, and of all of Chromium."""
    family = psutil.Process(page.driver.service.process.pid).children(recursive=True)
    sizes = {p.pid: (p.memory_full_info().uss / MEGABYTE, p.cmdline()) for p in family}
    shows = [size for size, words in sizes.values() if "--type=renderer" in words]
    return max(shows), sum(size for size, _ in sizes.values())


def main() -> None:
    """Write the study and its page, open it several times, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=10_000)
    parser.add_argument("--slices", type=int, default=25, help="per scan, at most 54")
    parser.add_argument("--folder", type=Path, help="to keep the page in, or in which it is")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="review_page-") as scratch:
        home = given.folder or Path(scratch)
        print(f"{given.scans:,} scans of {given.slices} slices")
        if not (home / "review/index.html").is_file():
            write_cohort(home / "cohort", given.scans, given.slices)
            write_lines(home / "subjects", given.scans, given.slices)
            began, used = time.perf_counter(), time.process_time()
            write_review(home / "cohort", home / "subjects", home / "review")
            wall, used = time.perf_counter() - began, time.process_time() - used
            print(f"write_review: {wall:.0f} s, {used:.0f} s of processor time")
        sizes = [file.stat().st_size for file in (home / "review").rglob("*") if file.is_file()]
        print(
            f"folder: {sum(sizes) / MEGABYTE:.1f} MB, {len(sizes)} files, largest "
            f"{max(sizes) / MEGABYTE:.1f} MB, {sum(sizes) / MEGABYTE / given.scans * 10:.3f} MB per 10 scans"
        )
        page = Page(home, Path(scratch))
        try:
            for _ in range(3):
                began = time.perf_counter()
                page.open()
                page.wait(lambda: count(page, "#scans tbody tr") == 50)
                print(f"opens in {time.perf_counter() - began:.2f} s", end="; ")
                began = time.perf_counter()
                page.find("[data-column=multifidus] button").click()
                print(f"sorts in {time.perf_counter() - began:.2f} s", end="; ")
                began = time.perf_counter()
                page.press("j")
                page.wait(lambda: count(page, "figure") == given.slices)
                print(f"a scan in {time.perf_counter() - began:.2f} s")
            own, all_of_it = memory_of_the_page(page)
            print(
                f"memory: {own:.0f} MB of the page, {all_of_it:.0f} MB of all processes of Chromium"
            )
        finally:
            page.driver.quit()


if __name__ == "__main__":
    main()
