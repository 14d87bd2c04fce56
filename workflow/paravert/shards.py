"""Runs a step for the subjects of a shard (a group that one job processes), in worker processes.

For each subject a step writes its files below `<folder>/<subject>/` and a record (`records`): the
fingerprint of what made them, the outcome and the subject's rows. A rerun keeps a result while its
fingerprint and files are unchanged. If a worker process dies, the job works on the other subjects
and fails; the next run retries, last and alone, the subjects that were being processed, and
quarantines one on which a process dies again. Subject: the name of a scan, such as A001, or A001_2 for a
second visit (`sheet.scan_of`).
"""

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from typing import Any

from tqdm import tqdm

from paravert.errors import Caution, InputError, Reason, SubjectFault
from paravert.plan import (
    conversion_made_from,
    file_states,
    result_fingerprint,
    step_made_from,
    with_subjects,
)
from paravert.records import ANALYSED, QUARANTINED, Outcome, Result, ResultStore, StoredResult
from paravert.shard_tables import read_made_from, read_outcomes, write_shard_table
from paravert.steps import STEPS, Step

log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
MOST_CRASHES = 2  # the first may be caused by another subject; the second cannot: it was alone


@dataclass(frozen=True)
class Task:
    """One subject that a step is to process, and what its result depends on.

    subject: name of the scan. depends_on: JSON-able dict of everything on which the result depends
    besides the step's name and version; `plan.result_fingerprint` hashes it. inputs_away: whether the
    inputs are missing or unreadable; a stored result is then kept, whatever depends_on and the version
    say, if the previous step's result is the one that it was made from; if its files were changed,
    InputError is raised.
    """

    subject: str
    depends_on: dict
    inputs_away: bool = False


@dataclass(frozen=True)
class Product:
    """What a step returns for one subject that it could analyse.

    rows: one dict per row of the shard's table, {column: value} without the column `subject`, with the
    columns of `Step.table`; an unknown number is None (NaN and infinity raise ValueError when the
    result is stored). Its files are those in `Step.owns`, no others. warnings: codes about the data
    (errors.Caution). note: details of the warnings, for the column `message`; None if there are none.
    """

    rows: list[dict]
    warnings: tuple[Caution, ...] = ()
    note: str | None = None


# --- working through a shard ---------------------------------------------------------------------


def work_through(
    step_name: str,
    tasks: Sequence[Task],
    do: Callable[[Task, Path], Product],
    *,
    folder: Path,
    out: Path,
    workers: int = 0,
) -> None:
    """Run the first step (convert_dicom) for each subject of a shard and write the shard's table.

    step_name: key of STEPS. tasks: one per subject. do: function (task, empty folder) that writes the
    subject's files into the folder and returns its rows and warnings; the files are then moved to
    `folder/<subject>/`. If it raises SubjectFault or MemoryError, the subject is quarantined; any other
    exception fails the job. folder: holds a folder per subject. out: Parquet file of the table, in
    order of subject. workers: number of worker processes, to which `do` is pickled; 0 computes in this
    process. A subject whose stored result has the same fingerprint and unchanged files is not computed
    again. Raises InputError if files of a stored result were changed whose inputs are away (`Task`). If
    a worker process died, the table is not written: ChildProcessError is raised after the other
    subjects. If one dies again in the next run, alone with the subject, the subject is quarantined
    instead.
    """
    shard = _Shard(STEPS[step_name], folder)
    jobs = shard.jobs(tasks)
    made_from = conversion_made_from({job.task.subject: job.fingerprint for job in jobs})
    _write(shard, shard.in_turn(do, jobs, workers), len(tasks), made_from, out)


def work_after(
    shard_table: Path,
    step_name: str,
    do: Callable[[Task, Path], Product],
    *,
    folder: Path,
    out: Path,
    workers: int = 0,
    settings: Mapping | None = None,
    applies: Callable[[str], bool] | None = None,
    own: Mapping[str, Mapping] | None = None,
    files: Mapping[str, str] | None = None,
    away: Collection[str] = (),
    besides: Mapping[str, Path] | None = None,
) -> None:
    """Run a step for each subject that the previous step analysed, and write the shard's table.

    Shard: a group of subjects that one job processes. shard_table: the previous step's table; subjects
    that it quarantined keep their outcome. step_name: key of STEPS. do: function (task, empty folder)
    that writes the subject's files into the folder and returns its rows and warnings; the files are
    then moved to `folder/<subject>/`. If it raises SubjectFault or MemoryError, the subject is
    quarantined; any other exception fails the job. folder: holds a folder per subject. out: Parquet
    file of the table, in order of subject. workers: number of worker processes, to which `do` is
    pickled; 0 computes in this process. settings: JSON-able, what results depend on besides the
    previous step. applies: function of a subject's name that returns whether its result depends on
    `settings`; None if every result does. own: {subject: settings on which its result alone depends}.
    files: {subject: path of a further input file, "" for none}; its size and time count as a setting.
    away: subjects whose images are away. While the file of one of these cannot be read either, a stored
    result that was made from the same result of the previous step is kept, even if settings changed;
    otherwise `do` runs. besides: {step: shard table} of the steps in `Step.besides`; their results
    count as settings. own, files and besides count whatever `applies` returns.

    The fingerprint of a result is a digest of the step's name and version, the previous step's result
    and all these settings. A subject whose stored result has the same fingerprint and unchanged files
    is not computed again. For a subject that is computed, raises InputError if files that the step
    reads were changed or removed since an earlier step wrote them; for one whose inputs are away, if
    files of its stored result were; also if shard_table or a table of besides is missing or not a shard
    table. A worker process that dies: see `work_through`.
    """
    _run_after(
        shard_table,
        _Shard(STEPS[step_name], folder),
        lambda shard, jobs: shard.in_turn(do, jobs, workers),
        out,
        settings or {},
        applies,
        own or {},
        files or {},
        away,
        besides or {},
    )


def overlapped_after(
    shard_table: Path,
    step_name: str,
    read: Callable[[Task], Any],
    compute: Callable[[Any], Any],
    write: Callable[[Task, Any, Path], Product],
    *,
    folder: Path,
    out: Path,
    settings: Mapping | None = None,
    applies: Callable[[str], bool] | None = None,
) -> None:
    """Run a step on one GPU for each subject that the previous step analysed; write the table.

    While `compute` works on one subject in the main thread, two other threads read the next one and
    write the one before. shard_table: the previous step's table; subjects that it quarantined keep
    their outcome. step_name: key of STEPS. read: function of a task that returns the subject's inputs.
    compute: function of these inputs that returns results. write: function (task, results, empty
    folder) that writes the subject's files into the folder and returns its `Product`; the files are
    then moved to `folder/<subject>/`. If one of the three raises SubjectFault or MemoryError, the
    subject is quarantined; any other exception fails the job. folder: holds a folder per subject. out:
    Parquet file of the table, in order of subject. settings: JSON-able, what results depend on besides
    the previous step. applies: function of a subject's name that returns whether its result depends on
    `settings`; None if every result does.

    A subject whose stored result has the same fingerprint (`work_after`) and unchanged files is not
    computed again. For a subject that is computed, raises InputError if files that the step reads were
    changed or removed since an earlier step wrote them; also if shard_table is missing or not a shard
    table.
    """
    _run_after(
        shard_table,
        _Shard(STEPS[step_name], folder),
        lambda shard, jobs: shard.overlapped(read, compute, write, jobs),
        out,
        settings or {},
        applies,
    )


def _run_after(
    shard_table: Path,
    shard: "_Shard",
    results: Callable[["_Shard", list["_Job"]], Iterator[Result]],
    out: Path,
    settings: Mapping,
    applies: Callable[[str], bool] | None,
    own: Mapping[str, Mapping] | None = None,
    files: Mapping[str, str] | None = None,
    away: Collection[str] = (),
    besides: Mapping[str, Path] | None = None,
) -> None:
    own, states = own or {}, file_states(files or {})
    tables = {shard.step.after: shard_table, **(besides or {})}
    upstream = {name: read_made_from(table) for name, table in tables.items()}
    made_from = step_made_from(
        shard.step,
        with_subjects(settings, own, states),
        dict.fromkeys(shard.step.besides) | upstream,
    )
    beside = {
        name: {outcome.subject: outcome.identity for outcome in read_outcomes(table)}
        for name, table in (besides or {}).items()
    }

    def depends_on(subject: str) -> dict:
        used = settings if applies is None or applies(subject) else {}
        used = used | {name: identities.get(subject) for name, identities in beside.items()}
        return with_subjects(used, *({s: v[s] for s in [subject] if s in v} for v in (own, states)))

    tasks, outcomes = tasks_after(shard_table, depends_on)
    lost = {name for name in states if name in away and not os.access(files[name], os.R_OK)}
    tasks = [replace(task, inputs_away=task.subject in lost) for task in tasks]
    _write(shard, results(shard, shard.jobs(tasks)), len(tasks), made_from, out, outcomes)


def tasks_after(
    shard_table: Path, depends_on: Callable[[str], dict] | None = None
) -> tuple[list[Task], list[Outcome]]:
    """Return the tasks of a step after the first, and the previous step's outcomes of all subjects.

    There is one task per subject that the previous step analysed. shard_table: the previous step's
    table. depends_on: function of a subject's name that returns, as a JSON-able dict, what its result
    depends on besides the previous step's result; None if nothing. `Task.depends_on` is this dict with
    the identity of the previous step's result under "upstream". Outcomes: quarantined subjects
    included, in the order of the table. Raises InputError if shard_table is missing or not a shard
    table.
    """
    outcomes = read_outcomes(shard_table)
    tasks = []
    for outcome in outcomes:
        if outcome.status == ANALYSED:
            own = depends_on(outcome.subject) if depends_on else {}
            tasks.append(Task(outcome.subject, {"upstream": outcome.identity, **own}))
    return tasks, outcomes


@dataclass(frozen=True)
class _Job:
    """A task with the fingerprint of its result.

    crashes: how many processes crashed on it. left: whether another process computes it or crashed.
    """

    task: Task
    fingerprint: str
    crashes: int
    left: bool


@dataclass(frozen=True)
class _Shard:
    """A step and the folder of its subjects."""

    step: Step
    folder: Path

    def jobs(self, tasks: Sequence[Task]) -> list[_Job]:
        """Return one job per task, with its fingerprint and crash count.

        Raises InputError if files of a result were changed that cannot be made again, as its inputs
        are away.
        """
        jobs = []
        for task in tasks:
            store = self.store(task.subject)
            found = store.stored() if task.inputs_away else StoredResult()
            same_source = found.upstream == task.depends_on.get("upstream")
            for file in found.changed:
                raise InputError(
                    store.home / file,
                    f"changed, or copied without its time, since {self.step.name} wrote it, and what"
                    " it was made from is away; copy results with their times (cp -a, rsync -a), or"
                    " bring back the images",
                )
            if found.fingerprint and same_source:
                fingerprint = found.fingerprint
            else:
                fingerprint = result_fingerprint(self.step, task.depends_on)
            jobs.append(_Job(task, fingerprint, store.crashes(fingerprint), store.was_left))
        return jobs

    def in_turn(
        self, do: Callable[[Task, Path], Product], jobs: Sequence[_Job], workers: int
    ) -> Iterator[Result]:
        """Yield a result per job, as it is done; a stored result that still fits without calling `do`.

        do: called in a worker as do(task, folder); it writes its files into folder, which is empty,
        and returns rows and warnings. Its SubjectFault or MemoryError becomes a quarantine, other
        exceptions are raised here. jobs: one per subject, with its crash count. workers: processes, in
        which jobs whose last run crashed come last, alone; 0, or a single job that never crashed: this
        process, in the order of jobs. A second crash quarantines the subject; after any other death of
        a worker its job has no result, and ChildProcessError is raised at the end. For a job that is
        computed, raises InputError if files of earlier steps were changed.
        """
        work = partial(self.work, do)
        # Starting a process takes longer than converting a subject.
        single = len(jobs) == 1 and not (jobs[0].crashes or jobs[0].left)
        if single or not workers:
            yield from map(work, jobs)
            return
        survived = True
        waiting = [job for job in jobs if not job.crashes]
        while waiting:
            done = set()
            for result in self._until_a_crash(work, waiting, workers):
                done.add(result.outcome.subject)
                yield result
            waiting = [job for job in waiting if job.task.subject not in done]
            dead = [job for job in waiting if self._crashed(job)]
            survived = survived and not waiting
            waiting = [job for job in waiting if job not in dead] if dead else []
        for job in (job for job in jobs if job.crashes):
            alone = list(self._until_a_crash(work, [job], workers=1))
            if alone:
                yield from alone
            elif self._crashed(job):
                yield self._crash_quarantine(job)
            else:
                survived = False
        if not survived:
            raise ChildProcessError(
                "a worker process died (out of memory, or a crash); run again: finished subjects "
                "are kept, and those that were being processed are retried alone"
            )

    def _until_a_crash(
        self, work: Callable[[_Job], Result], jobs: Sequence[_Job], workers: int
    ) -> Iterator[Result]:
        """Yield the results of jobs from worker processes, until one of these dies."""
        with worker_pool(workers) as pool:
            for future in as_completed([pool.submit(work, job) for job in jobs]):
                with suppress(BrokenProcessPool):
                    yield future.result()

    def _crashed(self, job: _Job) -> bool:
        """Return whether the worker process died on the subject; count the crash."""
        return self.store(job.task.subject).count_crash(job.fingerprint)

    def work(self, do: Callable[[Task, Path], Product], job: _Job) -> Result:
        """Return the result of one subject: the stored one if it still fits, else made by `do`.

        do: as in `in_turn`. job: the subject. A SubjectFault or MemoryError of `do` becomes a
        quarantine. A new result is stored, but a fault that may pass (`SubjectFault.passing`), such as
        lack of memory, deletes the earlier one. For a subject that is computed, raises InputError if
        files of earlier steps were changed.
        """
        store = self.store(job.task.subject)
        kept = self._kept(store, job)
        if kept is not None:
            return kept
        self._check_unchanged(job.task)
        with store.begun(job.fingerprint) as scratch:
            try:
                done: Product | SubjectFault = do(job.task, scratch)
            except SubjectFault as fault:
                done = fault
            except MemoryError:
                done = _out_of_memory()
            self._check_unchanged(job.task)  # another job may have changed them meanwhile
            return self._finished(store, job, scratch, done)

    def overlapped(
        self, read: Callable, compute: Callable, write: Callable, jobs: Sequence[_Job]
    ) -> Iterator[Result]:
        """Yield the result of each subject: kept ones first, then the others in the order of jobs.

        read(task) returns a subject's inputs, compute(inputs) its results; write(task, results, folder)
        writes its files into the empty folder and returns a `Product`. Only compute runs in this
        thread. SubjectFault or MemoryError in any of them becomes a quarantine; other exceptions are
        raised here.
        """
        waiting = []
        for job in jobs:
            kept = self._kept(self.store(job.task.subject), job)
            if kept is None:
                waiting.append(job)
            else:
                yield kept

        def checked_read(task: Task) -> Any:
            self._check_unchanged(task)
            return read(task)

        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            reading = writing = None
            for job, following in zip(waiting, [*waiting[1:], None], strict=True):
                reading = reading or reader.submit(_tried, checked_read, job.task)
                had = reading.result()
                reading = following and reader.submit(_tried, checked_read, following.task)
                made = had if isinstance(had, Exception) else _tried(compute, had)
                if writing:
                    yield writing.result()
                writing = writer.submit(self.work, partial(_written, write, made), job)
            if writing:
                yield writing.result()

    def _check_unchanged(self, task: Task) -> None:
        """Raise InputError if files of earlier steps were changed or removed since these wrote them."""
        home, expected = self.folder / task.subject, task.depends_on.get("upstream")
        if expected and not (home.is_dir() and any(home.iterdir())):
            raise _changed(home, self.step.reads[0])
        for name in reversed(self.step.reads):
            store = self.store(task.subject, STEPS[name])
            found = store.stored()
            for file in found.changed:
                raise _changed(store.home / file, name)
            if None not in (found.identity, expected) and found.identity != expected:
                raise _changed(store.home / store.record, name)
            expected = found.upstream

    def store(self, subject: str, step: Step | None = None) -> ResultStore:
        """Return the store of a subject's result of a step (None: the step of this shard)."""
        step = step or self.step
        return ResultStore(self.folder / subject, step.name, step.record, step.owns)

    def _kept(self, store: ResultStore, job: _Job) -> Result | None:
        """Return the kept result, or the quarantine of a subject after two crashes; else None."""
        held = store.held(job.fingerprint)
        if held is not None or job.crashes < MOST_CRASHES:
            return held
        return self._crash_quarantine(job)

    def _crash_quarantine(self, job: _Job) -> Result:
        """Return the quarantine of a subject on which processes crashed."""
        message = f"{MOST_CRASHES} processes died while processing this subject, the last one alone with it"
        return self._not_held(job, SubjectFault(Reason.PROCESS_DIED, message))

    def _not_held(self, job: _Job, fault: SubjectFault) -> Result:
        """Return a quarantine that is not kept: the next job of the shard tries it again."""
        self.store(job.task.subject).clear()
        return self._result(job, fault)

    def _finished(
        self, store: ResultStore, job: _Job, scratch: Path, done: Product | SubjectFault
    ) -> Result:
        if isinstance(done, SubjectFault):
            if done.passing:
                return self._not_held(job, done)
            for path in scratch.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        result = self._result(job, done)
        # Later results also depend on settings and rows of the steps between; those of conversion are in
        # its files.
        same = isinstance(done, Product) and self.step.after is None
        identity = store.identity_of_same(scratch) if same else ""
        result = replace(result, outcome=replace(result.outcome, identity=identity))
        store.put(scratch, result, job.task.depends_on.get("upstream"))
        return result

    def _result(self, job: _Job, done: Product | SubjectFault) -> Result:
        if isinstance(done, SubjectFault):
            fields = {
                "status": QUARANTINED,
                "stage": self.step.name,
                "reason": str(done.reason),
                "message": done.message,
            }
            outcome = Outcome(job.task.subject, fingerprint=job.fingerprint, **fields)
            return Result(outcome, [], passing=done.passing)
        warnings = tuple(sorted({str(warning) for warning in done.warnings}))
        outcome = Outcome(job.task.subject, ANALYSED, job.fingerprint, warnings, message=done.note)
        return Result(outcome, done.rows)


def _tried(do: Callable, given: Any) -> Any:
    """Return what a function returns, or the SubjectFault or MemoryError that it raises."""
    try:
        return do(given)
    except (SubjectFault, MemoryError) as fault:
        return fault


def _written(write: Callable, made: Any, task: Task, scratch: Path) -> Product:
    if isinstance(made, Exception):
        raise made
    return write(task, made, scratch)


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of worker processes that end when this process ends, even if it is killed.

    workers: their number, from 1. They are forked, so they share what this process has loaded, whatever
    the Python version. Raises ChildProcessError in place of a BrokenProcessPool that the `with` block
    raises: one of them died.
    """
    try:
        with ProcessPoolExecutor(workers, get_context("fork"), _end_with, (os.getpid(),)) as pool:
            yield pool
    except BrokenProcessPool as error:
        told = "a worker process died (out of memory, or a crash); start the same command again"
        raise ChildProcessError(told) from error


def _end_with(parent: int) -> None:
    """Start a background thread that ends this worker process when its parent process has ended.

    parent: id of the process that started this one (os.getppid()), compared every WATCH_SECONDS
    (1).
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _out_of_memory() -> SubjectFault:
    """Return the fault (process-died) of a subject that does not fit into memory, to be raised."""
    return SubjectFault(Reason.PROCESS_DIED, "not enough memory for this subject", passing=True)


def _changed(file: Path, step: str) -> InputError:
    how = "changed" if file.is_file() else "removed"
    return InputError(
        file,
        f"{how} since {step} wrote it; run again with --forcerun {step} "
        "(a corrected mask belongs in the folder corrected beside the sheet)",
    )


def _write(
    shard: _Shard,
    results: Iterator[Result],
    total: int,
    made_from: str,
    out: Path,
    upstream: Iterable[Outcome] = (),
) -> None:
    """Write the shard's table once all results are there; log each as it comes."""
    made, name = [], shard.step.name
    watched = sys.stderr.isatty()
    for result in tqdm(results, name, total, unit="subject", disable=not watched):
        _log_line(shard.step, result)
        made.append(result)
    held = sum(result.held for result in made)
    log.info("%s: %d computed, %d held", name, len(made) - held, held)
    passed_on = [Result(outcome, []) for outcome in upstream if outcome.status == QUARANTINED]
    everybody = sorted([*made, *passed_on], key=lambda result: result.outcome.subject)
    write_shard_table(out, shard.step, everybody, made_from)
    # Only now: a job that is killed before this must remember whom it quarantined.
    for result in made:
        if result.outcome.reason == Reason.PROCESS_DIED:
            shard.store(result.outcome.subject).forget_crashes()


def _log_line(step: Step, result: Result) -> None:
    outcome = result.outcome
    how = "held" if result.held else "computed"
    codes = outcome.reason or " ".join(outcome.warnings)
    details = f"{codes}: {outcome.message}" if outcome.message else codes
    log.info("%s: %s: %s, %s %s", step.name, outcome.subject, how, outcome.status, details)
