"""Figure 2: a random slice of up to eight subjects, with its labels and the manual mask."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from skimage.segmentation import find_boundaries

from paravert.anatomy import BACKGROUND, LABELS
from paravert.imaging.volume import Volume, read_volume
from paravert.sheet import short_name
from paravert.study.drawing import style
from paravert.study.scans import scan_names
from paravert.subject_folder import SubjectFolder

MAX_EXAMPLES, PANELS_PER_ROW = 8, 4
FIELD_MM = (145, 190)  # rows, columns of a panel; the muscles are in its middle
SCALE_BAR_MM = 50
LABEL_OPACITY = 0.45
GREY_PERCENTILES = (1, 99)
COLOUR_OF_VALUE = np.array([(0, 0, 0), *(to_rgb(label.colour) for label in LABELS)])


@dataclass(frozen=True)
class Example:
    """One slice for Figure 2, cropped around the muscles; arrays (rows, columns) of the same shape.

    image: signal. labels: label map, 0-8 (anatomy.LABELS). truth: manual label map likewise, all 0
    if there is none. Rows run from front to back, columns from the subject's right to the left.
    Beyond the edges of the slice all are 0. row_mm, column_mm: distance between rows, and between
    columns.
    """

    image: np.ndarray
    labels: np.ndarray
    truth: np.ndarray
    row_mm: float
    column_mm: float


def example_slices(
    subjects: pd.DataFrame, overlap: pd.DataFrame, folder: Path, seed: int
) -> tuple[pd.DataFrame, list[Example]]:
    """Return the slices of Figure 2: a table with one row per slice, and the images in the same order.

    subjects: the cohort table `subjects`. overlap: from `accuracy.held_out_rows`; both with one
    scan per subject. folder: holds the `SubjectFolder` of each scan, named by `scan_names`. seed:
    of the choice. Up to eight subjects, spread over sex and fat fraction (`representatives`), and
    of each a random slice with a label; a chosen subject without labels is left out, not replaced.
    Columns: subject, stack_id, slice, mean_iou (of the slice, over muscles and sides; null without
    IoU in overlap), sex, age_years, fat_fraction (0-1).
    """
    random = np.random.default_rng(seed)
    rows, examples = [], []
    names = scan_names(subjects).set_axis(subjects["subject"])
    for subject in representatives(subjects, "fat_fraction", MAX_EXAMPLES, seed):
        found = _random_slice(folder / names[subject], random)
        if found is not None:
            stack, number, example = found
            examples.append(example)
            rows.append({"subject": subject, "stack_id": stack, "slice": number})
    frame = pd.DataFrame(rows, columns=["subject", "stack_id", "slice"])
    mean_iou = overlap.groupby(["subject", "stack_id", "slice"])["iou"].mean().rename("mean_iou")
    frame = frame.merge(mean_iou.reset_index(), how="left", on=["subject", "stack_id", "slice"])
    frame = frame.merge(subjects[["subject", "sex", "age_years", "fat_fraction"]], on="subject")
    return frame, examples


def representatives(subjects: pd.DataFrame, order: str, count: int, seed: int) -> list[str]:
    """Return the names of up to `count` subjects, spread over sex and the values of a column.

    subjects: one row per subject; columns subject, sex and the column `order`. They are sorted by
    sex (F, M, unknown) and `order` (null last) and cut into `count` parts of about equal size; one
    of each is drawn at random. The names are in the order of the parts. seed: of the draw.
    """
    place = subjects["sex"].map({"F": 0, "M": 1}).fillna(2)
    ordered = subjects.assign(place=place).sort_values(["place", order, "subject"])["subject"]
    parts = np.array_split(ordered.to_numpy(), min(count, len(ordered)) or 1)
    random = np.random.default_rng(seed)
    return [str(random.choice(part)) for part in parts if len(part)]


def _random_slice(home: Path, random: np.random.Generator) -> tuple[int, int, Example] | None:
    subject = SubjectFolder(home)
    stacks = {
        n: read_volume(subject.stack_file("labels", n)) for n in subject.stack_numbers("labels")
    }
    candidates = [
        (stack, int(number))
        for stack, labels in stacks.items()
        for number in np.flatnonzero((labels.array != BACKGROUND).any(axis=(1, 2)))
    ]
    if not candidates:
        return None
    stack, number = candidates[random.integers(len(candidates))]
    image = read_volume(subject.stack_file("image", stack))
    mask = subject.stack_file("truth", stack)
    truth = read_volume(mask).array if mask.is_file() else np.zeros_like(stacks[stack].array)
    return stack, number, _cropped(image, stacks[stack], truth, number)


def _cropped(image: Volume, labels: Volume, truth: np.ndarray, number: int) -> Example:
    row_mm, column_mm = image.pixel_spacing_mm
    shown = labels.array[number]
    rows = _field(np.flatnonzero((shown != BACKGROUND).any(axis=1)), FIELD_MM[0] / row_mm)
    columns = _field(np.flatnonzero((shown != BACKGROUND).any(axis=0)), FIELD_MM[1] / column_mm)
    parts = [_cut(array, rows, columns) for array in (image.array[number], shown, truth[number])]
    return Example(*parts, row_mm, column_mm)


def _field(used: np.ndarray, width: float) -> tuple[int, int]:
    """Return start and stop of a range of `width` indices, centred at the used ones.

    used: ascending indices. The range may exceed the array.
    """
    width = max(round(width), int(np.ptp(used)) + 1)
    first = int(used[0] + used[-1] + 1 - width) // 2
    return first, first + width


def _cut(array: np.ndarray, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    """Return a part of an array (rows, columns), with 0 beyond its edges."""
    ends = zip((rows, columns), array.shape, strict=True)
    outside = [(max(-first, 0), max(last - length, 0)) for (first, last), length in ends]
    padded = np.pad(array, outside)
    (top, _), (left, _) = outside
    return padded[rows[0] + top : rows[1] + top, columns[0] + left : columns[1] + left]


def overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a grey image with its labels in colour over it, sRGB 0-1, (rows, columns, 3).

    image: signal, (rows, columns); its 1st percentile and below is black, its 99th and above white.
    labels: label map of that shape, 0-8. Outlines are opaque, areas translucent, in
    the colours of anatomy.LABELS.
    """
    low, high = np.percentile(image, GREY_PERCENTILES)
    grey = np.clip((image - low) / max(high - low, 1e-9), 0, 1)[..., None].repeat(3, axis=2)
    outline = find_boundaries(labels, mode="inner") & (labels != BACKGROUND)
    opacity = np.where(outline, 1, LABEL_OPACITY * (labels != BACKGROUND))[..., None]
    return grey * (1 - opacity) + COLOUR_OF_VALUE[labels] * opacity


def draw_examples(frame: pd.DataFrame, examples: list[Example]) -> Figure:
    """Draw Figure 2, slices with their labels and the manual mask, and return the figure.

    frame, examples: from `example_slices`; without rows the figure is a sentence. The subject's
    right is on the left.
    """
    if frame.empty:
        return style.sentence("No analysed subjects: no segmentations to show.")
    lines = -(-len(frame) // PANELS_PER_ROW)
    panel_in = style.WIDTH_IN / PANELS_PER_ROW * 0.97
    figure = style.new_figure(0.45 + lines * (0.25 + panel_in * FIELD_MM[0] / FIELD_MM[1]))
    grid = figure.subplots(lines, PANELS_PER_ROW, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, row, example in zip(grid.flat, frame.itertuples(), examples, strict=False):
        _panel(axes, row, example)
    handles = [Patch(color=label.colour, label=label.name.capitalize()) for label in LABELS]
    if any(example.truth.any() for example in examples):
        edge = [withStroke(linewidth=3, foreground=style.QUIET)]
        line = {"color": "white", "linewidth": 1.2, "path_effects": edge}
        handles.append(Line2D([], [], label="Manual mask", **line))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, handlelength=1)
    return figure


def _panel(axes: Axes, row, example: Example) -> None:
    height = example.labels.shape[0] * example.row_mm
    width = example.labels.shape[1] * example.column_mm
    axes.imshow(
        overlay(example.image, example.labels),
        extent=(0, width, height, 0),
        interpolation="antialiased",
    )
    _contour(axes, example)
    seen = {
        "color": "white",
        "fontsize": 7,
        "path_effects": [withStroke(linewidth=1.5, foreground="black")],
    }
    axes.text(4, height / 2, "R", va="center", **seen)
    axes.text(width - 4, height / 2, "L", va="center", ha="right", **seen)
    ends, y = np.array([width - SCALE_BAR_MM - 5, width - 5]), height - 5
    axes.plot(ends, [y, y], color="black", linewidth=2.6)
    axes.plot(ends, [y, y], color="white", linewidth=1.4)
    axes.text(ends.mean(), y - 2, f"{SCALE_BAR_MM} mm", ha="center", va="bottom", **seen)
    axes.set_title(short_name(row.subject, style.NAME_LETTERS), fontsize=7.5)
    if pd.notna(row.mean_iou):
        axes.set_title(
            f"mean IoU {row.mean_iou:.3f}", fontsize=7.5, fontweight="normal", loc="right"
        )


def _contour(axes: Axes, example: Example) -> None:
    """Draw the outline of each muscle of the manual mask."""
    rows, columns = example.truth.shape
    x, y = (np.arange(columns) + 0.5) * example.column_mm, (np.arange(rows) + 0.5) * example.row_mm
    for label in LABELS:
        mask = example.truth == label.value
        if mask.any():
            axes.contour(x, y, mask, levels=[0.5], colors="white", linewidths=0.6)
