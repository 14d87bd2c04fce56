"""How fast a shard is segmented on the processor, and how much of that time the network runs.

python tests/benchmark/segmentation_speed.py [--cores 2] [--subjects 64] [--widths 16 32 64]

A shard of phantoms of 40 slices passes `segment_muscles`, all but the start of Python. Widths beyond
the shipped model's 16 are that model with channels of zeros beside its own: as much work as any
network of this width, and the same labels, so that what follows the network stays what it is. The
forward pass is then timed beside OpenVINO's in bfloat16, in turn, on one core, where OpenVINO is
installed (`pip install openvino`; it is no part of paravert).
"""

import argparse
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "workflow"))

from paravert import records, shard_tables, shards, steps  # noqa: E402
from paravert.anatomy import MUSCLES  # noqa: E402
from paravert.imaging.volume import Volume, stack_file, write_volume  # noqa: E402
from paravert.network.architecture import Architecture  # noqa: E402
from paravert.network.confidence import Calibration  # noqa: E402
from paravert.network.device import low_format  # noqa: E402
from paravert.network.flow import Segmenter  # noqa: E402
from paravert.network.fused import FusedUNet  # noqa: E402
from paravert.network.model import Model, load_model, save_model  # noqa: E402
from paravert.network.predict import TOGETHER  # noqa: E402
from paravert.network.unet import UNet  # noqa: E402
from paravert.synthesis.body import body_of  # noqa: E402
from paravert.synthesis.protocol import protocol_of  # noqa: E402
from paravert.synthesis.signal import render_planes  # noqa: E402
from paravert.synthesis.volunteers import volunteers as drawn_volunteers  # noqa: E402

SHIPPED = REPOSITORY / "models/synthetic.safetensors"
CPU = torch.device("cpu")
PHANTOMS = 6
RENDERED, SLICES = 8, 40  # of each phantom so many sections, repeated to so many slices
SIZE_PX = 224  # of the network's grid: 269 mm at 1.2 mm, as most phantoms have
TURNS = 15
# With a calibration the expected IoU of every slice is computed, too.
CALIBRATIONS = {
    "no calibration": Calibration({}),
    "calibrated": Calibration({muscle: ((0.0, 1.0), (0.0, 1.0)) for muscle in MUSCLES}),
}


def write_shard(root: Path, subjects: int) -> Path:
    """Write subjects as convert_dicom leaves them; returns their shard table."""
    results = []
    stacks = [rendered(index) for index in range(PHANTOMS)]
    for number in range(subjects):
        name, volume = f"S{number:03d}", stacks[number % PHANTOMS]
        noise = np.random.default_rng(number).integers(0, 5, volume.array.shape, dtype=np.int16)
        home = root / "subjects" / name
        write_volume(stack_file(home, "image", 1), volume.with_array(volume.array + noise))
        row = {"stacks": 1, "slices": SLICES, "has_truth": False, "has_labels": False}
        outcome = records.Outcome(name, records.ANALYSED, f"convert of {name}")
        results.append(records.Result(outcome, [row]))
    table = root / "convert.parquet"
    shard_tables.write_shard_table(table, steps.STEPS["convert_dicom"], results, "images")
    return table


def rendered(index: int) -> Volume:
    """Return the image of a phantom, in the matrix and spacing of its protocol."""
    volunteer = drawn_volunteers(2021, 22)[index]
    body, protocol = body_of(volunteer), protocol_of(volunteer, index)
    numbers = np.linspace(1, protocol.slices - 2, RENDERED).astype(int)
    planes = [protocol.in_body(protocol.plane(number)) for number in numbers]
    sections = [
        section.image for section in render_planes(body, planes, protocol.grid, protocol.look)
    ]
    array = np.stack(sections)[np.arange(SLICES) * RENDERED // SLICES].astype(np.int16)
    spacing = np.array([-protocol.pixel_mm, -protocol.pixel_mm, protocol.spacing_mm])
    return Volume(array, np.diag([*spacing, 1.0]))


def widened(width: int, calibration: Calibration) -> Model:
    """Return the shipped model with channels of zeros beside its own, and a calibration."""
    shipped = load_model(SHIPPED)
    own = shipped.network.architecture.width
    network = UNet(Architecture(width=width)).to(memory_format=torch.channels_last)
    source = dict(shipped.network.named_parameters())
    for name, parameter in network.named_parameters():
        parameter.data.zero_()
        given = source[name].data
        if name.startswith("decoder") and name.endswith("convolutions.0.weight"):
            own_half, half = given.shape[1] // 2, parameter.shape[1] // 2
            rows = given.shape[0]
            parameter.data[:rows, :own_half] = given[:, :own_half]
            parameter.data[:rows, half : half + own_half] = given[:, own_half:]
        else:
            parameter.data[tuple(slice(0, size) for size in given.shape)] = given
    assert width >= own
    return Model(network.eval().requires_grad_(False), shipped.spacing_mm, calibration)


def shard_row(table: Path, model: Path, cores: int) -> dict[str, float]:
    """Segment a shard and return what was measured."""
    folder = table.parent / "subjects"
    segmenter = Segmenter(folder, model, CPU, cores)
    clock = segmenter.predictor.clock
    begin = time.perf_counter()
    shards.stream_after(
        table,
        "segment_muscles",
        segmenter.flow,
        folder=folder,
        out=table.with_name("segment.parquet"),
        settings={"run": time.time()},
        applies=lambda subject: True,
    )
    seconds = time.perf_counter() - begin
    return {
        "slices/s": clock.slices / seconds,
        "ms forward per slice and core": 1000 * clock.all_seconds / clock.slices,
        "share of the wall time, %": 100 * clock.any_seconds / seconds,
        "share of the cores' time, %": 100 * clock.all_seconds / seconds / cores,
    }


@torch.inference_mode()
def beside_openvino(width: int) -> dict[str, float]:
    """Return milliseconds per slice of both forward passes on one core, in turn, and their ratio."""
    network = widened(width, CALIBRATIONS["no calibration"]).network
    images = torch.randn(TOGETHER, 1, SIZE_PX, SIZE_PX)
    fused = FusedUNet(network, low_format(CPU, "prediction") or torch.float32)
    passes = {
        "ours": lambda: fused(images),
        "torch as it is": lambda: network(images, low=low_format(CPU, "prediction")),
        "OpenVINO": openvino_pass(network, images.numpy()),
    }
    taken: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(TURNS + 1):
        for name, forward in passes.items():
            taken[name].append(timed(forward))
    row = {f"{name}, ms": 1000 * statistics.median(v[1:]) / TOGETHER for name, v in taken.items()}
    pairs = zip(taken["ours"][1:], taken["OpenVINO"][1:], strict=True)
    row["ours / OpenVINO, median of turns"] = statistics.median(a / b for a, b in pairs)
    row["of minima"] = min(taken["ours"][1:]) / min(taken["OpenVINO"][1:])
    return row


def openvino_pass(network: UNet, images: np.ndarray) -> Callable[[], object]:
    """Return OpenVINO's forward pass in bfloat16 on one core."""
    import openvino

    converted = openvino.convert_model(
        network, example_input=torch.from_numpy(images), input=[list(images.shape)]
    )
    options = {
        "INFERENCE_PRECISION_HINT": "bf16",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
    }
    request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()
    return lambda: request.infer([images], share_inputs=True, share_outputs=True)


def timed(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def startup_seconds() -> float:
    """Return how long Python takes to start and to import the step."""
    words = [sys.executable, "-c", "import paravert.network.segment"]
    environment = {"PYTHONPATH": str(REPOSITORY / "workflow")}
    return min(timed(lambda: subprocess.run(words, env=environment, check=True)) for _ in range(3))


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print a table, a line per key."""
    print(f"\n{title}")
    for name, row in rows.items():
        print(f"  {name}: " + "; ".join(f"{value:.2f} {what}" for what, value in row.items()))


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--cores", type=int, default=2)
    options.add_argument("--subjects", type=int, default=64)
    options.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64])
    options.add_argument("--repeats", type=int, default=1)
    given = options.parse_args()
    logging.disable()
    torch.set_num_threads(1)
    print(f"start of Python and imports: {startup_seconds():.2f} s")
    with tempfile.TemporaryDirectory() as scratch:
        table = write_shard(Path(scratch), given.subjects)
        rows = {}
        for width in given.widths:
            model = Path(scratch) / f"{width}.safetensors"
            for (name, calibration), repeat in product(CALIBRATIONS.items(), range(given.repeats)):
                save_model(model, widened(width, calibration))
                row = f"width {width}, {name} #{repeat + 1}"
                rows[row] = shard_row(table, model, given.cores)
    show(f"{given.subjects} subjects of {SLICES} slices, {given.cores} cores", rows)
    try:
        rows = {f"width {width}": beside_openvino(width) for width in given.widths}
    except ModuleNotFoundError as error:
        print(f"\n{error}; pip install openvino")
        return
    show(f"forward pass, {TOGETHER} slices of {SIZE_PX} x {SIZE_PX}, one core, ms per slice", rows)


if __name__ == "__main__":
    main()
