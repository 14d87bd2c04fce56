"""What a cohort of 1,000, 10,000 and 100,000 subjects costs, and what a subject costs in each step.

python tests/benchmark/scale.py [--folder FOLDER] [--subjects 1000 10000 ...] [PART ...]

Parts: plan (dry runs, start of a job), study (gathering, models, tables, figures, report), models
(models and centiles alone, on cohort tables of 10,000 gathered subjects taken several times), steps (a
real run of linked subjects), measure (area and fat of one subject). All without any. The folder
keeps the phantoms and the simulated cohorts for the next time; without one they are temporary.
A line per figure: wall seconds, CPU seconds, peak memory of the largest process.
"""

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "workflow"), str(Path(__file__).parent)]

import scale_cohort  # noqa: E402

from paravert import records, shard_tables, steps, tables  # noqa: E402
from paravert.imaging.volume import Volume, read_volume, write_volume  # noqa: E402
from paravert.measure.area import measure_area  # noqa: E402
from paravert.measure.fat import measure_fat  # noqa: E402
from paravert.plan import shard_plan  # noqa: E402
from paravert.subject_folder import SubjectFolder  # noqa: E402

PHANTOMS = 32
REAL_SUBJECTS = 128
PARTS = ("plan", "study", "models", "steps", "measure")
GATHERED = 10_000  # subjects, of which larger cohorts are made by taking them several times
SHAPE, SPACING_MM = (40, 320, 320), 1.1  # of the subjects that measuring is timed on
SUBJECTS_MEASURED = 8
RUNS = 3


@dataclass(frozen=True)
class Cost:
    """What a process and its children took."""

    seconds: float
    cpu_seconds: float
    memory_mb: float

    def __str__(self) -> str:
        return f"{self.seconds:8.1f} s {self.cpu_seconds:8.1f} CPU s {self.memory_mb:7.0f} MB"


def cost_of(words: list[object], folder: Path) -> Cost:
    """Run a Python module in a folder; its output is shown if it fails."""
    command = [sys.executable, "-P", "-m", *map(str, words)]  # as jobs and commands start
    workflow = str(REPOSITORY / "workflow")
    environment = {**os.environ, "PYTHONPATH": workflow, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as said:
        streams = [(os.POSIX_SPAWN_DUP2, said.fileno(), number) for number in (1, 2)]
        start = time.perf_counter()
        before = os.getcwd()
        os.chdir(folder)
        try:
            child = os.posix_spawn(command[0], command, environment, file_actions=streams)
        finally:
            os.chdir(before)
        _, status, usage = os.wait4(child, 0)
        seconds = time.perf_counter() - start
        if os.waitstatus_to_exitcode(status):
            said.seek(0)
            raise SystemExit(said.read()[-5000:])
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def tell(*words: object) -> None:
    """Print a line at once."""
    print(*words, flush=True)


# --- simulated cohorts ---------------------------------------------------------------------------


def simulated(folder: Path, subjects: int, *, results: bool) -> Path:
    """Return a simulated study; results: whether its shard tables are there, too."""
    phantom_study = scale_cohort.measured_phantoms(folder, PHANTOMS)
    study = folder / f"{'gathered' if results else 'planned'}_{subjects}"
    if not study.exists():
        phantoms = sorted(path.name for path in (phantom_study / "results/subjects").iterdir())
        cohort = scale_cohort.people(subjects, phantoms)
        scale_cohort.make_study(study, phantom_study, cohort)
        if results:
            scale_cohort.simulate_results(study, phantom_study, cohort)
    return study


def plan(folder: Path, subjects: int) -> None:
    """Tell what a dry run and the start of a job take."""
    study = simulated(folder, subjects, results=False)
    names = [row["subject"] for row in _rows(study / "sheet.tsv", "\t")]
    shard = next(iter(shard_plan(names, scale_cohort.SUBJECTS_PER_SHARD)))
    dry = [*scale_cohort.SNAKEMAKE, "--dry-run"]
    job = ["--mode", "subprocess", "--cores", 1, "--allowed-rules", "convert_dicom"]
    job += ["--target-jobs", f"convert_dicom:shard={shard}"]
    for name, words in (("dry run", dry), ("start of a job", [*dry, *job])):
        costs = [cost_of(words, study) for _ in range(RUNS)]
        tell(f"{subjects:7d} {name:15s}", min(costs, key=lambda cost: cost.seconds), "(best)")


def cohort_commands() -> dict[str, list[object]]:
    """Return the options of the commands over the whole cohort, from gathering to the report."""
    settings = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
    model = REPOSITORY / settings["model"]["file"]
    cohort, tables, figures = (f"results/{name}" for name in ("cohort", "tables", "figures"))
    of_subjects = ["--folder", "results/subjects"]
    return {
        "gather_cohort": [
            *("--sheet", "sheet.tsv", "--folder", "results/shards", "--out", cohort),
            *("--fat-fraction", "otsu_subject", "--model", model, "--model-sha256", "0" * 64),
            *("--configuration", json.dumps(settings)),
        ],
        "export_tables": ["--cohort", cohort, "--formats", "csv", "--out", cohort],
        "fit_models": ["--cohort", cohort, "--out", f"{tables}/models.csv"],
        "fit_centiles": ["--cohort", cohort, "--out", f"{tables}/centiles.parquet"],
        "write_tables": ["--cohort", cohort, "--out", tables],
        "write_review": ["--cohort", cohort, *of_subjects, "--out", "results/review"],
        "draw_figures": ["--cohort", cohort, *of_subjects, "--model", model, "--out", figures],
        "write_report": [
            *("--cohort", cohort, "--tables", tables, "--figures", figures, *of_subjects),
            *("--review", "results/review"),
            *("--configuration", f"{cohort}/configuration.yaml", "--out", "results/report.html"),
        ],
    }


def study_steps(folder: Path, subjects: int) -> None:
    """Tell what the steps over the whole cohort take."""
    study = simulated(folder, subjects, results=True)
    for name, options in cohort_commands().items():
        tell(f"{subjects:7d} {name:15s}", cost_of(["paravert", name, *options], study))


def models(folder: Path, subjects: int) -> None:
    """Tell what models and centiles take of GATHERED subjects, taken several times."""
    study, commands = folder / f"multiplied_{subjects}", cohort_commands()
    if not study.exists():
        gathered = simulated(folder, GATHERED, results=True)
        if not (gathered / "results/cohort").exists():
            cost_of(["paravert", "gather_cohort", *commands["gather_cohort"]], gathered)
        of_study = study / "results/cohort"
        scale_cohort.multiply_cohort(gathered / "results/cohort", of_study, subjects // GATHERED)
    for name in ("fit_models", "fit_centiles"):
        tell(f"{subjects:7d} {name:15s}", cost_of(["paravert", name, *commands[name]], study))


# --- a real run ----------------------------------------------------------------------------------


def real_run(folder: Path) -> None:
    """Tell what each step costs per subject, and what a run costs beside the work in its steps.

    The latter is what a second run takes that does all jobs again, one after the other, for one
    subject of each shard, and finds it held: Snakemake and the starts of all commands.
    """
    study = folder / f"real_{REAL_SUBJECTS}"
    if not study.exists():
        phantom_study = scale_cohort.measured_phantoms(folder, PHANTOMS)
        phantoms = sorted(path.name for path in (phantom_study / "results/subjects").iterdir())
        people = scale_cohort.people(REAL_SUBJECTS, phantoms)
        scale_cohort.make_study(study, phantom_study, people)
        tell("first run", cost_of([*scale_cohort.SNAKEMAKE], study))
        (study / "first").mkdir()
        (study / "results/benchmarks").rename(study / "first/benchmarks")
    for step in steps.COHORT_STEPS:
        seconds, cpu, memory = _benchmarked(study / "first/benchmarks" / step.name)
        per_subject = f"{seconds / REAL_SUBJECTS:.3f} s, {cpu / REAL_SUBJECTS:.3f} CPU s a subject"
        tell(f"{step.name:15s} {per_subject}, {memory:.0f} MB")
    _tell_disk(study)
    names = [row["subject"] for row in _rows(study / "sheet.tsv", "\t")]
    plan = shard_plan(names, scale_cohort.SUBJECTS_PER_SHARD)
    targets = [
        f"results/shards/{shard}/{step.table.name}.parquet"
        for shard in plan
        for step in steps.COHORT_STEPS
    ]
    ones = ",".join(subjects[0] for subjects in plan.values())
    again = ["--cores", 1, "--forceall", "--config", f"subjects={ones}", "--", *targets]
    cost = cost_of([*scale_cohort.SNAKEMAKE, *again], study)
    tell("one held a shard", cost, f"{cost.cpu_seconds / REAL_SUBJECTS:.3f} CPU s a subject")


def _benchmarked(folder: Path) -> tuple[float, float, float]:
    """Return seconds and CPU seconds of all shards, and the most memory."""
    rows = [row for file in sorted(folder.glob("*.tsv")) for row in _rows(file, "\t")]
    seconds, cpu = (sum(float(row[name]) for row in rows) for name in ("s", "cpu_time"))
    return seconds, cpu, max(float(row["max_rss"]) for row in rows)


def _rows(path: Path, delimiter: str) -> Iterator[dict[str, str]]:
    with path.open(newline="") as file:
        yield from csv.DictReader(file, delimiter=delimiter)


def _tell_disk(study: Path) -> None:
    for name in ("subjects", "shards", "cohort"):
        files = [path for path in (study / "results" / name).rglob("*") if path.is_file()]
        megabytes = sum(path.stat().st_size for path in files) / 1e6
        each = f"{megabytes / REAL_SUBJECTS:.2f} MB, {len(files) / REAL_SUBJECTS:.1f} files"
        tell(f"results/{name:9s} {each} a subject")


# --- measuring -----------------------------------------------------------------------------------


def measuring(folder: Path) -> None:
    """Tell what area and fat of one subject take in one process, the start of Python left out.

    A subject has 40 slices of 320 x 320: a phantom's with its slices, rows and columns repeated.
    The steps are called as the commands call them: files are read, records and tables written.
    """
    phantom_study = scale_cohort.measured_phantoms(folder, PHANTOMS)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        segment = _measurable(home, next((phantom_study / "results/subjects").iterdir()))
        for step in (measure_area, measure_fat):
            taken = []
            for run in range(RUNS):
                for record in home.glob("*/*.json"):
                    record.unlink()
                start = time.perf_counter(), time.process_time()
                step(segment, home, home / f"{run}.parquet")
                taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
            wall, cpu = (min(column) / SUBJECTS_MEASURED for column in zip(*taken, strict=True))
            tell(f"{step.__name__:15s} {wall:.3f} s, {cpu:.3f} CPU s a subject (best of {RUNS})")


def _measurable(home: Path, phantom: Path) -> Path:
    """Write the images and labels of some subjects and return the shard table that names them."""
    parts = {part: _resized(_read(phantom, part).array) for part in ("image", "labels")}
    affine = np.diag([-SPACING_MM, -SPACING_MM, 4.0, 1.0])
    spacings = {"row_spacing_mm": SPACING_MM, "column_spacing_mm": SPACING_MM}
    place = {"tilt_deg": 0.0, "slab_mm": 4.0, "slab_source": "positions", "overlaps": False}
    rows = [
        {"stack": 1, "slice": n, "position_mm": 4.0 * n, "affine": affine.ravel().tolist()}
        | spacings
        | place
        for n in range(SHAPE[0])
    ]
    names = [f"S{number}" for number in range(SUBJECTS_MEASURED)]
    for name in names:
        for part, array in parts.items():
            write_volume(SubjectFolder(home / name).stack_file(part, 1), Volume(array, affine))
        geometry = tables.from_rows(tables.GEOMETRY, rows)
        tables.write(home / name / "slices.parquet", tables.GEOMETRY, geometry, {})
    step, segment = steps.STEPS["segment_muscles"], home / "segment.parquet"
    outcomes = [records.Outcome(name, records.ANALYSED, "f") for name in names]
    results = [records.Result(outcome, [{"labels_source": "network"}]) for outcome in outcomes]
    shard_tables.write_shard_table(segment, step, results, "labels")
    return segment


def _read(home: Path, part: str) -> Volume:
    return read_volume(SubjectFolder(home).stack_file(part, 1))


def _resized(array: np.ndarray) -> np.ndarray:
    """Return an array of SHAPE, rows and slices repeated or left out."""
    places = [
        np.linspace(0, n - 1, size).round().astype(int)
        for n, size in zip(array.shape, SHAPE, strict=True)
    ]
    return np.ascontiguousarray(array[np.ix_(*places)])


def main(folder: Path, subjects: list[int], parts: list[str]) -> None:
    """Print the figures of some parts."""
    tell(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for number in subjects:
        if "plan" in parts:
            plan(folder, number)
        if "study" in parts:
            study_steps(folder, number)
        if "models" in parts and number > GATHERED:
            models(folder, number)
    if "steps" in parts:
        real_run(folder)
    if "measure" in parts:
        measuring(folder)
    tell(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--subjects", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = given.folder.resolve() if given.folder else Path(scratch)
        home.mkdir(parents=True, exist_ok=True)
        main(home, given.subjects, given.parts)
