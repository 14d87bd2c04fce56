"""A simulated cohort: many subjects whose images are links to a few phantoms.

The shard tables are those of the phantoms, measured by the workflow itself, replicated under other
names with sizes and fat fractions of their own; some subjects are quarantined.
"""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "workflow"), str(REPOSITORY / "tests")]

from made_from import chain  # noqa: E402
from paravert import plan, records, shard_tables, steps, tables  # noqa: E402

SNAKEMAKE = ("snakemake", "--snakefile", REPOSITORY / "Snakefile", "--configfile", "study.yaml")
SEED = 7
SUBJECTS_PER_SHARD = 64
TRUTH_EVERY = 10  # every tenth subject comes with a manual mask
FAULTY = {"convert_dicom": (97, "no-dicom"), "measure_fat": (501, "blank-images")}  # every n-th
SCALED = (
    *("csa_mm2", "csa_axial_mm2", "csa_across_mm2"),
    *("pixels", "pixels_truth", "pixels_prediction"),
)
SHIFTED = ("fat_fraction_", "eroded_")
JITTERED = ("iou", "dice")
MEASURED = ("csa_", "volume_", *SHIFTED)  # of cohort tables
FINGERPRINT = "0" * 64  # of all conversions
OF_PHANTOMS = "phantom_study"


@dataclass(frozen=True)
class Person:
    """One subject of the simulated cohort. size, fat: of its muscles, to those of the phantom."""

    subject: str
    phantom: str
    sex: str
    age_years: int
    height_cm: int
    weight_kg: int
    size: float
    fat: float
    has_truth: bool
    faulty: str | None

    def quarantined_by(self, step: str) -> bool:
        """Return whether the subject is out in a step, by it or by one before."""
        order = list(steps.STEPS)
        return self.faulty is not None and order.index(step) >= order.index(self.faulty)


def run(*words: object, folder: Path | None = None) -> None:
    """Run a Python module; its output is shown if it fails."""
    command = [sys.executable, "-P", "-m", *map(str, words)]
    environment = {"PYTHONPATH": str(REPOSITORY / "workflow"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def measured_phantoms(folder: Path, count: int) -> Path:
    """Draw phantoms and run the workflow on them, unless that is done; return the study's folder."""
    phantoms, study = folder / "phantoms", folder / OF_PHANTOMS
    if (study / "results/report.html").is_file():
        return study
    options = ["--seed", SEED, "--volunteers", count, "--workers", 2]
    run("paravert", "make_phantoms", "--out", phantoms, *options)
    study.mkdir(exist_ok=True)
    settings = {"sheet": str(phantoms / "subjects.tsv"), "subjects_per_shard": 16}
    (study / "study.yaml").write_text(yaml.safe_dump(settings))
    run(*SNAKEMAKE, folder=study)
    return study


def people(count: int, phantoms: list[str]) -> list[Person]:
    """Return the cohort: sexes in turn, ages 20 to 90, sizes and fat by sex, age and chance."""
    random = np.random.default_rng(SEED)
    ages = random.integers(20, 91, count)
    heights, weights = random.normal(0, 7, count), random.normal(0, 12, count)
    sizes, fats = random.normal(0, 0.12, count), random.normal(0, 0.03, count)
    cohort = []
    for number in range(count):
        man = number % 2
        faulty = [step for step, (each, _) in FAULTY.items() if number % each == each - 1]
        cohort.append(
            Person(
                subject=f"S{number:06d}",
                phantom=phantoms[number % len(phantoms)],
                sex="FM"[man],
                age_years=int(ages[number]),
                height_cm=round(166 + 13 * man + heights[number]),
                weight_kg=max(35, round(70 + 14 * man + weights[number])),
                size=float(np.exp(sizes[number] - 0.005 * (ages[number] - 40))) * (1 + 0.3 * man),
                fat=float(fats[number] + 0.002 * (ages[number] - 40)),
                has_truth=number % TRUTH_EVERY == 0,
                faulty=faulty[0] if faulty else None,
            )
        )
    return cohort


def make_study(folder: Path, phantom_study: Path, cohort: list[Person]) -> None:
    """Make a study: links in place of images, the sheet and the configuration."""
    folder.mkdir(parents=True)
    phantoms = phantom_study.parent / "phantoms"
    (folder / "images").mkdir()
    with (folder / "sheet.tsv").open("w", newline="") as file:
        sheet = csv.writer(file, delimiter="\t", lineterminator="\n")
        sheet.writerow(
            ["subject", "images", "truth", "sex", "age_years", "height_cm", "weight_kg", "site"]
        )
        for one in cohort:
            (folder / "images" / one.subject).symlink_to(phantoms / one.phantom / "dicom")
            truth = phantoms / one.phantom / "truth.nii.gz" if one.has_truth else ""
            known = [one.sex, one.age_years, one.height_cm, one.weight_kg]
            sheet.writerow([one.subject, f"images/{one.subject}", truth, *known, "simulated"])
    settings = {"sheet": "sheet.tsv", "subjects_per_shard": SUBJECTS_PER_SHARD}
    (folder / "study.yaml").write_text(yaml.safe_dump(settings))


def simulate_results(folder: Path, phantom_study: Path, cohort: list[Person]) -> None:
    """Write the tables of all shards of a study, and links in place of the subjects' files."""
    subjects = folder / "results/subjects"
    subjects.mkdir(parents=True)
    for one in cohort:
        (subjects / one.subject).symlink_to(phantom_study / "results/subjects" / one.phantom)
    by_name = {one.subject: one for one in cohort}
    by_shard = plan.shard_plan(list(by_name), SUBJECTS_PER_SHARD)
    for step in steps.COHORT_STEPS:
        parts = _rows_by_phantom(phantom_study, step)
        for shard, names in by_shard.items():
            own = [by_name[name] for name in names]
            made_from = chain(dict.fromkeys(names, FINGERPRINT))[step.name]
            write_shard(folder / "results/shards" / shard, step, own, parts, made_from)


def _rows_by_phantom(study: Path, step: steps.Step) -> dict[str, pa.Table]:
    files = sorted((study / "results/shards").glob(f"*/{step.table.name}.parquet"))
    rows = pa.concat_tables([pq.read_table(file).replace_schema_metadata(None) for file in files])
    names = pc.unique(rows["subject"]).to_pylist()
    return {name: rows.filter(pc.equal(rows["subject"], name)) for name in names}


def write_shard(
    folder: Path,
    step: steps.Step,
    people: list[Person],
    parts: dict[str, pa.Table],
    made_from: str,
) -> None:
    """Write one step's table of one shard. parts: rows of the phantoms."""
    outcomes, chunks, own = [], [], []
    for one in people:
        out = one.quarantined_by(step.name)
        outcomes.append(_outcome(one, out))
        scored = step.name != "score_overlap" or one.has_truth
        if not out and scored and one.phantom in parts:
            chunks.append(parts[one.phantom])
            own.append(one)
    data = _varied(step, own, chunks)
    if step.table.per_subject:
        gone = [
            shard_tables.outcome_row(outcome)
            for outcome in outcomes
            if outcome.status != "analysed"
        ]
        data = pa.concat_tables([data, tables.from_rows(step.table, gone)]).sort_by("subject")
    told = json.dumps([asdict(outcome) for outcome in outcomes])
    metadata = {"outcomes": told, "made_from": made_from}
    tables.write(folder / f"{step.table.name}.parquet", step.table, data, metadata)


def multiply_cohort(source: Path, out: Path, times: int) -> None:
    """Write cohort tables with the subjects of others several times, under other names.

    source, out: folders of cohort tables. Areas, volumes and fat fractions are multiplied by .9 to
    1.1, by subject.
    """
    out.mkdir(parents=True)
    shutil.copy(source / "configuration.yaml", out)
    for path in sorted(source.glob("*.parquet")):
        with pq.ParquetFile(path) as rows:
            schema = rows.schema_arrow
            texts = [one.name for one in schema if not pa.types.is_primitive(one.type)]
            with pq.ParquetWriter(out / path.name, schema, use_dictionary=texts) as writer:
                for copy in range(times):
                    for group in range(rows.num_row_groups):
                        writer.write_table(_renamed(rows.read_row_group(group), copy))


def _renamed(rows: pa.Table, copy: int) -> pa.Table:
    names = rows["subject"].combine_chunks().dictionary_encode()
    renamed = np.array([f"{copy}{name}" for name in names.dictionary.to_pylist()])
    subjects = np.asarray(names.indices)
    by_chance = pd.util.hash_array(renamed.astype(object)) / 2**64
    factor = pa.array((0.9 + 0.2 * by_chance)[subjects])
    new = pa.DictionaryArray.from_arrays(names.indices, pa.array(renamed))
    columns = [new.cast(rows.schema.field("subject").type)]
    for name in rows.schema.names[1:]:
        measured = name.startswith(MEASURED) and pa.types.is_float64(rows.schema.field(name).type)
        columns.append(pc.multiply(rows[name], factor) if measured else rows[name])
    return pa.Table.from_arrays(columns, schema=rows.schema)


def _outcome(one: Person, out: bool) -> records.Outcome:
    if not out:
        return records.Outcome(one.subject, "analysed", FINGERPRINT)
    reason = FAULTY[one.faulty][1]
    return records.Outcome(
        one.subject, "quarantined", FINGERPRINT, (), one.faulty, reason, "simulated, expected none"
    )


def _varied(step: steps.Step, people: list[Person], chunks: list[pa.Table]) -> pa.Table:
    """Return the rows of a shard's subjects, numbers scaled and shifted."""
    if not chunks:
        return tables.from_rows(step.table, [])
    data = pa.concat_tables(chunks).combine_chunks()
    lengths = [chunk.num_rows for chunk in chunks]
    size = np.repeat([one.size for one in people], lengths)
    fat = np.repeat([one.fat for one in people], lengths)
    noise = np.random.default_rng(len(lengths)).normal(0, 0.01, len(size))
    columns = {"subject": pa.array(np.repeat([one.subject for one in people], lengths).tolist())}
    for name in data.schema.names[1:]:
        values = data[name]
        if name in SCALED:
            whole = values.type == tables.WHOLE
            scaled = values.to_numpy() * size
            columns[name] = pa.array(np.round(scaled).astype(np.int32) if whole else scaled)
        elif name.startswith(SHIFTED):
            columns[name] = _within(values, fat)
        elif name in JITTERED:
            columns[name] = _within(values, noise)
        else:
            columns[name] = values
    return pa.table(columns).cast(step.table.schema())


def _within(values: pa.ChunkedArray, added: np.ndarray) -> pa.ChunkedArray:
    """Return fractions with something added, between 0.001 and 1; null stays null."""
    return pc.max_element_wise(
        pc.min_element_wise(pc.add(values, pa.array(added)), 1.0, skip_nulls=False),
        0.001,
        skip_nulls=False,
    )
