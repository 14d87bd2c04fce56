"""Varied people: more different than the phantoms, and still what they are said to be."""

from dataclasses import replace

import numpy as np
import pytest

from paravert.anatomy import LABELS, label_value
from paravert.synthesis.anatomies import (
    ANATOMY_COLUMNS,
    LAYERS,
    SECTION_LEVELS,
    SECTIONS_PER_PERSON,
    SIZE_PX,
    SPACING_MM,
    draw_anatomies,
    packed,
    sections_of,
    unpacked,
)
from paravert.synthesis.body import body_of
from paravert.synthesis.muscle_fat import MusclePoints, fat_order
from paravert.synthesis.muscles import muscle_tubes
from paravert.synthesis.raster import centred_grid
from paravert.synthesis.solids import axial_plane, signed_area
from paravert.synthesis.tissues import Tissue
from paravert.synthesis.variation import (
    COVER,
    MOST_LOST,
    PHANTOM,
    Cleft,
    Defect,
    Hip,
    PsoasCourse,
    Strand,
    Variation,
    varied_person,
)
from paravert.synthesis.volunteers import population_member
from phantom_slices import section_outline

PERSON = population_member(11, 3)
GRID = centred_grid(300, 1.0)


def tissues_of(body, plane, grid):
    return body.tissues([plane], grid)[0]


def plane_at(body, level):
    x, y = body.spine.middle(level)
    return axial_plane(np.array([x, y, float(body.spine.height_mm(level))]))


def area_of(tube, plane):
    return abs(signed_area(section_outline(tube, plane)))


def test_a_person_follows_from_seed_and_number():
    assert varied_person(3, 5) == varied_person(3, 5)
    assert varied_person(3, 5) != varied_person(3, 6)


def test_people_differ_more_than_phantoms_do():
    people = [varied_person(1, index)[0] for index in range(60)]
    phantoms = [population_member(1, index) for index in range(60)]
    spread, before = (
        np.std([np.log(np.array(one.area_mm2)[:, 2]) for one in group], axis=0)
        for group in (people, phantoms)
    )
    assert (spread > 1.15 * before).all()


FAR_OUT = PsoasCourse(leaves=4.0, per_level_mm=(18.0, -24.0), taller=1.5)


@pytest.mark.parametrize(
    "variation",
    [
        PHANTOM,
        Variation(correction=0.8, shape=1.2),
        Variation(correction=0.8, psoas=FAR_OUT),
        Variation(correction=0.8, cover=COVER[1]),
    ],
)
def test_muscles_have_the_planted_area_whatever_their_shape(variation):
    spine = body_of(PERSON, variation).spine
    tubes = muscle_tubes(PERSON, spine, variation)
    for level in (2.0, 3.0, 4.0, 4.5):
        plane = plane_at(body_of(PERSON, variation), level)
        for label in LABELS:
            planted = PERSON.area_at(label.value, level)
            assert area_of(tubes[label.value], plane) == pytest.approx(planted, rel=0.01)


def multifidus_shares(people, level):
    """Return MF / (MF + ES) of the left side of people at a level, (people,)."""
    erector, multifidus = (
        np.array([one.area_at(label_value(muscle, "left"), level) for one in people])
        for muscle in ("erector_spinae", "multifidus")
    )
    return multifidus / (multifidus + erector)


def test_the_multifidus_has_the_share_of_real_masks_and_somewhat_more_spread():
    people = [varied_person(1, index)[0] for index in range(300)]
    at_l45 = multifidus_shares(people, 4.5)
    assert at_l45.mean() == pytest.approx(0.421, abs=0.02)  # 415 masks
    assert 0.063 < at_l45.std() < 1.3 * 0.063
    for level, real in ((3.5, (0.25, 0.27)), (2.5, (0.16, 0.17)), (1.5, (0.12, 0.135))):
        shares = multifidus_shares(people, level)
        assert shares.mean() - shares.std() < real[0]
        assert shares.mean() + shares.std() > real[1]


def test_above_l4_the_erector_spinae_covers_the_back_of_the_multifidus():
    drawn = {}
    for cover in COVER:
        variation = Variation(correction=0.9, shape=0.0, cover=cover)
        body = body_of(PERSON, variation)
        tubes = muscle_tubes(PERSON, body.spine, variation)
        for level in (2.0, 4.4):
            plane = plane_at(body, level)
            drawn[cover, level] = [section_outline(tubes[label], plane) for label in (7, 5)]
    for before, after in zip(drawn[COVER[0], 4.4], drawn[COVER[1], 4.4], strict=True):
        assert after == pytest.approx(before)
    (multifidus, erector), (covered, covering) = (drawn[cover, 2.0] for cover in COVER)
    height = np.ptp(multifidus[:, 1])
    moved = multifidus[:, 1].max() - covered[:, 1].max()
    assert moved == pytest.approx(COVER[1] * height, rel=0.3)
    behind = covered[:, 1].max()
    beside, over = (one[one[:, 1] > behind, 0].min() for one in (erector, covering))
    assert over < beside - 2
    assert over < 0.6 * covered[:, 0].max()
    assert abs(signed_area(covered)) == pytest.approx(abs(signed_area(multifidus)), rel=0.01)


def test_a_wasted_muscle_has_lost_the_share_and_leaves_fat():
    lost = tuple(MOST_LOST[label.muscle] for label in LABELS)
    variation = Variation(lost=lost)
    body = body_of(PERSON, variation)
    plane = plane_at(body, 3.0)
    whole = muscle_tubes(PERSON, body.spine, variation, wasted=False)
    left = muscle_tubes(PERSON, body.spine, variation)
    for label, share in zip(LABELS, lost, strict=True):
        before, after = (area_of(tubes[label.value], plane) for tubes in (whole, left))
        assert after / before == pytest.approx(1 - share, rel=1e-6)
    healthy = tissues_of(body_of(PERSON), plane, GRID)
    wasted = tissues_of(body, plane, GRID)
    muscle = (healthy >= 5) & (healthy <= 8)
    now_fat = np.isin(wasted, [Tissue.VISCERAL_FAT, Tissue.SEPTUM])
    assert (muscle & now_fat).sum() > 0.25 * muscle.sum()


def test_hardly_any_muscle_is_hidden_by_its_neighbours():
    shown = []
    for index in range(12):
        person, variation = varied_person(1, index)
        body = body_of(person, replace(variation, defects=()))
        for level in (2.0, 3.0, 4.0):
            tissues = tissues_of(body, plane_at(body, level), GRID)
            for label in LABELS:
                planted = person.area_at(label.value, level) * (1 - variation.lost[label.value - 1])
                shown.append((tissues == label.value).sum() / planted)
    assert np.median(shown) > 0.93
    assert np.mean(np.array(shown) < 0.7) < 0.04
    assert min(shown) > 0.4


def test_a_defect_replaces_bone_and_muscle():
    defect = Defect((2.0, 4.0), (0.0, 50.0), (15.0, 18.0), Tissue.CSF)
    body = body_of(PERSON, Variation(defects=(defect,)))
    plane = plane_at(body, 3.0)
    before, after = tissues_of(body_of(PERSON), plane, GRID), tissues_of(body, plane, GRID)
    changed = before != after
    assert (after[changed] == Tissue.CSF).all()
    assert changed.sum() == pytest.approx(np.pi * 15 * 18 * body.spine.scale**2, rel=0.1)


def test_a_kidney_lies_where_it_was_moved_to():
    moved = Variation(kidneys=((9.0, -5.0, 0.0), (0.0, 0.0, 0.0)))
    places = []
    for variation in (PHANTOM, moved):
        body = body_of(PERSON, variation)
        tissues = tissues_of(body, plane_at(body, 1.4), GRID)
        rows, columns = np.nonzero(np.isin(tissues, (Tissue.KIDNEY, Tissue.MEDULLA)))
        left = columns > GRID.columns / 2
        places.append([(columns[own].mean(), rows[own].mean()) for own in (left, ~left)])
    (left, right), (left_moved, right_moved) = places
    scale = body.spine.scale
    assert np.subtract(left_moved, left) == pytest.approx((9 * scale, -5 * scale), abs=1.0)
    assert right_moved == right


def test_the_psoas_goes_its_course_to_the_pelvis():
    straight = replace(FAR_OUT, per_level_mm=(0.0, 0.0), taller=1.0)
    sections = []
    for course in (straight, FAR_OUT):
        variation = Variation(correction=0.8, psoas=course)
        body = body_of(PERSON, variation)
        tube = muscle_tubes(PERSON, body.spine, variation)[label_value("psoas_major", "left")]
        sections.append(section_outline(tube, plane_at(body, 5.0)))
    before, after = ((outline.max(axis=0) + outline.min(axis=0)) / 2 for outline in sections)
    # Areas are kept by growing about the spine's side of the muscle, so its middle moves a little.
    assert after - before == pytest.approx(body.spine.scale * np.array([18.0, -24.0]), abs=3.0)
    ratios = [np.ptp(outline[:, 1]) / np.ptp(outline[:, 0]) for outline in sections]
    assert ratios[1] / ratios[0] == pytest.approx(FAR_OUT.taller, rel=0.05)


def test_hips_lie_where_they_were_moved_to():
    places = []
    for hip in (Hip(), Hip(width=0.9), Hip(back_mm=-10.0), Hip(crest=-0.3)):
        body = body_of(PERSON, Variation(hip=hip))
        tissues = tissues_of(body, plane_at(body, 5.3), GRID)
        rows, columns = np.nonzero(tissues[:, GRID.columns // 2 :] == Tissue.ILIUM)
        places.append((columns.mean(), rows.mean()))
    (x, y), (nearer, _), (_, forward), (deeper, _) = places
    assert nearer / x == pytest.approx(0.9, abs=0.02)
    assert y - forward == pytest.approx(10 * body.spine.scale, abs=1.0)
    assert deeper < x  # further below its crest a wing is nearer to the spine


def test_a_hollow_loop_has_a_wall_and_stays_in_the_fat_of_the_cavity():
    loop = Strand((2.0, 4.0), (60.0, -10.0), (0.0, 0.0), 12.0, Tissue.GAS, Tissue.BOWEL_WALL)
    plain, crowded = body_of(PERSON), body_of(PERSON, Variation(loops=(loop,)))
    plane = plane_at(plain, 3.0)
    before, after = (tissues_of(body, plane, GRID) for body in (plain, crowded))
    changed = before != after
    assert (before[changed] == Tissue.VISCERAL_FAT).all()
    wall, lumen = ((after[changed] == tissue).sum() for tissue in (Tissue.BOWEL_WALL, Tissue.GAS))
    assert wall > 50
    assert lumen > 50
    assert set(after[changed]) == {Tissue.BOWEL_WALL, Tissue.GAS}


def test_a_strand_runs_through_fat_and_leaves_muscle_alone():
    strand = Strand((4.8, 5.6), (45.0, 5.0), (0.0, 0.0), 25.0, Tissue.ROOT)
    without = tissues_of(body_of(PERSON), plane_at(body_of(PERSON), 5.3), GRID)
    body = body_of(PERSON, Variation(strands=(strand,)))
    with_strand = tissues_of(body, plane_at(body, 5.3), GRID)
    changed = with_strand != without
    assert changed.sum() > 50
    assert (without[changed] == Tissue.VISCERAL_FAT).all()
    assert (with_strand[changed] == Tissue.ROOT).all()
    above = tissues_of(body, plane_at(body, 4.5), GRID)
    assert (above == tissues_of(body_of(PERSON), plane_at(body, 4.5), GRID)).all()


def test_a_cleft_parts_the_erector_spinae_from_behind_and_nothing_else():
    cleft = Cleft(side=1, levels=(1.0, 5.0), place=0.4, width_mm=8.0, depth_mm=12.0, lean_mm=0.0)
    plain, parted = body_of(PERSON), body_of(PERSON, Variation(clefts=(cleft,)))
    left = label_value("erector_spinae", "left")
    plane = plane_at(plain, 3.0)
    before, after = (tissues_of(body, plane, GRID) for body in (plain, parted))
    changed = before != after
    assert set(before[changed]) <= {left, Tissue.SEPTUM}
    assert (after[changed] == Tissue.FAT).all()
    scale = parted.spine.scale
    taken_mm2 = (changed & (before == left)).sum() * GRID.du * GRID.dv
    assert taken_mm2 == pytest.approx(8 * 12 / 2 * scale**2, rel=0.25)  # a triangle, at mid length
    rows, columns = np.nonzero(changed)
    in_muscle = np.nonzero(before == left)
    place = (columns.mean() - in_muscle[1].min()) / np.ptp(in_muscle[1])
    assert place == pytest.approx(0.4, abs=0.03)
    hindmost = in_muscle[0][np.abs(in_muscle[1] - columns.mean()) < 5].max()
    assert hindmost - rows.min() == pytest.approx(12 * scale, abs=2)


def test_most_people_are_shaped_like_real_ones_and_some_like_phantoms():
    corrections = np.array([varied_person(1, index)[1].correction for index in range(200)])
    assert 0.5 < np.mean(corrections > 0.6) < 0.75
    assert np.mean(corrections < 0.2) > 0.02


def test_muscle_turns_to_fat_evenly_from_last_to_first():
    body = body_of(PERSON)
    rng = np.random.default_rng(1)
    labels = rng.integers(1, 9, 4000)
    places = rng.uniform(-60, 60, (2, 4000)).astype(np.float32)
    order = fat_order(
        MusclePoints(PERSON, body.spine, labels, *places, np.full(4000, 3.0, np.float32))
    )
    for value in range(1, 9):
        own = np.sort(order[labels == value])
        assert own == pytest.approx(np.linspace(0, 1, len(own)), abs=1e-6)


@pytest.fixture(scope="module")
def rows():
    return sections_of(4, 1)


def test_sections_of_a_person_are_spread_over_the_lumbar_spine(rows):
    assert len(rows) == SECTIONS_PER_PERSON
    levels = [row["level"] for row in rows]
    assert levels == sorted(levels)
    assert SECTION_LEVELS[0] <= levels[0] < 1.0
    assert 5.5 < levels[-1] <= SECTION_LEVELS[1]
    assert set(rows[0]) == set(ANATOMY_COLUMNS.names)


def test_a_section_is_the_body_cut_there(rows):
    person, variation = varied_person(4, 1)
    row = rows[5]
    maps = unpacked(memoryview(row["maps"]))
    assert maps.shape == (LAYERS + 1, SIZE_PX, SIZE_PX)
    found = ((maps[1] >= 1) & (maps[1] <= 8)).sum() * SPACING_MM**2
    planted = sum(
        person.area_at(label.value, row["level"]) * (1 - lost)
        for label, lost in zip(LABELS, variation.lost, strict=True)
    )
    tilted = 1 / np.cos(np.deg2rad(row["tilt_deg"]))
    assert found == pytest.approx(planted * tilted, rel=0.12)  # neighbours hide a little
    muscle = ((maps[:LAYERS] > 0) & (maps[:LAYERS] <= 8)).any(axis=0)
    assert not maps[LAYERS][~muscle].any()


def test_a_slice_beside_a_section_is_the_body_cut_further_on(rows):
    third = 1 / LAYERS
    beside = sections_of(4, 1, steps=(0.0, third))
    assert [row["maps"] for row in beside[::2]] == [row["maps"] for row in rows]
    for here, above in zip(beside[::2], beside[1::2], strict=True):
        own, next_one = (unpacked(memoryview(row["maps"])) for row in (here, above))
        # A layer further: what was its middle is now its lower layer; but for rounding.
        assert (own[1:LAYERS] == next_one[: LAYERS - 1]).mean() > 0.9999
        assert above["level"] == here["level"]


def test_what_is_packed_comes_back():
    rng = np.random.default_rng(0)
    tissues = rng.integers(0, 40, (LAYERS, SIZE_PX, SIZE_PX), np.uint8)
    order = rng.integers(0, 256, (SIZE_PX, SIZE_PX), np.uint8)
    maps = unpacked(packed(tissues, order))
    assert (maps[:LAYERS] == tissues).all()
    assert (maps[LAYERS] == order).all()


def test_below_l5_the_psoas_goes_to_the_side_and_forwards():
    person, variation = varied_person(1, 0)
    body = body_of(person, variation)
    left = muscle_tubes(person, body.spine, variation)[1]
    places = []
    for level in (5.0, 6.0):
        plane = plane_at(body, level)
        places.append(section_outline(left, plane).mean(axis=0))
    assert places[1][0] > places[0][0] + 12
    assert places[1][1] < places[0][1] - 12


def test_an_error_while_people_are_drawn_leaves_no_file_behind(tmp_path):
    with pytest.raises(ValueError, match="negative"):
        draw_anatomies(tmp_path / "a.parquet", people=1, seed=-1)
    assert list(tmp_path.iterdir()) == []
