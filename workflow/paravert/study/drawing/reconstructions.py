"""Figure 3: the muscles of up to four subjects in three dimensions."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from paravert.anatomy import LABELS, Label
from paravert.imaging.volume import read_volume
from paravert.sheet import short_name
from paravert.study.drawing import style
from paravert.study.drawing.examples import SCALE_BAR_MM, representatives
from paravert.study.drawing.surfaces import PIXEL_MM, Mesh, Viewpoint, extent_mm, mesh_of, shaded
from paravert.study.scans import scan_names
from paravert.subject_folder import SubjectFolder
from paravert.tables import REVIEW_FAILED

MAX_RECONSTRUCTIONS = 4
VIEWS = (Viewpoint("from the front and left", 35, 12), Viewpoint("from the back and left", 145, 12))
PANEL_MARGIN_MM = (12, 8)  # to the sides, above and below
Reconstruction = list[tuple[Label, Mesh]]


def reconstructed(
    subjects: pd.DataFrame, muscles: pd.DataFrame, folder: Path, seed: int
) -> tuple[pd.DataFrame, dict[str, Reconstruction]]:
    """Return the muscles of Figure 3: a table, and {subject: [(Label, Mesh) per stack and label]}.

    subjects, muscles: the cohort tables, one scan per subject. folder: holds the `SubjectFolder` of
    each scan, named by `scan_names`. seed: of the choice of up to four subjects, spread over sex and
    muscle volume; one without surfaces is left out, and so are muscles that failed the review. Table:
    one row per subject, muscle and side with colour ("#2ca02c"), surface_volume_ml (inside the smoothed
    meshes), faces (number of triangles), both summed over stacks, as each stack has meshes of its own;
    sex, age_years, volume_ml (measured).
    """
    names = scan_names(subjects).set_axis(subjects["subject"])
    keys = ["subject", "muscle", "side"]
    failed = muscles.loc[muscles["csa_reason"] == REVIEW_FAILED, keys]
    failed = set(failed.itertuples(index=False, name=None))
    found = {
        subject: [
            (label, surface)
            for label, surface in _reconstruction(folder / names[subject])
            if (subject, label.muscle, label.side) not in failed
        ]
        for subject in representatives(subjects, "volume_ml", MAX_RECONSTRUCTIONS, seed)
    }
    found = {subject: surfaces for subject, surfaces in found.items() if surfaces}
    rows = [
        {
            "subject": subject,
            "muscle": label.muscle,
            "side": label.side,
            "colour": label.colour,
            "surface_volume_ml": surface.volume_mm3 / 1000,
            "faces": len(surface.faces),
        }
        for subject, surfaces in found.items()
        for label, surface in surfaces
    ]
    frame = pd.DataFrame(rows, columns=[*keys, "colour", "surface_volume_ml", "faces"])
    frame = frame.groupby([*keys, "colour"], sort=False).sum().reset_index()
    measured = muscles[[*keys, "sex", "age_years", "volume_ml"]]
    return frame.merge(measured, how="left", on=keys), found


def _reconstruction(home: Path) -> Reconstruction:
    subject = SubjectFolder(home)
    stacks = [read_volume(subject.stack_file("labels", n)) for n in subject.stack_numbers("labels")]
    pairs = [(label, mesh_of(stack, label.value)) for stack in stacks for label in LABELS]
    return [(label, surface) for label, surface in pairs if surface is not None]


def draw_reconstructions(frame: pd.DataFrame, reconstructions: dict[str, Reconstruction]) -> Figure:
    """Draw Figure 3, muscles in three dimensions, and return the figure.

    frame, reconstructions: from `reconstructed`; without rows the figure is a sentence. A column
    per subject, a row per direction of view, all on one scale.
    """
    if frame.empty:
        return style.sentence("No analysed subjects: nothing to reconstruct.")
    sizes = [
        extent_mm([surface for _, surface in parts], view)
        for parts in reconstructions.values()
        for view in VIEWS
    ]
    size_mm = np.max(sizes, axis=0) + 2 * np.array(PANEL_MARGIN_MM)
    panel_in = style.WIDTH_IN / MAX_RECONSTRUCTIONS * 0.96
    figure = style.new_figure(0.75 + len(VIEWS) * panel_in * size_mm[1] / size_mm[0])
    grid = figure.subplots(len(VIEWS), MAX_RECONSTRUCTIONS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for column, (subject, parts) in zip(grid.T, reconstructions.items(), strict=False):
        for axes, view in zip(column, VIEWS, strict=True):
            _panel(axes, parts, view, size_mm)
        column[0].set_title(_title(frame[frame["subject"] == subject].iloc[0]), fontsize=7.5)
    for axes, view in zip(grid[:, 0], VIEWS, strict=True):
        axes.text(-0.04, 0.5, view.name.capitalize(), rotation=90, ha="right", va="center",
                  transform=axes.transAxes, color=style.QUIET)  # fmt: skip
    handles = [Patch(color=label.colour, label=label.name.capitalize()) for label in LABELS]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=1)
    return figure


def _title(row: pd.Series) -> str:
    sex = {"F": "woman", "M": "man"}.get(row["sex"])
    age = f"{row['age_years']:.0f} y" if pd.notna(row["age_years"]) else None
    name = short_name(row["subject"], style.NAME_LETTERS)
    return ", ".join(part for part in (name, sex, age) if part)


def _panel(axes: Axes, parts: Reconstruction, view: Viewpoint, size_mm: np.ndarray) -> None:
    surfaces = [surface for _, surface in parts]
    colours = [to_rgb(label.colour) for label, _ in parts]
    shown = shaded(surfaces, colours, view, size_mm)
    height, width = shown.shape[0] * PIXEL_MM, shown.shape[1] * PIXEL_MM
    axes.imshow(shown, extent=(0, width, 0, height), interpolation="antialiased")
    on_the_left, on_the_right = ("R", "L") if view.axes()[0, 0] < 0 else ("L", "R")
    letters = ((0, 0.5, on_the_left), (1, 0.5, on_the_right), (0.5, 1, "S"), (0.5, 0, "I"))
    for x, y, letter in letters:
        axes.text(0.02 + 0.96 * x, 0.015 + 0.97 * y, letter, ha="center", va="center",
                  color=style.QUIET, fontsize=8, transform=axes.transAxes)  # fmt: skip
    axes.plot([4, 4 + SCALE_BAR_MM], [3, 3], color=style.INK, linewidth=1.3)
    axes.text(4 + SCALE_BAR_MM / 2, 5, f"{SCALE_BAR_MM} mm", ha="center", va="bottom", fontsize=6.5)
