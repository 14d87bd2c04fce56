"""Subjects on their way through the network: read, predicted and written side by side.

Each core works alone, with a subject or a batch of its own: one predicts batches of slices, of one
or several subjects, and nothing else; the others read (the image standardised and on the network's
grid), clean and write, and predict when there is nothing of that to do. A GPU takes the batches off
them all.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cached_property
from pathlib import Path

import torch

from paravert import shards
from paravert.errors import SubjectFault
from paravert.network.confidence import Calibration
from paravert.network.device import low_format
from paravert.network.memory import out_of_memory, slices_at_once
from paravert.network.model import load_model
from paravert.network.neighbours import NEIGHBOURS_MM
from paravert.network.predict import Predicted, Predictor
from paravert.network.stacks import Subject, has_all_labels, read_stacks, write_labels
from paravert.network.waiting import Part, Waiting, halves

GPU_THREADS = 2  # while one waits for its batch, the other has the next one under way
AHEAD = 4  # subjects in memory beyond one per core

Done = tuple[shards.Begun, shards.Product | SubjectFault]


class Segmenter:
    """A model for the subjects that flow through it; read when the first one needs it.

    folder: with a folder per subject. flip, neighbours_mm: as for `Predictor`. batch_size: slices at
    once; None as memory allows. Neither this nor the number of cores changes a label.
    """

    def __init__(
        self,
        folder: Path,
        model: Path,
        device: torch.device,
        cores: int = 1,
        *,
        batch_size: int | None = None,
        flip: bool = True,
        neighbours_mm: float = NEIGHBOURS_MM,
        keep_largest: bool = True,
        fill_holes: bool = True,
    ):
        self.folder, self.device, self.cores = folder, device, cores
        self.gpu_threads = GPU_THREADS if device.type == "cuda" else 0
        self.cleaning = {"keep_largest": keep_largest, "fill_holes": fill_holes}
        low = low_format(device, "prediction")
        self.computed_on = f"{device.type} {'bfloat16' if low else 'float32'}"
        self._path, self._batch_size = model, batch_size
        self._averaging = {"flip": flip, "neighbours_mm": neighbours_mm}
        self._limits: dict[tuple[int, int], int] = {}
        self._seconds = 0.0

    @cached_property
    def predictor(self) -> Predictor:
        """The model, on the device."""
        return Predictor(load_model(self._path, self.device), self.device, **self._averaging)

    @property
    def calibration(self) -> Calibration:
        """The model's; that of a model that was not asked for anything predicts nothing."""
        return self.predictor.model.calibration if "predictor" in self.__dict__ else Calibration({})

    def flow(self, subjects: Iterable[shards.Begun]) -> Iterator[Done]:
        """Yield each subject when its labels are written, or the fault of its data, in any order.

        So many subjects are begun at a time as there are cores, and AHEAD more.
        """
        begin = time.monotonic()
        yield from _Run(self, iter(subjects)).results()
        self._seconds += time.monotonic() - begin

    def limit(self, grid: tuple[int, int]) -> int:
        """Return how many slices of a grid go into a batch."""
        if grid not in self._limits:
            architecture = self.predictor.model.network.architecture
            threads = self.gpu_threads or self.cores
            at_once = self._batch_size or slices_at_once(architecture, grid, self.device, threads)
            self._limits[grid] = at_once
        return self._limits[grid]

    def predicted(self, batch: list[Part]) -> list[tuple[Part, Predicted]]:
        """Return each piece with what the model makes of it; in halves, from then on, where memory runs out.

        Raises RuntimeError where it does not suffice for one slice and its neighbours.
        """
        pieces = [piece for _, piece in batch]
        count = sum(map(len, pieces))
        try:
            return list(zip(batch, self.predictor.predicted(pieces), strict=True))
        except RuntimeError as error:
            if count == 1 or not out_of_memory(error):
                raise
        # Here, and not above, the error is gone, and with it what it held.
        grid = pieces[0].stack.grid
        self._limits[grid] = min(self.limit(grid), count // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        first, second = halves(batch)
        return self.predicted(first) + self.predicted(second)

    def speed(self) -> str:
        """Return in words how fast slices were segmented, and how much of that was the network."""
        clock = self.predictor.clock if "predictor" in self.__dict__ else None
        if clock is None or not clock.slices:
            return "no slice was left to segment"
        return (
            f"{clock.slices} slices, {clock.slices / self._seconds:.1f} slices per second, "
            f"{clock.any_seconds / self._seconds:.0%} of the time in the network"
        )


class _Run:
    """One pass of subjects through a segmenter: its threads, and what waits between them."""

    def __init__(self, segmenter: Segmenter, subjects: Iterator[shards.Begun]):
        self._segmenter, self._subjects = segmenter, subjects
        self._waiting, self._labelled = Waiting(segmenter.limit), deque[Subject]()
        self._most = segmenter.cores + AHEAD
        self._begun = self._reading = 0
        self._jobs: dict[Future, Callable[[Future], Iterator[Done]]] = {}
        own, cores = segmenter.gpu_threads, segmenter.cores
        if not own:  # of several cores one does nothing but batches: so the network never waits
            own, cores = (1, cores - 1) if cores > 1 else (0, 1)
        self._cores, self._for_batches = _Threads(cores), _Threads(own)
        self._predicting = [self._for_batches, *([] if segmenter.gpu_threads else [self._cores])]

    def results(self) -> Iterator[Done]:
        """Yield subjects as they are finished."""
        try:
            while True:
                while self._start_one():
                    pass
                if not self._jobs:
                    return
                for job in wait(self._jobs, return_when=FIRST_COMPLETED).done:
                    yield from self._jobs.pop(job)(job)
        finally:
            self._cores.stop()
            self._for_batches.stop()

    def _start_one(self) -> bool:
        """Start what comes first; False if there is no thread or nothing to do.

        A batch waits to be full as long as more slices may come.
        """
        return (
            self._predict(self._for_batches, full=True)
            or self._write()
            or self._read()
            or any(self._predict(threads, full=True) for threads in self._predicting)
            or (
                not self._reading
                and any(self._predict(one, full=False) for one in self._predicting)
            )
        )

    def _read(self) -> bool:
        if not self._cores.free or self._begun == self._most:
            return False
        begun = next(self._subjects, None)
        if begun is None:
            return False
        segmenter, home = self._segmenter, self._segmenter.folder / begun.task.subject
        predictor = None if has_all_labels(home) else segmenter.predictor
        self._begun += 1
        self._reading += 1

        def take_in(job: Future) -> Iterator[Done]:
            self._reading -= 1
            subject = Subject(begun)
            try:
                subject.stacks = job.result()
            except SubjectFault as fault:
                yield self._finished(begun, fault)
                return
            except MemoryError:
                yield self._finished(begun, shards.out_of_memory())
                return
            for stack in subject.stacks:
                if stack.prepared is not None:
                    self._waiting.add((subject, stack), stack.prepared)
            if subject.complete:
                self._labelled.append(subject)

        self._jobs[self._cores.submit(read_stacks, home, predictor)] = take_in
        return True

    def _predict(self, threads: "_Threads", *, full: bool) -> bool:
        if not threads.free:
            return False
        batch = self._waiting.batch(full=full)
        if not batch:
            return False

        def take_in(job: Future) -> Iterator[Done]:
            for ((subject, stack), piece), predicted in job.result():
                stack.put(piece.start, predicted)
                if subject.complete:
                    self._labelled.append(subject)
            yield from ()

        self._jobs[threads.submit(self._segmenter.predicted, batch)] = take_in
        return True

    def _write(self) -> bool:
        if not self._cores.free or not self._labelled:
            return False
        subject = self._labelled.popleft()

        def take_in(job: Future) -> Iterator[Done]:
            yield self._finished(subject.begun, job.result())

        job = self._cores.submit(
            write_labels,
            subject.stacks,
            subject.begun.scratch,
            self._segmenter.computed_on,
            self._segmenter.calibration,
            **self._segmenter.cleaning,
        )
        self._jobs[job] = take_in
        return True

    def _finished(self, begun: shards.Begun, done: shards.Product | SubjectFault) -> Done:
        self._begun -= 1
        return begun, done


class _Threads:
    """Threads, with one job more than there are of them: none waits to be told what is next."""

    def __init__(self, count: int):
        self._pool, self._most = ThreadPoolExecutor(max(1, count)), count + 1 if count else 0
        self._jobs: list[Future] = []

    @property
    def free(self) -> bool:
        """Whether another job may come."""
        self._jobs = [job for job in self._jobs if not job.done()]
        return len(self._jobs) < self._most

    def submit(self, function: Callable, *given: object, **named: object) -> Future:
        """Start a job."""
        job = self._pool.submit(function, *given, **named)
        self._jobs.append(job)
        return job

    def stop(self) -> None:
        """Wait for what is at work; what is not is not started."""
        self._pool.shutdown(cancel_futures=True)
