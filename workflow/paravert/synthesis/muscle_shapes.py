"""Control points of the muscles of the left side, drawn for the reference man.

Per muscle five outlines, mid L1 to mid L5, in the spine's local frame: x to the left, y to the
back, in mm. Points of the same number belong together from level to level.
"""

import numpy as np


def _outlines(*levels: str) -> np.ndarray:
    """Return control points, (levels, points, 2), from "x,y" pairs."""
    return np.array([[pair.split(",") for pair in line.split()] for line in levels], float)


# From the vertebral body forwards round the belly; the first and last point touch the vertebra.
PSOAS = _outlines(
    "23,-6  27,-7  31,-1  34,7  35,14  33,20  29,21  26,16  24,9  23,1",
    "23,-9  28,-11  34,-6  40,3  43,13  42,20  36,22  29,21  25,16  23,4",
    "24,-10  31,-14  40,-11  48,-1  54,11  52,21  43,25  32,23  26,17  24,4",
    "25,-8  33,-14  45,-13  57,-5  64,7  62,18  53,25  41,26  32,21  26,8",
    "30,-14  39,-23  51,-26  62,-20  68,-8  65,5  55,13  43,15  33,7  28,-4",
)

# From the transverse process along the front to the side and back.
QUADRATUS = _outlines(
    "29,25  34,22  43,26  53,34  56,39  52,40  42,35  32,30",
    "34,28  40,23  51,24  63,30  70,37  66,40  54,37  42,32",
    "41,31  47,26  59,25  71,29  78,37  73,42  59,39  48,34",
    "48,36  54,31  68,27  81,29  86,35  82,42  72,45  58,41",
    "60,34  67,30  78,28  87,29  90,34  86,40  77,43  67,40",
)

# From the lamina along the facet, down the septum (points 2 to 4), round the spinous process.
MULTIFIDUS = _outlines(
    "4,40  9,36  16,37  18,46  13,56  8,61  3.5,60  3,50",
    "4,40  10,36  18,37  20,48  15,60  9,66  4,65  3,52",
    "4,41  11,36  20,37  22,50  19,63  12,71  4.5,68  3,54",
    "4,43  13,37  25,38  28,54  25,70  17,79  6,76  3.5,58",
    "4,44  14,37  29,37  35,52  38,68  26,76  8,74  3.5,58",
)
# How far each point follows the septum when it is moved.
MULTIFIDUS_SEPTUM = np.array([0, 0, 1, 1, 1, 0.3, 0, 0])

# From the top of the septum along the transverse process to the side, back along the fascia.
ERECTOR = _outlines(
    "17,38  23,34  42,38  64,46  79,55  72,65  50,70  24,69  9,64  19,47",
    "19,38  25,34  44,37  64,42  77,52  73,65  52,73  28,75  11,69  21,50",
    "21,38  27,34  45,37  62,42  73,53  69,67  52,76  33,78  15,74  23,52",
    "26,38  31,32  44,36  59,42  69,53  66,65  54,74  40,80  25,80  29,56",
    "30,36  33,29  43,28  53,34  58,48  56,61  50,69  44,73  38,71  36,53",
)
ERECTOR_SEPTUM = np.array([1, 0.6, 0, 0, 0, 0, 0, 0.3, 0.9, 1])
