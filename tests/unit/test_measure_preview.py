import io
from dataclasses import replace

import numpy as np
import pytest
from measure_scene import scene
from PIL import Image

from paravert import tables
from paravert.anatomy import LABELS
from paravert.measure import preview, slice_picture
from paravert.measure.labelled_stack import LabelledStack


def shown(number=1, slices=3, spacing_mm=(1.0, 1.0), truth=False, first_mm=0.0):
    subject = scene(slices=slices, seed=number)
    position_mm = first_mm + 5.0 * np.arange(slices)
    zeros = np.zeros(slices)
    stack = LabelledStack(
        number, subject.labels, position_mm, zeros, zeros + 5, zeros.astype(bool), *spacing_mm
    )
    return preview.PreviewStack(
        stack, slice_picture.windowed(subject.image), subject.labels if truth else None
    )


def png(canvas):
    file = io.BytesIO()
    slice_picture.as_picture(canvas).save(file, "PNG", compress_level=9)
    return file.getvalue()


def rgb(label):
    return tuple(int(label.colour[i : i + 2], 16) for i in (1, 3, 5))


def test_preview_opens_with_every_colour_of_the_legend_and_no_metadata():
    canvas = preview.contact_sheet("S0001", [shown()])
    picture = Image.open(io.BytesIO(png(canvas)))
    assert picture.size == (canvas.shape[1], canvas.shape[0])
    assert picture.info == {}
    colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert colours >= {rgb(label) for label in LABELS}


def test_a_long_name_ends_before_the_legend_of_the_preview():
    long, short = (preview.contact_sheet(name, [shown()]) for name in (8 * "NDAR_INV", "S1"))
    legend = (slice(None), slice(190, None))
    assert (long != short).any()
    assert (long[legend] == short[legend]).all()


def test_every_muscle_is_outlined_where_it_lies():
    one = shown()
    view = slice_picture.SliceView((69.5, 99.5), (1.0, 1.0), (140, 200))
    canvas = slice_picture.draw_slice(one.grey[0], one.stack.labels[0], None, view)
    for label in LABELS:
        outline = canvas == slice_picture.pure_colour(label.value)
        assert outline.sum() > 50
        assert (one.stack.labels[0][outline] == label.value).all()


def test_tinted_muscle_still_shows_its_signal():
    labels = np.ones((60, 60), dtype=np.uint8)
    grey = np.repeat(np.array([40, 200], dtype=np.uint8), 30)[None].repeat(60, 0)
    view = slice_picture.SliceView((29.5, 29.5), (1.0, 1.0), (60, 60))
    canvas = slice_picture.PALETTE[slice_picture.draw_slice(grey, labels, None, view)].astype(int)
    dark, bright = canvas[30, 10], canvas[30, 50]
    assert (bright - dark > 80).all()
    assert dark[1] > dark[0]  # psoas left is green


def test_truth_is_a_white_line_over_the_muscle():
    one = shown(truth=True)
    view = slice_picture.SliceView((69.5, 99.5), (1.0, 1.0), (140, 200))
    with_truth = slice_picture.draw_slice(one.grey[0], one.stack.labels[0], one.truth[0], view)
    without = slice_picture.draw_slice(one.grey[0], one.stack.labels[0], None, view)
    changed = with_truth != without
    assert changed.sum() > 200
    assert (with_truth[changed] == slice_picture.WHITE).all()


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (2.0, 0.5), (0.5, 1.5)])
def test_circle_is_round_whatever_the_pixel_spacing(spacing_mm):
    rows, columns = (np.arange(0, 100, step) for step in spacing_mm)
    disc = np.hypot(rows[:, None] - 50, columns[None] - 50) < 30
    view = slice_picture.SliceView(
        tuple(50 / step for step in spacing_mm),
        tuple(0.5 / step for step in spacing_mm),
        (200, 200),
    )
    drawn = view.crop(disc.astype(np.uint8) * 255) >= slice_picture.INSIDE
    height, width = np.ptp(np.argwhere(drawn), axis=0) + 1
    assert height == pytest.approx(120, abs=4)
    assert width == pytest.approx(120, abs=4)


def test_left_of_the_subject_is_drawn_on_the_right():
    canvas = preview.contact_sheet("S0001", [shown(slices=1)])[preview.HEAD_HEIGHT :]
    left, right = (
        np.argwhere(canvas == slice_picture.pure_colour(value))[:, 1].mean() for value in (1, 2)
    )
    assert left > right


def test_twelve_slices_at_most_spread_over_all_stacks():
    canvas = preview.contact_sheet("S0001", [shown(1, 20), shown(2, 20, first_mm=100.0)])
    three_rows = preview.HEAD_HEIGHT + 3 * (
        preview.PICTURE_SIZE[0] + preview.CAPTION_HEIGHT + preview.GAP
    )
    assert canvas.shape[0] == three_rows
    assert len(png(canvas)) < 400_000


def test_text_is_white_with_a_black_rim():
    canvas = np.full((40, 120), 30, dtype=np.uint8)
    slice_picture.write_text(canvas, "R", (20, 60), size=20)
    assert (canvas == slice_picture.WHITE).sum() > 20
    assert (canvas == slice_picture.BLACK).sum() > 20
    assert (canvas[:, :50] == 30).all()


def test_the_caption_names_the_level_of_a_slice_where_it_is_known():
    one = shown(slices=3)
    named = preview.contact_sheet("S0001", [replace(one, levels={1: "L3/4"})])
    plain = preview.contact_sheet("S0001", [one])
    changed = np.argwhere(named != plain)
    rows, columns = preview.PICTURE_SIZE
    top = preview.HEAD_HEIGHT + rows  # of the captions of the first row of slices
    left = preview.GAP + columns + preview.GAP  # of the second slice
    assert len(changed) > 20
    assert (changed[:, 0] >= top).all()
    assert (changed[:, 0] < top + preview.CAPTION_HEIGHT).all()
    assert (changed[:, 1] > left + columns - 60).all()
    assert (changed[:, 1] < left + columns).all()


def test_levels_are_read_by_subject_stack_and_slice(tmp_path):
    rows = [
        {"subject": "S1", "stack": 2, "slice": n, "level": level, "level_source": source}
        for n, level, source in ((0, "L4/5", "sheet"), (1, None, "none"))
    ]
    table = tables.SLICE_LEVELS
    tables.write(tmp_path / "levels.parquet", table, tables.from_rows(table, rows), {})
    assert preview.read_levels(tmp_path / "levels.parquet") == {"S1": {2: {0: "L4/5"}}}


def test_slices_are_shown_from_caudal_to_cranial_between_the_muscles():
    positions_mm = [30, 20, 10, 0, 40, 50, 60]
    filled = [True, True, True, False, False, True, False]
    assert preview.slices_to_show(positions_mm, filled, most=12) == [2, 1, 0, 4, 5]
    assert preview.slices_to_show(positions_mm, filled, most=3) == [2, 0, 5]
    assert preview.slices_to_show(positions_mm, [False] * 7, most=2) == [3, 6]


def test_subject_without_muscles_is_drawn_whole():
    one = shown()
    bare = LabelledStack(**{**vars(one.stack), "labels": np.zeros_like(one.stack.labels)})
    canvas = preview.contact_sheet("S0001", [preview.PreviewStack(bare, one.grey, None)])
    assert (canvas[preview.HEAD_HEIGHT :] > 0).mean() > 0.2


def test_same_subject_gives_the_same_bytes():
    assert png(preview.contact_sheet("S1", [shown()])) == png(
        preview.contact_sheet("S1", [shown()])
    )


def test_window_spares_contrast_from_a_few_bright_pixels():
    image = np.random.default_rng(0).uniform(100, 200, (2, 100, 100))
    image[0, 0, :5] = 30_000
    assert slice_picture.windowed(image)[1].std() > 50
    assert not slice_picture.windowed(np.full((1, 4, 4), 7)).any()
