"""How muscle outlines vary between people: statistics of label maps of real people.

The control points of `muscles` were fitted to real outlines (root mean square distance 0.4 mm). The
fitted points were compared with the drawn ones as of the left side: x from the midline, y from the
anterior end of the multifidus, with equal areas. Only the statistics below were kept. Sources, all
label maps without images:

- johnnydfci/3Shot-LPM-Seg, Apache-2.0: 415 masks at L4/5, both sides of erector spinae and
  multifidus (830 samples). Used for the common modes of these two muscles, which explain 91 % of
  their variance, and for the correction of their drawn points at L4 and L5.
- MuscleMap/MuscleMap, MIT: the abdomen template and three subjects, L1 to L5 as far as covered.
  Used for everything else. Four people are few: the three modes each of psoas and quadratus
  explain 86 and 88 % of a variance that includes the error of the estimated level.
"""

import numpy as np

from paravert.anatomy import SIDES


def control_points(*rows: str, unit: float = 1.0) -> np.ndarray:
    """Return control points of outlines, float (rows, points, 2), each (x, y).

    rows: one text per row, of "x,y" pairs separated by blanks, equally many in each. unit: factor
    of all coordinates.
    """
    return unit * np.array([[pair.split(",") for pair in row.split()] for row in rows], float)


# Mean real minus drawn control points (`muscles.DRAWN`), mid L1 to L5, in mm of the reference man.
CORRECTION_MM = {
    "psoas_major": control_points(
        "-0.2,10.9 0,11.6 0.3,11.8 -0.7,10 -1.2,9.6 -2.4,7.1 -4.5,5.5 -5.6,6.7 -4.5,7.8 -2.3,9.7",
        "2.4,3.6 2.2,3.4 2.6,4 2.1,3.6 2.1,3.4 2.3,2.6 0.7,2.3 0.2,2.7 -0.3,2.8 2,3.1",
        "1.3,-0.1 1.1,0.2 1,1.3 1.8,0.7 1.7,0.4 2.5,0.2 1.5,0.5 1.5,1.4 0.3,2.3 2.8,0.2",
        "0.7,-3.2 1.2,-2.6 1.6,-2 1.1,-3.1 0,-3.7 -1.8,-3.5 -2.8,-2.8 -2.3,-2.7 -2.7,-1.2 0.7,-2.2",
        "3.2,-5.4 3.6,-4.1 4.6,-2.4 4.8,-2.5 3.7,-3.2 1.9,-3.3 0.8,-4.2 -0.5,-3.9 1.1,-4.2 3.5,-4.7",
    ),
    "quadratus_lumborum": control_points(
        "-0.3,0.4 -0.7,0.3 -0.4,0.3 -0.3,-0.7 0,-1.2 -0.9,-1 -0.4,0.7 -0.6,0.5",
        "-1.2,1 -1.8,1.2 -0.4,1.3 0.5,1.2 1.2,1.3 1.8,0.8 -0.2,0.1 -1.4,1.3",
        "1.8,-0.7 1.7,0.3 3.1,1.9 4.1,1.8 2.2,2.5 1.4,2.4 1.9,0.4 1.6,0.4",
        "-0.6,-5 1.5,-4.6 1.8,-4.9 2.3,-7.8 -0.6,-6.5 -0.5,-5.7 -0.7,-4.9 0,-4.8",
        "-0.6,-5 1.5,-4.6 1.8,-4.9 2.3,-7.8 -0.6,-6.5 -0.5,-5.7 -0.7,-4.9 0,-4.8",
    ),
    "multifidus": control_points(
        "1.5,-2.1 2.9,-0.2 2.4,2.3 -1.7,2.5 -1.2,-1.5 -0.8,-2.9 -0.8,-5.8 -1.1,-5.1",
        "0.7,-0.7 1.1,0.2 1.7,0.6 -1.4,2.2 -1.2,-1.9 -0.4,-2.9 -0.5,-5.9 -1,-3.7",
        "0.7,-0.7 0.7,1.1 1.2,-0.3 0.7,2.6 -0.7,-0.3 0,-2.3 0.7,-3 -0.8,-1.8",
        "1.1,-0.2 -1.4,1.2 -2.1,-1.2 -1.2,1 0.7,-3.6 4.2,-4.2 1.9,-4.5 -0.5,0.3",
        "4.3,-1.1 5.1,0 1.8,1.2 -0.4,2.8 0.8,-3.3 10.3,-0.2 4.3,1.3 0.5,2.5",
    ),
    "erector_spinae": control_points(
        "1.4,1.3 3.1,-3.2 5.2,0.2 5.1,-2.1 4.5,-6.2 5.6,-3.8 3,-4.1 -3.9,-2.7 -0.7,-5.7 -2.4,1.7",
        "0.8,-0.4 0.9,-4.7 2.4,-1.8 5.1,-1 2.5,-2.9 1.8,-2.9 2,-4.1 -7.7,-4.6 -1.8,-5.6 -2.1,0.6",
        "0.2,-1.4 -0.5,-6 1.6,-3.6 2.7,-1 1.7,-3.1 0.7,-2.7 0.3,-5.8 -9.1,-3.9 -3.4,-4.6 0.3,1.4",
        "-3.1,-1.3 -4.4,-4.8 -1.1,-6.1 0.6,-6 2.5,-9.5 2.2,-10.4 0.6,-7.9 -4.3,-7.3 -2.2,-6 -1.5,-0.5",
        "1,2.2 1.3,-1.7 -1.3,-3.5 0.6,-5 3.6,-10.2 4.8,-11.2 2.7,-6 2.3,-4.5 2.9,0 -0.8,1.6",
    ),
}

# Modes, (modes, points, 2): displacement of the points by one SD, in units of `shape_deviations`.
_MODES = {
    "psoas_major": control_points(
        "-3,-25 -11,8 -48,43 -69,80 -52,117 -47,137 -30,133 -18,114 -4,75 3,25",
        "13,23 19,50 38,83 69,77 60,59 44,33 40,1 8,-33 -1,-45 -13,-23",
        "-12,-1 -31,-22 -43,-12 -6,-11 21,-14 52,12 81,26 87,17 64,14 12,1",
        unit=1e-3,
    ),
    "quadratus_lumborum": control_points(
        "8,10 60,19 129,34 181,21 193,-17 130,-63 44,-70 -8,-10",
        "-3,-11 -38,6 -3,91 9,152 38,158 20,136 21,69 3,11",
        "-20,4 -50,-12 -64,-19 -32,-12 12,-3 98,6 43,-26 20,-4",
        unit=1e-3,
    ),
    "multifidus": control_points(
        "2,-8 6,1 -4,4 -36,42 -55,66 -68,70 -32,27 -1,-6",
        "15,-15 26,5 66,8 39,-3 10,-9 -11,-31 -37,-61 1,-53",
        "-1,11 -4,1 -18,-9 3,-10 20,-11 32,-11 24,9 6,25",
        "21,-3 40,0 12,12 -3,14 4,15 9,22 8,18 7,5",
        "-11,-9 -10,1 -11,26 -11,17 -7,12 -3,13 -15,3 -9,-14",
        "7,15 9,3 -4,-15 -14,-6 -13,-2 -11,7 2,27 -3,32",
        unit=1e-3,
    ),
    "erector_spinae": control_points(
        "-4,4 6,21 -6,50 -29,83 -50,118 -80,134 -93,118 -99,96 -78,83 -36,46",
        "65,8 53,5 66,26 90,39 88,33 52,33 7,16 -26,1 -17,-12 39,-1",
        "-18,-9 -12,8 -6,26 -5,41 8,53 22,42 33,19 36,-1 31,-12 4,-10",
        "12,12 27,1 23,-11 0,-9 -17,0 -2,0 17,4 27,9 17,14 -3,12",
        "-11,26 -10,27 -8,20 1,11 21,-7 17,-14 11,-6 14,-2 4,8 -12,15",
        "-4,-15 11,8 16,16 9,3 27,-7 8,-8 -8,-11 -6,-6 -10,2 -14,-6",
        unit=1e-3,
    ),
}
# Muscles with common modes, and the correlation between left and right of each mode.
_GROUPS = (
    (("psoas_major",), (0.45, 0.15, 0.11)),
    (("quadratus_lumborum",), (0.68, 0.23, 0.16)),
    (("multifidus", "erector_spinae"), (0.99, 0.9, 0.71, 0.54, 0.31, 0.5)),
)


def shape_deviations(rng: np.random.Generator) -> dict[str, dict[str, np.ndarray]]:
    """Return random offsets of outlines' control points from the mean, {side: {muscle: offsets}}.

    Sides and muscles are those of `anatomy`. The offsets of a muscle are float (points, 2), (x, y),
    0 on average, for the points of `muscles.DRAWN` in their order, the same at every level, in
    local coordinates of the left side (x to the left, y to the back): mirror the right outline
    afterwards. Unit: square root of the area of the muscle's outline at the level, for multifidus
    and erector spinae of the sum of both areas, because they share a septum.
    """
    deviations = {side: {} for side in SIDES}
    for muscles, correlation in _GROUPS:
        shared = np.array(correlation)
        common = rng.normal(size=len(shared))
        for side in SIDES:
            own = rng.normal(size=len(shared))
            score = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
            for muscle in muscles:
                deviations[side][muscle] = np.tensordot(score, _MODES[muscle], 1)
    return deviations
