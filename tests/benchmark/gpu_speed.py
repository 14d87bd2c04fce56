"""How fast a GPU trains and segments, and whether its labels are those of the processor.

python tests/benchmark/gpu_speed.py ANATOMIES [--workers 14] [--batch 32] [--seconds 10] [--subjects 64]

ANATOMIES is a table of draw_anatomies. Training: slices per second that worker processes draw, on the
processor and on the GPU; that the network learns from, without drawing; and both at once. Segmentation: a
shard of phantoms of 40 slices passes the command `segment_muscles` (segmentation_speed.py), the start of
Python included. Labels: of the phantoms' slices, before cleaning, by the network in float32 on both.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / part) for part in ("workflow", "tests", "tests/benchmark")]

from segmentation_speed import (  # noqa: E402
    PHANTOMS,
    RENDERED,
    SHIPPED,
    SLICES,
    rendered,
    segmenting_seconds,
    write_shard,
)

from paravert.network.batches import Batch, EpochLoader, SyntheticSlices  # noqa: E402
from paravert.network.fit import Training, device_text  # noqa: E402
from paravert.network.predict import Predictor, exact_float32  # noqa: E402
from paravert.network.settings import Settings  # noqa: E402
from paravert.network.unet import GpuUNet, load_model  # noqa: E402
from trainings import loop_settings  # noqa: E402

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MANY = 10**6  # batches: more than are read
FIRST = 5  # batches that are not timed
REPEATED = SLICES // RENDERED  # slices of a stack that are equal


def slices_per_second(step: Callable[[], object], batch: int, seconds: float) -> float:
    """Return the slices per second of a step, called for so many seconds after the FIRST calls."""
    for _ in range(FIRST):
        step()
    torch.cuda.synchronize()
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        step()
        count += batch
    torch.cuda.synchronize()
    return count / (time.perf_counter() - begin)


def training_rates(
    anatomies: Path, settings: Settings, workers: int, seconds: float
) -> Iterator[tuple[str, float]]:
    """Yield what is done, and slices per second: learned from, drawn, and both."""
    batch = settings.batch_size
    alone = EpochLoader(SyntheticSlices(anatomies, settings, CPU, MANY))
    learn = partial(Training(settings, alone, [], GPU)._step, share=0.5)
    one = next(alone.epoch(0))
    yield "learned from, no drawing", slices_per_second(lambda: learn(*one), batch, seconds)
    for name, device in (("GPU", GPU), ("processor", CPU)):
        with EpochLoader(SyntheticSlices(anatomies, settings, device, MANY), workers) as loader:
            batches = loader.epoch(0)
            drawn = f"drawn by {workers} processes on the {name}"
            yield drawn, slices_per_second(partial(next, batches), batch, seconds)
            both = partial(_learn_next, learn, batches)
            yield f"{drawn} and learned from", slices_per_second(both, batch, seconds)


def _learn_next(learn: Callable[..., object], batches: Iterator[Batch]) -> None:
    learn(*next(batches))


def segmentation_rates(subjects: int, cores: int) -> dict[str, float]:
    """Return slices per second of the command segment_muscles on the GPU: first run, and second."""
    with tempfile.TemporaryDirectory() as scratch:
        table = write_shard(Path(scratch), subjects)
        return {
            run: subjects * SLICES / segmenting_seconds(REPOSITORY, table, SHIPPED, cores, "cuda")
            for run in ("first run", "second run")
        }


def differing_share() -> tuple[float, int]:
    """Return the share of the labelled pixels whose label differs on the GPU, and the pixels' number."""
    exact_float32()
    models = [load_model(SHIPPED, device) for device in (CPU, GPU)]
    networks = [
        GpuUNet(model.network, device) for model, device in zip(models, (CPU, GPU), strict=True)
    ]
    predictor = Predictor(models[1], GPU)
    differing = labelled = 0
    for index in range(PHANTOMS):
        volume = rendered(index)
        images = predictor.prepared(volume.array, volume.pixel_spacing_mm, apart_mm=np.inf).slices
        images = images[::REPEATED, None]
        here, there = (network(images).argmax(axis=1) for network in networks)
        differing += int((here != there).sum())
        labelled += int((here > 0).sum())
    return differing / labelled, labelled


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("anatomies", type=Path)
    options.add_argument("--workers", type=int, default=14)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--subjects", type=int, default=64)
    options.add_argument("--only", choices=("training", "segmentation"))
    given = options.parse_args()
    print(device_text(GPU))
    if given.only != "segmentation":
        settings = loop_settings("pretrain_network", batch_size=given.batch)
        for name, rate in training_rates(given.anatomies, settings, given.workers, given.seconds):
            print(f"slices/s, {name}: {rate:.0f}", flush=True)
    if given.only != "training":
        for run, rate in segmentation_rates(given.subjects, given.workers).items():
            print(f"slices/s, segment_muscles, {given.subjects} subjects, {run}: {rate:.0f}")
        share, pixels = differing_share()
        print(f"labels that differ from the processor's: {share:.2e} of {pixels} pixels")


if __name__ == "__main__":
    main()
