"""Grouping from positions and directions alone, in any order of the slices."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_writer import turn
from paravert.imaging import parallel_frames
from paravert.imaging.frame_stack import rectangles_cross, shear_mm_per_mm
from paravert.imaging.geometry import (
    angle_deg,
    canonical_order,
    cranial_normal,
    orthonormal_pair,
    rearranged,
    tilt_deg,
)
from paravert.imaging.slice_spacing import even_runs, missing_between

SQUARE = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], float)


def lengths(gaps):
    return [len(run) for run in even_runs(np.concatenate([[0], np.cumsum(gaps)]))]


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [
        ([], [1]),
        ([4], [2]),
        ([4, 4, 4], [4]),
        ([4, 4, 8, 4, 4], [3, 3]),
        ([4, 4, 30, 6, 6, 6], [3, 4]),
        ([30, 4, 4], [1, 3]),
        ([4, 30, 4, 30, 4], [2, 2, 2]),
        ([4, 4, 2, 4, 4], [3, 3]),
        ([4, 4.15, 3.9, 4], [5]),
        ([4, 4, 4.3, 4, 4], [3, 3]),
        ([4, 4, 6, 6, 6], [2, 4]),
    ],
)
def test_runs_end_where_the_gap_changes(gaps, expected):
    assert lengths(gaps) == expected


@given(
    st.lists(
        st.tuples(st.integers(2, 9), st.floats(2, 8), st.floats(25, 60)), min_size=1, max_size=6
    ),
    st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_stacks_apart_come_back_whatever_their_jitter(stacks, random):
    heights, start = [], 0.0
    for count, gap, space in stacks:
        heights += [start + (n + random.uniform(-0.01, 0.01)) * gap for n in range(count)]
        start = heights[-1] + space
    runs = even_runs(np.array(heights))
    assert [len(run) for run in runs] == [count for count, *_ in stacks]
    assert np.array_equal(np.concatenate(runs), np.arange(len(heights)))


@given(st.integers(1, 5), st.permutations(range(20)))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_orientations_cluster_alike_in_any_order(clusters, order):
    random = np.random.default_rng(clusters)
    right, down = [], []
    for number in range(20):
        wobble = turn("x", 3 * (number % clusters) + random.uniform(-0.04, 0.04))
        right.append(wobble @ [1, 0, 0])
        down.append(wobble @ [0, 1, 0])
    right, down = np.array(right), np.array(down)
    found = parallel_frames.orientation_clusters(right[order], down[order])
    members = {frozenset(int(order[index]) for index in cluster) for cluster in found}
    assert members == {frozenset(range(n, 20, clusters)) for n in range(clusters)}


def test_a_turn_in_the_plane_is_a_turn_too():
    right = np.array([[1, 0, 0], turn("z", 1) @ [1, 0, 0]])
    down = np.array([[0, 1, 0], turn("z", 1) @ [0, 1, 0]])
    assert len(parallel_frames.orientation_clusters(right, down)) == 2


@pytest.mark.parametrize(
    ("gap", "missing"), [(4, 0), (8, 1), (12.1, 2), (8.15, 1), (6, 0), (8.5, 0)]
)
def test_a_gap_that_is_a_multiple_tells_how_many_slices_are_missing(gap, missing):
    assert missing_between(gap, 4) == missing


def linked(near):
    """Return the components of a symmetric boolean matrix, by its powers."""
    reach = np.linalg.matrix_power(near.astype(float) + np.eye(len(near)), len(near)) > 0
    return {frozenset(np.flatnonzero(row).tolist()) for row in reach}


def sets(clusters):
    assert sorted(np.concatenate(clusters).tolist()) == list(range(sum(map(len, clusters))))
    return {frozenset(cluster.tolist()) for cluster in clusters}


@given(
    st.lists(
        st.tuples(*[st.integers(0, 6)] * 3).map(lambda place: np.array(place) * (0.03, 0.1, 0.1)),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_places_and_shifts_are_linked_as_their_plain_definition_says(places):
    heights, in_plane = np.array(places)[:, 0], np.array(places)[:, 1:]
    apart = np.linalg.norm(in_plane[:, None] - in_plane[None], axis=-1)
    over = apart <= parallel_frames.SHIFT_TOLERANCE_MM
    level = np.abs(heights[:, None] - heights[None]) <= parallel_frames.SAME_HEIGHT_MM
    assert sets(parallel_frames.shift_clusters(in_plane)) == linked(over)
    assert sets(parallel_frames.same_places(heights, in_plane)) == linked(over & level)


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 2), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_orientations_are_linked_as_their_plain_definition_says(turns):
    wobbles = np.array([turn("x", 0.11 * a) @ turn("y", 0.11 * b) for a, b in turns])
    right, down = wobbles[:, :, 0], wobbles[:, :, 1]
    apart = np.maximum(*(angle_deg(side[:, None], side[None]) for side in (right, down)))
    assert sets(parallel_frames.orientation_clusters(right, down)) == linked(
        apart <= parallel_frames.ORIENTATION_TOLERANCE_DEG
    )
    assert parallel_frames.orientation_spread_deg(right, down) == pytest.approx(
        apart.max(), abs=1e-9
    )


def peak_mb(call, *given):
    tracemalloc.start()
    call(*given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


@pytest.mark.parametrize("spread", [0.0, 1e-4, 1.0], ids=["alike", "jittered", "all apart"])
def test_thousands_of_slices_are_grouped_in_little_memory(spread):
    random = np.random.default_rng(5)
    heights = np.repeat(4.0 * np.arange(40), 50)
    in_plane = 1000 * spread * random.normal(size=(2000, 2))
    right = np.array([1.0, 0, 0]) + spread * random.normal(size=(2000, 3))
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross([0.0, 0, 1], right)
    assert peak_mb(parallel_frames.same_places, heights, in_plane) < 5
    assert peak_mb(parallel_frames.shift_clusters, in_plane) < 5
    assert peak_mb(parallel_frames.orientation_clusters, right, down) < 5
    assert peak_mb(parallel_frames.orientation_spread_deg, right, down) < 5


def test_gaps_that_grow_without_end_are_parted():
    heights = np.arange(3000.0) ** 2
    assert np.array_equal(np.concatenate(even_runs(heights)), np.arange(3000))


def test_shear_is_the_slide_per_height():
    heights = np.arange(6) * 4.0
    slanted = np.column_stack([heights * 0.1, np.zeros(6)])
    assert shear_mm_per_mm(heights, slanted) == pytest.approx(0.1)
    assert shear_mm_per_mm(heights, slanted * 0) == 0
    steps = np.column_stack([(heights > 9) * 0.4, np.zeros(6)])
    assert shear_mm_per_mm(heights, steps) == 0
    scattered = slanted + np.array([[0, 0], [9, 0], [0, 5], [3, 0], [0, 0], [1, 1]])
    assert shear_mm_per_mm(heights, scattered) == 0


# --- geometry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [1e-5, 0.2, 21, 89])
def test_tilt_and_angle_are_those_of_the_turn(degrees):
    right, down = np.array([1.0, 0, 0]), turn("x", degrees) @ [0, 1, 0]
    assert tilt_deg(cranial_normal(right, down)) == pytest.approx(degrees)
    assert float(angle_deg(down, np.array([0, 1.0, 0]))) == pytest.approx(degrees)


def test_the_nearest_orthonormal_pair_shares_the_error_between_both():
    skewed = turn("z", 0.1) @ [1, 0, 0]
    right, down = orthonormal_pair(skewed, np.array([0, 1.0, 0]))
    assert right @ down == pytest.approx(0, abs=1e-15)
    assert float(angle_deg(right, skewed)) == pytest.approx(0.05, rel=1e-3)


def test_rectangles_cross_only_where_they_share_a_point():
    upright = SQUARE @ turn("x", 90).T
    assert rectangles_cross(SQUARE, upright)
    assert rectangles_cross(SQUARE, upright + [0, 0, 0.9])
    assert not rectangles_cross(SQUARE, upright + [0, 0, 1.1])
    assert not rectangles_cross(SQUARE, upright + [0, 1.1, 0])
    assert not rectangles_cross(SQUARE, upright + [2.1, 0, 0])
    assert not rectangles_cross(SQUARE, SQUARE + [0, 0, 0.1])


def test_rearranging_moves_values_and_places_together():
    random = np.random.default_rng(1)
    array = random.integers(0, 99, (3, 4, 5))
    affine = np.eye(4)
    affine[:3, :3] = turn("y", 20) @ turn("z", 200) @ np.diag([2, 3, 4])
    affine[:3, 3] = [5, 6, 7]
    order, flips = canonical_order(affine, slice_axis=2)
    turned, moved = rearranged(array, affine, order, flips)
    places = {
        tuple(np.round(affine[:3, :3] @ index + affine[:3, 3], 6)): array[index]
        for index in np.ndindex(array.shape)
    }
    for index in np.ndindex(turned.shape):
        place = tuple(np.round(moved[:3, :3] @ index + moved[:3, 3], 6))
        assert turned[index] == places[place]
