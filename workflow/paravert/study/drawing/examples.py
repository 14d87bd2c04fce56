"""Figure 2: randomly selected slices of eight representative subjects with their labels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from paravert.anatomy import BACKGROUND, LABELS
from paravert.imaging.volume import Volume, read_volume
from paravert.study import style
from paravert.study.choice import representatives
from paravert.subject_folder import SubjectFolder

SUBJECTS, COLUMNS = 8, 4
FIELD_MM = (145, 190)  # rows, columns: what a panel shows, the muscles in its middle
SCALE_MM = 50
OPACITY = 0.45
WINDOW_PERCENTILES = (1, 99)
COLOURS = np.array([(0, 0, 0), *(to_rgb(label.colour) for label in LABELS)])


@dataclass(frozen=True)
class Example:
    """One slice. image, labels: (rows, columns). row_mm, column_mm: pixel size."""

    image: np.ndarray
    labels: np.ndarray
    row_mm: float
    column_mm: float


def data(
    subjects: pd.DataFrame, overlap: pd.DataFrame, folder: Path, seed: int
) -> tuple[pd.DataFrame, list[Example]]:
    """Return the slices that are shown, and their images in the same order.

    Subjects spread over sex and fat fraction; the slice is drawn at random among those that show a
    muscle. mean_iou: over the muscles whose IoU is known in the slice; null without a manual mask.
    """
    random = np.random.default_rng(seed)
    rows, examples = [], []
    for subject in representatives(subjects, "fat_fraction", SUBJECTS, seed):
        found = _random_slice(SubjectFolder(folder / subject), random)
        if found is not None:
            stack, number, example = found
            examples.append(example)
            rows.append({"subject": subject, "stack": stack, "slice": number})
    frame = pd.DataFrame(rows, columns=["subject", "stack", "slice"])
    mean_iou = overlap.groupby(["subject", "stack", "slice"])["iou"].mean().rename("mean_iou")
    frame = frame.merge(mean_iou.reset_index(), how="left", on=["subject", "stack", "slice"])
    frame = frame.merge(subjects[["subject", "sex", "age_years", "fat_fraction"]], on="subject")
    return frame, examples


def _random_slice(
    home: SubjectFolder, random: np.random.Generator
) -> tuple[int, int, Example] | None:
    stacks = {number: read_volume(home.stack_file("labels", number))
              for number in home.stack_numbers("labels")}  # fmt: skip
    candidates = [
        (stack, int(number))
        for stack, labels in stacks.items()
        for number in np.flatnonzero((labels.array != BACKGROUND).any(axis=(1, 2)))
    ]
    if not candidates:
        return None
    stack, number = candidates[random.integers(len(candidates))]
    image = read_volume(home.stack_file("image", stack))
    return stack, number, _cropped(image, stacks[stack], number)


def _cropped(image: Volume, labels: Volume, number: int) -> Example:
    row_mm, column_mm = image.pixel_spacing_mm
    shown = labels.array[number]
    rows = _field(np.flatnonzero((shown != BACKGROUND).any(axis=1)), FIELD_MM[0] / row_mm)
    columns = _field(np.flatnonzero((shown != BACKGROUND).any(axis=0)), FIELD_MM[1] / column_mm)
    return Example(
        _cut(image.array[number], rows, columns), _cut(shown, rows, columns), row_mm, column_mm
    )


def _field(used: np.ndarray, width: float) -> tuple[int, int]:
    """Return first and last but one of the indices around the used ones; they may lie outside."""
    width = max(round(width), int(np.ptp(used)) + 1)
    first = int(used[0] + used[-1] + 1 - width) // 2
    return first, first + width


def _cut(array: np.ndarray, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    """Return a part of an array (rows, columns); beyond its edges it is 0."""
    ends = zip((rows, columns), array.shape, strict=True)
    outside = [(max(-first, 0), max(last - length, 0)) for (first, last), length in ends]
    padded = np.pad(array, outside)
    (top, _), (left, _) = outside
    return padded[rows[0] + top : rows[1] + top, columns[0] + left : columns[1] + left]


def overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return an image (rows, columns) in grey with its labels over it, sRGB 0-1."""
    low, high = np.percentile(image, WINDOW_PERCENTILES)
    grey = np.clip((image - low) / max(high - low, 1e-9), 0, 1)[..., None].repeat(3, axis=2)
    opacity = np.where(_outline(labels), 1, OPACITY * (labels != BACKGROUND))[..., None]
    return grey * (1 - opacity) + COLOURS[labels] * opacity


def _outline(labels: np.ndarray) -> np.ndarray:
    """Return the pixels of a label that touch another label or the background by an edge."""
    padded = np.pad(labels, 1)
    shifted = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    differs = np.any([neighbour != labels for neighbour in shifted], axis=0)
    return differs & (labels != BACKGROUND)


def draw(frame: pd.DataFrame, examples: list[Example]) -> Figure:
    """Draw the slices in radiological view: the subject's right is on the left."""
    if frame.empty:
        return style.sentence("No analysed subjects: no segmentations to show.")
    lines = -(-len(frame) // COLUMNS)
    panel_in = style.WIDTH_IN / COLUMNS * 0.97
    figure = style.new_figure(0.45 + lines * (0.25 + panel_in * FIELD_MM[0] / FIELD_MM[1]))
    grid = figure.subplots(lines, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, row, example in zip(grid.flat, frame.itertuples(), examples, strict=False):
        _panel(axes, row, example)
    handles = [Patch(color=label.colour, label=label.name.capitalize()) for label in LABELS]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=1)
    return figure


def _panel(axes: Axes, row, example: Example) -> None:
    height = example.labels.shape[0] * example.row_mm
    width = example.labels.shape[1] * example.column_mm
    axes.imshow(
        overlay(example.image, example.labels),
        extent=(0, width, height, 0),
        interpolation="antialiased",
    )
    seen = {
        "color": "white",
        "fontsize": 7,
        "path_effects": [withStroke(linewidth=1.5, foreground="black")],
    }
    axes.text(4, height / 2, "R", va="center", **seen)
    axes.text(width - 4, height / 2, "L", va="center", ha="right", **seen)
    ends, y = np.array([width - SCALE_MM - 5, width - 5]), height - 5
    axes.plot(ends, [y, y], color="black", linewidth=2.6)
    axes.plot(ends, [y, y], color="white", linewidth=1.4)
    axes.text(ends.mean(), y - 2, f"{SCALE_MM} mm", ha="center", va="bottom", **seen)
    axes.set_title(row.subject, fontsize=7.5)
    if pd.notna(row.mean_iou):
        axes.set_title(
            f"mean IoU {row.mean_iou:.3f}", fontsize=7.5, fontweight="normal", loc="right"
        )
