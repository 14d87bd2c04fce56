"""How fast a shard is segmented on the processor, and how fast the forward pass is.

python tests/benchmark/segmentation_speed.py [--cores 2] [--subjects 64] [--beside CHECKOUT]

A shard of phantoms of 40 slices passes the command `segment_muscles`, the start of Python included;
with --beside, in turn with that of another checkout of paravert. Widths beyond the shipped model's
16 are that model with channels of zeros beside its own: as much work as any network of this width,
and the same labels, so that what follows the network stays what it is. The forward pass is then timed
on one core beside a graph that OpenVINO converts from torch for one shape, and beside torch.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "workflow"))

from paravert import records, shard_tables, steps  # noqa: E402
from paravert.anatomy import MUSCLES  # noqa: E402
from paravert.imaging.volume import Volume, write_volume  # noqa: E402
from paravert.network.architecture import Architecture  # noqa: E402
from paravert.network.calibration import Calibration  # noqa: E402
from paravert.network.openvino_unet import OpenVinoUNet  # noqa: E402
from paravert.network.unet import Model, UNet, load_model, save_model  # noqa: E402
from paravert.provenance import file_sha256  # noqa: E402
from paravert.subject_folder import SubjectFolder  # noqa: E402
from paravert.synthesis.body import body_of  # noqa: E402
from paravert.synthesis.protocol import protocol_of  # noqa: E402
from paravert.synthesis.signal import render_planes  # noqa: E402
from paravert.synthesis.volunteers import volunteers as drawn_volunteers  # noqa: E402

SHIPPED = REPOSITORY / "models/synthetic.safetensors"
PHANTOMS = 6
RENDERED, SLICES = 8, 40  # of each phantom so many sections, repeated to so many slices
SIZE_PX = 224  # of the network's grid: 269 mm at 1.2 mm, as most phantoms have
AT_ONCE = 8  # images
TURNS = 15


def write_shard(root: Path, subjects: int) -> Path:
    """Write subjects as convert_dicom leaves them; returns their shard table."""
    results = []
    stacks = [rendered(index) for index in range(PHANTOMS)]
    for number in range(subjects):
        name, volume = f"S{number:03d}", stacks[number % PHANTOMS]
        noise = np.random.default_rng(number).integers(0, 5, volume.array.shape, dtype=np.int16)
        home = root / "subjects" / name
        write_volume(
            SubjectFolder(home).stack_file("image", 1), volume.with_array(volume.array + noise)
        )
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
        section.image
        for section in render_planes(body, planes, protocol.grid, protocol.acquisition)
    ]
    array = np.stack(sections)[np.arange(SLICES) * RENDERED // SLICES].astype(np.int16)
    spacing = np.array([-protocol.pixel_mm, -protocol.pixel_mm, protocol.spacing_mm])
    return Volume(array, np.diag([*spacing, 1.0]))


def widened(width: int) -> Model:
    """Return the shipped model with channels of zeros beside its own."""
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
    identity = Calibration({muscle: ((0.0, 1.0), (0.0, 1.0)) for muscle in MUSCLES})
    return Model(network.eval().requires_grad_(False), shipped.spacing_mm, identity)


def segmenting_seconds(
    checkout: Path, table: Path, model: Path, cores: int, device: str = "cpu"
) -> float:
    """Segment a shard by the command of a checkout and return the seconds from start to end."""
    folder = table.parent / "subjects"
    for labels in folder.glob("*/segment.json"):
        labels.unlink()
    given = ["--convert", table, "--folder", folder, "--out", table.with_name("segment.parquet")]
    given += ["--model", model, "--model-sha256", file_sha256(model), "--device", device]
    command = [sys.executable, "-m", "paravert", "segment_muscles", *given, "--threads", cores]
    environment = {**os.environ, "PYTHONPATH": str(checkout / "workflow")}
    return timed(
        lambda: subprocess.run(
            list(map(str, command)), env=environment, check=True, stderr=subprocess.DEVNULL
        )
    )


@torch.inference_mode()
def forward_ms(width: int) -> dict[str, float]:
    """Return milliseconds of a core per slice in the forward pass, each way in turn."""
    model = widened(width)
    network, weights = model.network, model.weights
    images = torch.randn(AT_ONCE, 1, SIZE_PX, SIZE_PX)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    passes: dict[str, Callable[[], object]] = {"torch, float32": lambda: network(channels_last)}
    own = OpenVinoUNet(model.architecture, weights)
    passes["ours"] = lambda: own(images.numpy())
    passes["converted"] = converted_pass(network, images.numpy())
    taken: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(TURNS + 1):
        for name, forward in passes.items():
            taken[name].append(timed(forward, time.process_time))
    row = {f"ms, {name}": 1000 * statistics.median(v[1:]) / AT_ONCE for name, v in taken.items()}
    ours, converted = (taken[way][1:] for way in ("ours", "converted"))
    ratios = [a / b for a, b in zip(ours, converted, strict=True)]
    return row | {"ours / converted, median of turns": statistics.median(ratios)}


def converted_pass(network: UNet, images: np.ndarray) -> Callable[[], object]:
    """Return the forward pass of a graph that OpenVINO converts from torch, for this shape alone."""
    import openvino

    converted = openvino.convert_model(
        network, example_input=torch.from_numpy(images), input=[list(images.shape)]
    )
    options = {
        "INFERENCE_PRECISION_HINT": openvino.Type.f32,
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
    }
    request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()
    return lambda: request.infer([images], share_inputs=True, share_outputs=True)


def timed(function: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds that a call takes, by the wall clock or another."""
    begin = clock()
    function()
    return clock() - begin


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
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--beside", type=Path, help="another checkout of paravert")
    given = options.parse_args()
    torch.set_num_threads(1)
    checkouts = {"this": REPOSITORY} | ({"beside": given.beside} if given.beside else {})
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        table = write_shard(Path(scratch), given.subjects)
        for width in given.widths:
            model = Path(scratch) / f"{width}.safetensors"
            save_model(model, widened(width))
            taken = {name: [] for name in checkouts}
            for _ in range(given.repeats):
                for name, checkout in checkouts.items():
                    taken[name].append(segmenting_seconds(checkout, table, model, given.cores))
            slices = given.subjects * SLICES
            rows[f"width {width}"] = {
                f"slices/s, {name}": slices / statistics.median(seconds)
                for name, seconds in taken.items()
            }
    show(f"{given.subjects} subjects of {SLICES} slices, {given.cores} cores", rows)
    rows = {f"width {width}": forward_ms(width) for width in given.widths}
    show(f"forward pass, {AT_ONCE} slices of {SIZE_PX} x {SIZE_PX}, one core", rows)


if __name__ == "__main__":
    main()
