"""A step at work on the subjects of a shard: fingerprints and the isolation of faults.

A step works through the subjects of one shard. For each subject it leaves its files below
`<folder>/<subject>/` and a record (`records`): the fingerprint of what made them, the outcome and
the subject's rows. A rerun takes a subject as it is while fingerprint and files hold. A subject at
whose work a worker process died is tried last and alone, and put aside when that died, too.
"""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from paravert.errors import Caution, InputError, Reason, SubjectFault
from paravert.orphans import end_with
from paravert.plan import conversions, made_after, result_fingerprint
from paravert.records import ANALYSED, QUARANTINED, Found, Outcome, Place, Result
from paravert.shard_tables import read_made_from, read_outcomes, write_shard_table
from paravert.steps import STEPS, Step

log = logging.getLogger(__name__)

DEATHS = 2  # the first may be another's doing; the second is the subject's, which was alone


@dataclass(frozen=True)
class Task:
    """One subject and what its result depends on beside the step's version (JSON-able, hashed).

    inputs_away: its inputs cannot be reached, so that an earlier result stands, if there is one.
    """

    subject: str
    depends_on: dict
    inputs_away: bool = False


@dataclass(frozen=True)
class Product:
    """What a step made of one subject: rows of its table (without `subject`) and warnings.

    note: what the warnings tell more than their codes; None if nothing.
    """

    rows: list[dict]
    warnings: tuple[Caution, ...] = ()
    note: str | None = None


@dataclass(frozen=True)
class Begun:
    """A subject that a stream has begun: its task, and the empty folder for its files."""

    task: Task
    scratch: Path


Flow = Callable[[Iterable[Begun]], Iterator[tuple[Begun, Product | SubjectFault]]]


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
    """Do the first step for every subject of a shard and write the shard's table.

    do: makes one subject's product, writing its files into the empty folder it is given; they are
    moved to `<folder>/<subject>/` when it returns. Raises SubjectFault for faulty data (the subject
    is quarantined); any other exception fails the job. workers: processes at work, for which it must
    be picklable; 0: all is done in this one, and what kills it counts for nobody.
    Raises ChildProcessError where a worker process died.
    """
    shard = _Shard(STEPS[step_name], folder)
    jobs = shard.jobs(tasks)
    made_from = conversions({job.task.subject: job.fingerprint for job in jobs})
    _write(shard, shard.in_turn(do, jobs, workers), len(tasks), made_from, out)


def work_after(
    shard_table: Path,
    step_name: str,
    do: Callable[[Task, Path], Product],
    *,
    folder: Path,
    out: Path,
    workers: int = 0,
) -> None:
    """Do a step for every subject that the step before, of this shard table, analysed.

    Who was quarantined before is passed on. The rest is as in `work_through`.
    """
    shard = _Shard(STEPS[step_name], folder)
    made_from = made_after(shard.step, {}, read_made_from(shard_table))
    tasks, outcomes = tasks_after(shard_table)
    results = shard.in_turn(do, shard.jobs(tasks), workers)
    _write(shard, results, len(tasks), made_from, out, outcomes)


def stream_after(
    shard_table: Path,
    step_name: str,
    flow: Flow,
    *,
    folder: Path,
    out: Path,
    settings: Mapping,
    applies: Callable[[str], bool],
) -> None:
    """Do a step, in this process, for subjects that flow through it with several begun at a time.

    flow: takes subjects as it has room for them, and yields each once, in any order, with its
    product (its files lie in its folder then) or with the fault of its data. settings: what results
    depend on beside the step before, of the subjects to whom they apply. The rest is as in
    `work_after`.
    """
    shard = _Shard(STEPS[step_name], folder)
    made_from = made_after(shard.step, settings, read_made_from(shard_table))
    tasks, outcomes = tasks_after(
        shard_table, lambda subject: dict(settings) if applies(subject) else {}
    )
    results = shard.stream(flow, shard.jobs(tasks))
    _write(shard, results, len(tasks), made_from, out, outcomes)


def tasks_after(
    shard_table: Path, depends_on: Callable[[str], dict] | None = None
) -> tuple[list[Task], list[Outcome]]:
    """Return a task per subject that the step before analysed, and all its outcomes."""
    outcomes = read_outcomes(shard_table)
    tasks = []
    for outcome in outcomes:
        if outcome.status == ANALYSED:
            own = depends_on(outcome.subject) if depends_on else {}
            tasks.append(Task(outcome.subject, {"upstream": outcome.fingerprint, **own}))
    return tasks, outcomes


@dataclass(frozen=True)
class _Job:
    """A task with the fingerprint of its result.

    deaths: processes that died at it before. left: somebody did not come to its end.
    """

    task: Task
    fingerprint: str
    deaths: int
    left: bool


@dataclass(frozen=True)
class _Shard:
    """A step at work on the subjects of a shard, one or several at a time."""

    step: Step
    folder: Path

    def jobs(self, tasks: Sequence[Task]) -> list[_Job]:
        """Return what there is to do."""
        jobs = []
        for task in tasks:
            place = self.place(task.subject)
            found = place.found() if task.inputs_away else Found()
            if found.fingerprint and not found.harmed:
                fingerprint = found.fingerprint
            else:
                fingerprint = result_fingerprint(self.step, task.depends_on)
            jobs.append(_Job(task, fingerprint, place.deaths(fingerprint), place.was_left))
        return jobs

    def in_turn(
        self, do: Callable[[Task, Path], Product], jobs: Sequence[_Job], workers: int
    ) -> Iterator[Result]:
        """Yield the result of each subject, those last and alone at which a worker died before.

        Where workers die, the others are done all the same; then raises ChildProcessError.
        """
        work = partial(self.work, do)
        # A process takes longer to start than a subject to convert; it is for those who need it.
        single = len(jobs) == 1 and not (jobs[0].deaths or jobs[0].left)
        if single or not workers:
            yield from map(work, jobs)
            return
        survived = True
        waiting = [job for job in jobs if not job.deaths]
        while waiting:
            done = set()
            for result in self._until_a_death(work, waiting, workers):
                done.add(result.outcome.subject)
                yield result
            waiting = [job for job in waiting if job.task.subject not in done]
            dead = [job for job in waiting if self._died(job)]
            survived = survived and not waiting
            waiting = [job for job in waiting if job not in dead] if dead else []
        for job in (job for job in jobs if job.deaths):
            alone = list(self._until_a_death(work, [job], workers=1))
            if alone:
                yield from alone
            elif self._died(job):
                yield self._verdict(job)
            else:
                survived = False
        if not survived:
            raise ChildProcessError(
                "a worker process died, for lack of memory or of a crash; run again: what is "
                "finished stays, and the subjects that were at work are tried alone"
            )

    def _until_a_death(
        self, work: Callable[[_Job], Result], jobs: Sequence[_Job], workers: int
    ) -> Iterator[Result]:
        """Yield the results that worker processes make of jobs, up to the death of one."""
        with ProcessPoolExecutor(workers, initializer=end_with, initargs=(os.getpid(),)) as pool:
            for future in as_completed([pool.submit(work, job) for job in jobs]):
                with suppress(BrokenProcessPool):
                    yield future.result()

    def _died(self, job: _Job) -> bool:
        """Note a death of the worker that was at work on the subject, if it did die."""
        return self.place(job.task.subject).count_death(job.fingerprint)

    def work(self, do: Callable[[Task, Path], Product], job: _Job) -> Result:
        """Return the result of one subject, at hand or made."""
        place = self.place(job.task.subject)
        at_hand = self._at_hand(place, job)
        if at_hand is not None:
            return at_hand
        self._check_unharmed(job.task)
        with place.begun(job.fingerprint) as scratch:
            try:
                done: Product | SubjectFault = do(job.task, scratch)
            except SubjectFault as fault:
                done = fault
            except MemoryError:
                done = out_of_memory()
            self._check_unharmed(job.task)  # another job may have been at work there meanwhile
            return self._finished(place, job, scratch, done)

    def stream(self, flow: Flow, jobs: Sequence[_Job]) -> Iterator[Result]:
        """Yield the result of each subject as it comes out of the flow."""
        waiting = []
        for job in jobs:
            at_hand = self._at_hand(self.place(job.task.subject), job)
            if at_hand is not None:
                yield at_hand
            else:
                waiting.append(job)
        open_: dict[str, tuple[_Job, ExitStack]] = {}

        def begin() -> Iterator[Begun]:
            for job in waiting:
                self._check_unharmed(job.task)
                stack = ExitStack()
                scratch = stack.enter_context(self.place(job.task.subject).begun(job.fingerprint))
                open_[job.task.subject] = job, stack
                yield Begun(job.task, scratch)

        try:
            for begun, done in flow(begin()):
                job, stack = open_.pop(begun.task.subject)
                with stack:
                    self._check_unharmed(job.task)
                    result = self._finished(self.place(job.task.subject), job, begun.scratch, done)
                yield result
            if open_:
                raise RuntimeError(f"{self.step.name} left out {', '.join(open_)}")
        finally:
            for _, stack in open_.values():
                stack.close()

    def _check_unharmed(self, task: Task) -> None:
        """Raise InputError where what earlier steps left of a subject is not what they told of."""
        expected = task.depends_on.get("upstream")
        for name in reversed(self.step.reads):
            place = self.place(task.subject, STEPS[name])
            found = place.found()
            for file in found.harmed:
                raise _changed(place.home / file, name)
            if None not in (found.fingerprint, expected) and found.fingerprint != expected:
                raise _changed(place.home / place.record, name)
            expected = found.upstream

    def place(self, subject: str, step: Step | None = None) -> Place:
        """Return where a step, this one unless told, keeps what it made of a subject."""
        step = step or self.step
        return Place(self.folder / subject, step.name, step.record, step.owns)

    def _at_hand(self, place: Place, job: _Job) -> Result | None:
        """Return a result that need not, or must not, be made: one held, or that of a killer."""
        held = place.held(job.fingerprint)
        if held is not None or job.deaths < DEATHS:
            return held
        return self._verdict(job)

    def _verdict(self, job: _Job) -> Result:
        """Return the result of a subject at whose work processes died."""
        told = f"{DEATHS} processes died at work on this subject, the last one on it alone"
        return self._not_held(job, SubjectFault(Reason.PROCESS_DIED, told))

    def _not_held(self, job: _Job, fault: SubjectFault) -> Result:
        """Return the result of a subject that asks too much of the machine: another run tries again."""
        self.place(job.task.subject).clear()
        return self._result(job, fault)

    def _finished(
        self, place: Place, job: _Job, scratch: Path, done: Product | SubjectFault
    ) -> Result:
        if isinstance(done, SubjectFault):
            if done.reason is Reason.PROCESS_DIED:
                return self._not_held(job, done)
            for path in scratch.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        result = self._result(job, done)
        place.put(scratch, result, job.task.depends_on.get("upstream"))
        return result

    def _result(self, job: _Job, done: Product | SubjectFault) -> Result:
        if isinstance(done, SubjectFault):
            told = {
                "status": QUARANTINED,
                "stage": self.step.name,
                "reason": str(done.reason),
                "message": done.message,
            }
            return Result(Outcome(job.task.subject, fingerprint=job.fingerprint, **told), [])
        warnings = tuple(sorted({str(warning) for warning in done.warnings}))
        told = {"warnings": warnings, "message": done.note}
        outcome = Outcome(job.task.subject, ANALYSED, job.fingerprint, **told)
        return Result(outcome, done.rows)


def out_of_memory() -> SubjectFault:
    """Return the fault of a subject for which the memory at hand did not suffice."""
    told = "the memory at hand did not suffice for this subject"
    return SubjectFault(Reason.PROCESS_DIED, told)


def _changed(file: Path, step: str) -> InputError:
    return InputError(
        file,
        f"not as {step} left it; run again with --forcerun {step}, which makes it anew "
        "(a corrected mask belongs into the sheet's column labels)",
    )


def _write(
    shard: _Shard,
    results: Iterator[Result],
    total: int,
    made_from: str,
    out: Path,
    upstream: Iterable[Outcome] = (),
) -> None:
    """Write the shard's table when every result is there, telling of each as it comes."""
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
    # Only now: a job that is killed before must not forget whom it had put aside.
    for result in made:
        if result.outcome.reason == Reason.PROCESS_DIED:
            shard.place(result.outcome.subject).forget_deaths()


def _log_line(step: Step, result: Result) -> None:
    outcome = result.outcome
    how = "held" if result.held else "computed"
    codes = outcome.reason or " ".join(outcome.warnings)
    told = f"{codes}: {outcome.message}" if outcome.message else codes
    log.info("%s: %s: %s, %s %s", step.name, outcome.subject, how, outcome.status, told)
