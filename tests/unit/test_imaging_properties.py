"""Whatever the order of the files and the jitter of the headers, the same slices make the stacks."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_writer import turn
from paravert.errors import Reason, SubjectFault
from paravert.imaging.dicom_scan import FolderScan
from paravert.imaging.frame_stack import stack_frames
from paravert.imaging.frames import MR_CLASSIC, Frame, Header
from paravert.imaging.parallel_frames import (
    ORIENTATION_TOLERANCE_DEG,
    SHIFT_TOLERANCE_MM,
    group_frames,
)
from paravert.imaging.series import choose_series
from paravert.imaging.slice_spacing import GAP_TOLERANCE

JITTER = ("none", "orientation", "height", "in plane")
STABLE = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@dataclass(frozen=True)
class Planned:
    """A stack as it was meant: turns about the axes (degrees) and its centre in the plane (mm)."""

    slices: int
    gap_mm: float
    turns: tuple[int, int, int]
    aside: tuple[int, int]


PLANNED = st.builds(
    Planned,
    slices=st.integers(2, 7),
    gap_mm=st.floats(3, 8),
    turns=st.sampled_from([(0, 0, 0), (18, 0, 0), (9, -7, 12), (-20, 4, 100), (0, 0, 180)]),
    aside=st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
)


def header(series):
    texts = dict.fromkeys(
        ("modality", "study", "description", "frame_of_reference", "patient_position"), ""
    )
    flags = dict.fromkeys(("quadruped", "burned_in", "lossy"), False)
    unknown = dict.fromkeys(("declared_frames", "sex", "age_years", "field_strength_t"))
    return Header(
        file=Path("none"),
        sop_class=MR_CLASSIC,
        patient=(frozenset(),) * 3,
        series=series,
        preamble=True,
        pixels=None,
        manufacturer="",
        **texts,
        **flags,
        **unknown,
    )


def frame_at(centre, directions, number, series="axial"):
    right, down = directions
    rows, columns, row_spacing, column_spacing = 256, 320, 0.7, 0.6
    corner = centre - right * column_spacing * (columns - 1) / 2
    return Frame(
        header=header(series),
        number=number,
        rows=rows,
        columns=columns,
        image_type=(),
        position=corner - down * row_spacing * (rows - 1) / 2,
        right=right,
        down=down,
        row_spacing_mm=row_spacing,
        column_spacing_mm=column_spacing,
        thickness_mm=4.0,
        spacing_tag_mm=None,
        echo_time_ms=None,
        repetition_time_ms=None,
        contrast=(),
        acquired=(),
        real_world=(),
        slope=1.0,
        intercept=0.0,
    )


def frames_of(stacks, kind, random):
    """Return the frames of stacks one above the other, numbered from caudal to cranial.

    kind: what jitters, by just less than its tolerance between any two slices or gaps.
    """
    frames, base = [], -200.0
    for stack in stacks:
        rotation = turn("z", stack.turns[2]) @ turn("y", stack.turns[1]) @ turn("x", stack.turns[0])
        normal = rotation @ [0, 0, 1]
        start = np.array([*stack.aside, base])
        for index in range(stack.slices):
            wobble, height, shift = np.eye(3), index * stack.gap_mm, np.zeros(2)
            if kind == "orientation":
                most = 0.49 * ORIENTATION_TOLERANCE_DEG / np.sqrt(2)
                wobble = turn("x", random.uniform(-most, most)) @ turn(
                    "y", random.uniform(-most, most)
                )
            elif kind == "height":
                height += random.uniform(-0.24, 0.24) * GAP_TOLERANCE * stack.gap_mm
            elif kind == "in plane":
                angle = random.uniform(0, 2 * np.pi)
                shift = 0.49 * SHIFT_TOLERANCE_MM * np.array([np.cos(angle), np.sin(angle)])
            centre = start + normal * height + rotation @ [*shift, 0]
            directions = (rotation @ wobble @ [1, 0, 0], rotation @ wobble @ [0, 1, 0])
            frames.append(frame_at(centre, directions, len(frames)))
        base += (stack.slices - 1) * stack.gap_mm + random.uniform(30, 60)
    return frames


def numbers_of(stacks):
    return [[frame.number for frame in stack.frames] for stack in stacks]


def expected(stacks):
    ends = np.cumsum([stack.slices for stack in stacks])
    return [list(range(end - stack.slices, end)) for stack, end in zip(stacks, ends, strict=True)]


@pytest.mark.parametrize("kind", JITTER)
@given(st.lists(PLANNED, min_size=1, max_size=5), st.randoms(use_true_random=False))
@STABLE
def test_any_order_and_any_jitter_below_the_tolerances_give_the_same_stacks(kind, stacks, random):
    frames = frames_of(stacks, kind, random)
    random.shuffle(frames)
    found, _ = stack_frames(group_frames(frames))
    assert numbers_of(found) == expected(stacks)
    for stack, planned in zip(found, stacks, strict=True):
        within = 0.5 * GAP_TOLERANCE if kind == "height" else 1e-5
        assert stack.slab_mm == pytest.approx(planned.gap_mm, rel=within)
        assert stack.slab_source == "positions"


@given(st.lists(PLANNED, min_size=2, max_size=4), st.randoms(use_true_random=False))
@STABLE
def test_stacks_acquired_in_turn_are_the_same_stacks(stacks, random):
    frames = frames_of(stacks, "none", random)
    queues = [[frames[number] for number in numbers] for numbers in expected(stacks)]
    for queue in queues:
        if random.random() < 0.5:
            queue.reverse()
    taken = []
    while any(queues):
        queue = random.choice([queue for queue in queues if queue])
        taken.append(queue.pop())
    assert numbers_of(stack_frames(group_frames(taken))[0]) == expected(stacks)


@given(PLANNED, st.randoms(use_true_random=False))
@STABLE
def test_the_axial_series_is_found_in_any_order_of_the_files(planned, random):
    axial = frames_of([planned], "orientation", random)
    upright = (np.array([0.0, 1, 0]), np.array([0.0, 0, -1]))
    sagittal = [
        frame_at(np.array([x, 0.0, 0.0]), upright, n, "sagittal")
        for n, x in enumerate(range(-20, 20, 5))
    ]
    frames = axial + sagittal
    random.shuffle(frames)
    headers = tuple(frame.header for frame in frames)
    chosen = choose_series(FolderScan(tuple(frames), headers, frozenset(), len(frames)))
    groups = group_frames(chosen.frames)
    assert all(len(place) == 1 for group in groups for place in group.places)
    found, _ = stack_frames(groups)
    assert numbers_of(found) == expected([planned])


@given(st.lists(PLANNED, min_size=1, max_size=3), st.randoms(use_true_random=False))
@STABLE
def test_copies_are_found_at_their_places_in_any_order(stacks, random):
    frames = frames_of(stacks, "none", random)
    twice = frames + frames
    random.shuffle(twice)
    places = [place for group in group_frames(twice) for place in group.places]
    assert sorted(place[0].number for place in places) == list(range(len(frames)))
    assert all([frame.number for frame in place] == [place[0].number] * 2 for place in places)


@pytest.mark.parametrize("kind", JITTER)
@given(st.lists(PLANNED, min_size=1, max_size=3), st.randoms(use_true_random=False))
@STABLE
def test_copies_go_along_with_their_slices_and_change_no_stack(kind, stacks, random):
    frames = frames_of(stacks, kind, random)
    doubled = random.sample(frames, random.randint(1, len(frames)))
    copies = [replace(frame, number=1000 + frame.number) for frame in doubled]
    alone, _ = stack_frames(group_frames(frames))
    both, _ = stack_frames(group_frames(frames + copies))
    assert numbers_of(both) == numbers_of(alone)
    for one, other in zip(both, alone, strict=True):
        assert one.affine == pytest.approx(other.affine, abs=1e-9)
    told = {
        place[0].number: [f.number - 1000 for f in place[1:]]
        for s in both
        for place in s.group.places
    }
    assert {n for n, others in told.items() if others} == {frame.number for frame in doubled}
    assert all(others in ([], [number]) for number, others in told.items())


@given(
    st.integers(2, 6),
    st.floats(0.06, 0.4),
    st.randoms(use_true_random=False),
)
@STABLE
def test_a_gap_beyond_the_tolerance_parts_a_stack(half, beyond, random):
    planned = Planned(half, 5.0, (9, -7, 12), (0, 0))
    low = frames_of([planned], "none", random)
    normal = np.cross(low[0].right, low[0].down)
    step = (half + beyond) * 5.0 * normal
    high = [frame_at(f.centre + step, (f.right, f.down), half + f.number) for f in low]
    frames = low + high
    random.shuffle(frames)
    assert numbers_of(stack_frames(group_frames(frames))[0]) == expected([planned, planned])


def raised(frames, along_mm, aside_mm_per_mm=0.0):
    """Return the frames once more, all higher along their normal, and aside by their height."""
    normal = np.cross(frames[0].right, frames[0].down)
    return [
        frame_at(
            f.centre
            + along_mm * normal
            + aside_mm_per_mm * (normal @ (f.centre - frames[0].centre)) * f.right,
            (f.right, f.down),
            len(frames) + f.number,
        )
        for f in frames
    ]


def reason_of(frames, random):
    random.shuffle(frames)
    with pytest.raises(SubjectFault) as caught:
        stack_frames(group_frames(frames))
    return caught.value.reason


ONE = st.builds(
    Planned,
    slices=st.integers(3, 9),
    gap_mm=st.floats(5, 8),
    turns=st.sampled_from([(0, 0, 0), (9, -7, 12), (-20, 4, 100)]),
    aside=st.just((0, 0)),
)


@given(ONE, st.floats(0.06, 1.9), st.randoms(use_true_random=False))
@STABLE
def test_a_scan_repeated_within_half_a_thickness_is_refused_in_any_order(planned, higher, random):
    frames = frames_of([planned], "none", random)
    assert reason_of(frames + raised(frames, higher), random) is Reason.DUPLICATE_POSITIONS_CONFLICT


@given(ONE, st.floats(0.04, 1.0), st.randoms(use_true_random=False))
@STABLE
def test_a_sheared_series_is_refused_in_any_order(planned, slope, random):
    frames = raised(frames_of([planned], "none", random), 0.0, slope)
    assert reason_of(frames, random) is Reason.BAD_GEOMETRY_POSITION


@given(ONE, st.floats(1.06, 3), st.randoms(use_true_random=False))
@STABLE
def test_slices_farther_apart_than_three_thicknesses_stand_alone(planned, beyond, random):
    far = replace(planned, gap_mm=3 * 4.0 * beyond)
    frames = frames_of([far], "none", random)
    random.shuffle(frames)
    found, _ = stack_frames(group_frames(frames))
    assert numbers_of(found) == [[number] for number in range(planned.slices)]
    assert {(stack.slab_mm, stack.slab_source) for stack in found} == {(4.0, "thickness")}
