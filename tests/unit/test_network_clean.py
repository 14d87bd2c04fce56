"""Cleaning of label maps with known results."""

from functools import partial

import numpy as np
from scipy import ndimage

from paravert.network import clean
from paravert.network.clean import enclosed, largest_of_slices, main_part

cleaned = partial(clean.cleaned, apart_mm=5.0)
EMPTY = np.zeros((4, 20, 20), dtype=np.uint8)


def box(slices, rows, columns, value=1, on=EMPTY):
    labels = on.copy()
    labels[slices, rows, columns] = value
    return labels


MUSCLE = box(slice(0, 4), slice(2, 10), slice(2, 10))


def test_a_clean_label_map_stays_as_it_is():
    labels, changed = cleaned(MUSCLE)
    assert (labels == MUSCLE).all()
    assert (changed == 0).all()


def test_a_stray_is_removed_and_counted():
    labels, changed = cleaned(box(1, slice(14, 16), slice(14, 17), on=MUSCLE))
    assert (labels == MUSCLE).all()
    assert changed.tolist() == [6, 0, 0, 0, 0, 0, 0, 0]


def test_a_hole_is_filled_and_counted():
    labels, changed = cleaned(box(2, slice(4, 6), 4, value=0, on=MUSCLE))
    assert (labels == MUSCLE).all()
    assert changed[0] == 2


def test_a_bay_is_no_hole():
    bay = box(slice(0, 4), slice(4, 6), slice(2, 4), value=0, on=MUSCLE)
    assert (cleaned(bay)[0] == bay).all()


def test_a_hole_through_all_slices_is_filled():
    through = box(slice(0, 4), 5, 5, value=0, on=MUSCLE)
    assert (cleaned(through)[0] == MUSCLE).all()


def test_another_muscle_inside_is_not_overwritten():
    other = box(slice(0, 4), 5, 5, value=3, on=MUSCLE)
    assert (cleaned(other)[0] == other).all()


def test_a_stray_inside_another_muscle_becomes_that_muscle():
    elsewhere = box(slice(0, 4), slice(12, 18), slice(12, 18), value=3, on=MUSCLE)
    labels, changed = cleaned(box(1, 5, 5, value=3, on=elsewhere))
    assert (labels == elsewhere).all()
    assert changed.tolist() == [1, 0, 1, 0, 0, 0, 0, 0]


def test_each_label_is_cleaned_separately():
    both = box(slice(0, 4), slice(12, 16), slice(12, 16), value=2, on=MUSCLE)
    assert (cleaned(both)[0] == both).all()


def test_two_heads_that_join_in_another_slice_are_both_kept():
    heads = MUSCLE.copy()
    heads[1, 5:7, :] = 0
    assert main_part(heads == 1).sum() == (heads == 1).sum()


def test_a_muscle_goes_on_after_a_missed_slice():
    missed = box(2, slice(0, 20), slice(0, 20), value=0, on=MUSCLE)
    assert (cleaned(missed)[0] == missed).all()


def test_what_lies_elsewhere_after_a_missed_slice_is_a_stray():
    stray = box(3, slice(14, 18), slice(14, 18), on=box(slice(0, 2), slice(2, 10), slice(2, 10)))
    assert not cleaned(stray)[0][3].any()


def test_sections_in_slices_far_apart_need_not_overlap():
    oblique = box(1, slice(11, 18), slice(11, 18), on=box(0, slice(2, 10), slice(2, 10)))
    stray = box(0, 15, 15, on=oblique)
    assert (cleaned(stray, apart_mm=30.0)[0] == oblique).all()
    assert not cleaned(stray, apart_mm=20.0)[0][1].any()


def test_a_stray_displaces_no_muscle_of_slices_far_apart():
    muscle = box(slice(1, 4), slice(2, 10), slice(2, 10), on=box(0, slice(2, 7), slice(2, 7)))
    stray = box(slice(1, 4), 15, slice(11, 18), on=box(0, 15, 15, on=muscle)) == 1
    found = largest_of_slices(stray)
    assert (found == (muscle == 1)).all()
    thin = box(0, slice(0, 9), slice(0, 9), on=box(1, 15, 15))  # apart from each other
    through = box(slice(0, 2), 15, 15, on=thin) == 1
    assert (largest_of_slices(through).sum(axis=(1, 2)) == [81, 1, 0, 0]).all()


def test_an_absent_muscle_stays_absent():
    labels, changed = cleaned(EMPTY)
    assert not labels.any()
    assert not changed.any()


def test_each_cleaning_can_be_switched_off():
    spoilt = box(1, 15, 15, on=box(2, 5, 5, value=0, on=MUSCLE))
    assert cleaned(spoilt, keep_largest=False)[0][1, 15, 15] == 1
    assert cleaned(spoilt, fill_holes=False)[0][2, 5, 5] == 0
    assert (cleaned(spoilt, keep_largest=False, fill_holes=False)[0] == spoilt).all()


def test_the_input_is_not_modified():
    spoilt = box(1, 15, 15, on=MUSCLE)
    before = spoilt.copy()
    cleaned(spoilt)
    assert (spoilt == before).all()


def test_the_inside_of_a_ring_is_the_disc_without_the_ring():
    y, x = np.mgrid[:41, :41]
    radius = np.hypot(y - 20, x - 20)
    ring = (radius < 15) & (radius >= 10)
    assert (enclosed(ring[None])[0] == (radius < 10)).all()


def test_a_diagonal_gap_is_a_way_out_only_over_faces():
    """A ring closed by corners alone holds its inside in: a pixel has four neighbours."""
    diamond = np.zeros((2, 7, 7), dtype=bool)
    y, x = np.mgrid[:7, :7]
    diamond[0] = abs(y - 3) + abs(x - 3) == 2
    inside = abs(y - 3) + abs(x - 3) < 2
    assert (enclosed(diamond)[0] == inside).all()
    assert not enclosed(diamond)[1].any()


def test_enclosed_agrees_with_filling_slice_by_slice():
    mask = np.random.default_rng(1).random((6, 30, 30)) < 0.55
    for found, one in zip(enclosed(mask), mask, strict=True):
        assert (found == (ndimage.binary_fill_holes(one) & ~one)).all()


def test_labels_far_from_each_other_are_cleaned_as_in_the_whole_picture():
    random = np.random.default_rng(3)
    labels = np.zeros((5, 60, 60), dtype=np.uint8)
    for value, corner in ((1, (2, 3)), (4, (30, 35)), (8, (20, 5))):
        part = labels[:, corner[0] : corner[0] + 22, corner[1] : corner[1] + 22]
        part[random.random(part.shape) < 0.6] = value
    found, changed = cleaned(labels)
    expected = labels.copy()
    for value in (1, 4, 8):
        expected[(labels == value) & ~main_part(labels == value)] = 0
    for value in (1, 4, 8):
        expected[enclosed(expected == value) & (expected == 0)] = value
    np.testing.assert_array_equal(found, expected)
    assert changed.sum() > 0
