"""Memory and time that a job requests.

No step imports this: a changed request does not rerun a step.
"""

JOB_MB = 500  # two Snakemake processes on a cluster, and the parent of the worker processes
JOB_MINUTES = 10

# Memory of a worker process: a subject of 120 slices of 512 x 512 fits into it, and the paper's
# network. On a GPU segment_muscles is one process, and takes less than that of two workers.
WORKER_MB = {
    "convert_dicom": 600,
    "segment_muscles": 900,
    "measure_area": 300,
    "measure_fat": 750,
    "score_overlap": 300,
    "draw_preview": 850,
    "dicomseg": 700,
}
# Time limit per subject: several times the usual duration.
SUBJECT_SECONDS = {
    "convert_dicom": 30,
    "segment_muscles": 60,
    "measure_area": 20,
    "measure_fat": 20,
    "score_overlap": 20,
    "draw_preview": 20,
    "dicomseg": 20,
}
# Time limit per thousand subjects of a step over the cohort: about ten times what was measured with up
# to 100,000 subjects (docs/scale.md).
COHORT_SECONDS = {
    "gather_cohort": 15,
    "fit_models": 2,
    "write_tables": 10,
    "draw_figures": 10,
    "write_report": 2,
}


def memory_mb(step: str, workers: int = 1) -> int:
    """Return the memory of a job (MB); workers: its worker processes."""
    return JOB_MB + workers * WORKER_MB[step]


def minutes(step: str, subjects: int) -> int:
    """Return the time limit of a job (minutes) for a shard of so many subjects."""
    return JOB_MINUTES + subjects * SUBJECT_SECONDS[step] // 60


def cohort_minutes(step: str, subjects: int) -> int:
    """Return the time limit of a job (minutes) over a cohort of so many subjects."""
    return JOB_MINUTES + subjects * COHORT_SECONDS[step] // 60_000
