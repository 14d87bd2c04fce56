"""The parts of a synthetic sagittal slice: column, trunk, canal, processes, vertebrae, discs.

Coordinates: y in mm towards the back, z in mm towards the head. Levels as in `spine`.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from paravert.synthesis.raster import PixelGrid
from paravert.synthesis.solids import Outlines

PIXEL_MM = 2.5  # of the network's grid
CANVAS_PX = 128
FINE = 2  # pixels are drawn as FINE x FINE
FIRST_LEVEL, LAST_LEVEL = -3.6, 11.4  # T8/9 to the coccyx
# Labels: 0 background, discs T11/12 to S1/2, vertebrae T11 to S1, the spine above, sacrum below.
DISCS = (-0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5)
VERTEBRAE = (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
OTHER_SPINE = 1 + len(DISCS) + len(VERTEBRAE)  # T10 and above with their discs
SACRUM = OTHER_SPINE + 1  # S2 and below
LABELS = SACRUM + 1

# By level: tilt of the column's caudal direction towards the back (degrees) and its SD, height of a
# vertebra with its disc, depth of the body from front to back (mm).
SHAPE_LEVELS = (-4, -1, 1, 2, 3, 4, 5, 5.5, 6, 7, 8, 9, 10, 12)
TILT_DEG = (2, -6, -7, -4, 1, 8, 20, 32, 42, 48, 44, 22, -8, -35)
TILT_SD_DEG = (5, 5, 5, 4, 4, 4, 6, 7, 8, 9, 12, 15, 18, 20)
PITCH_MM = (25, 29, 34, 35, 36, 36.5, 36, 34, 31, 25, 21, 18, 16, 10)
DEPTH_MM = (26, 29, 32, 33, 34, 35, 35, 34, 31, 20, 15, 12, 10, 7)

AIR, SKIN, FAT, MUSCLE, MARROW, CORTEX, ANNULUS, NUCLEUS, CSF, CORD, ROOT = range(11)
LIGAMENT, VESSEL, BOWEL, FLUID, ORGAN, BELLY_FAT, VEIN, METAL, EPIDURAL, SACRAL = range(11, 21)
TISSUES = 21


class SagittalSpine:
    """The vertebral column of one synthetic sagittal slice: axis, heights, depths and discs.

    Drawn from `rng`. Coordinates (y, z) in mm: y towards the back, z towards the head; (0, 0) is
    the axis near L3. Level: 1.0 mid L1, 1.5 disc L1/2, 6.0 S1.

    levels: (750,), ascending in steps of 0.02 from T8/9 (-3.6) to the coccyx (11.38): the levels at
        which axis and back are sampled.
    axis: (points, 2), (y, z) of the axis, through the middle of bodies and discs.
    back: (points, 2), unit vector from the axis towards the back.
    depth_mm, pitch_mm: functions of the level: depth of a vertebral body from front to back, height
        of a vertebra with its disc, in mm.
    scale: size of the person, 1 on average.
    disc_half: {level of a disc, -3.5 to 10.5: half its height in levels}.
    """

    def __init__(self, rng: np.random.Generator):
        scale = float(np.clip(rng.normal(1, 0.09), 0.78, 1.25))
        shared, steps = rng.normal(0, 0.8), rng.normal(0, 0.7, len(SHAPE_LEVELS))
        flat = rng.uniform(0.5, 1.25)
        tilt = np.array(TILT_DEG) * flat + np.array(TILT_SD_DEG) * (shared * 0.5 + steps)
        levels = np.arange(FIRST_LEVEL, LAST_LEVEL, 0.02)
        angle = np.deg2rad(_smooth(levels, SHAPE_LEVELS, tilt) + rng.normal(0, 5))
        pitch = np.array(PITCH_MM) * scale * np.exp(rng.normal(0, 0.03, len(PITCH_MM)))
        step = np.interp(levels, SHAPE_LEVELS, pitch) * 0.02
        y, z = np.cumsum(np.sin(angle) * step), -np.cumsum(np.cos(angle) * step)
        middle = np.abs(levels - rng.uniform(2.4, 3.6)).argmin()
        self.levels = levels
        self.axis = np.column_stack((y - y[middle], z - z[middle]))
        self.back = np.column_stack((np.cos(angle), np.sin(angle)))  # towards the back
        depth = (
            np.array(DEPTH_MM)
            * scale
            * np.exp(rng.normal(0, 0.06) + rng.normal(0, 0.03, len(DEPTH_MM)))
        )
        self.depth_mm = lambda level: np.interp(level, SHAPE_LEVELS, depth)
        self.pitch_mm = lambda level: np.interp(level, SHAPE_LEVELS, pitch)
        self.scale = scale
        usual = rng.uniform(0.10, 0.165)
        self.disc_half: dict[float, float] = {}
        for level in np.arange(-3.5, 11, 1.0):
            half = usual * np.interp(level, (-3.5, 0.5, 4.5, 5.5), (0.65, 0.8, 1.1, 1.0))
            half *= np.exp(rng.normal(0, 0.12))
            if rng.random() < 0.12 and level < 6:
                half *= rng.uniform(0.3, 0.7)  # narrowed
            if level > 6:
                half = rng.uniform(0.02, 0.08) if level < 7 else rng.uniform(0.01, 0.04)
            self.disc_half[float(level)] = float(half)

    def at(self, level: float, back_mm: float = 0.0) -> np.ndarray:
        """Return the point (y, z) in mm, (2,), of the axis at a level, or `back_mm` behind it."""
        axis = np.array([np.interp(level, self.levels, values) for values in self.axis.T])
        back = np.array([np.interp(level, self.levels, values) for values in self.back.T])
        return axis + back_mm * back

    def outline(
        self, levels: np.ndarray, front: np.ndarray | float, behind: np.ndarray | float
    ) -> np.ndarray:
        """Return the outline of a band along the column, (2 n, 2), (y, z) in mm.

        levels: (n,), from one end of the band to the other. front, behind: distances of its two
        edges behind the axis in mm, (n,) or one for all; negative in front. The outline follows the
        edge `front` in the order of levels, then the edge `behind` backwards.
        """
        axis, back = (
            np.column_stack([np.interp(levels, self.levels, values) for values in both.T])
            for both in (self.axis, self.back)
        )
        one, other = (
            axis + np.broadcast_to(distance, levels.shape)[:, None] * back
            for distance in (front, behind)
        )
        return np.concatenate((one, other[::-1]))

    def half_mm(self, levels: np.ndarray | float) -> np.ndarray:
        """Return half the depth (front to back) of the bodies at levels, in mm, of their shape."""
        return self.depth_mm(levels) / 2


class Picture:
    """Tissues and labels of a synthetic sagittal slice on a fine pixel grid, drawn part by part.

    tissues, labels: uint8, (256, 256), pixels of 1.25 mm (PIXEL_MM / FINE), rows towards the feet,
    columns towards the back; values: tissue constants of this module (AIR to SACRAL), and label numbers
    of discs, vertebrae and sacrum (`label_of`), 0 elsewhere. middle: float (column, row) in these
    pixels of the point y = 0, z = 0, the middle of the lumbar spine; drawn from `rng`.
    """

    def __init__(self, rng: np.random.Generator):
        size = CANVAS_PX * FINE
        self.tissues = np.full((size, size), AIR, np.uint8)
        self.labels = np.zeros((size, size), np.uint8)
        # The middle of the lumbar spine lies near the middle of the canvas, the back to the right.
        self.middle = np.array([rng.uniform(0.42, 0.66) * size, rng.uniform(0.40, 0.56) * size])

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Return (row, column) on the fine grid, float (2, ...), of (y, z) in mm, (..., 2).

        Whole numbers are pixel centres.
        """
        step = PIXEL_MM / FINE
        return np.stack(
            (self.middle[1] - points[..., 1] / step, self.middle[0] + points[..., 0] / step)
        )

    def fill(
        self, outline: np.ndarray, tissue: int, label: int | None = None, over: int | None = None
    ) -> None:
        """Fill an outline, (n, 2), (y, z) in mm, with a tissue and a label, in place.

        tissue: one of the constants AIR to SACRAL. label: number from `label_of`; None leaves the
        labels. over: fills only where this tissue is; None: everywhere.
        """
        points = self.pixels(outline)[::-1].T  # (column, row)
        size = len(self.tissues)
        grid = PixelGrid(size, size, 1.0, 1.0, 0.0, 0.0)
        starts, stops = grid.spans(Outlines(points, np.zeros(len(points), int)))
        pixels = np.repeat(stops - np.cumsum(stops - starts), stops - starts) + np.arange(
            (stops - starts).sum()
        )
        tissues, labels = self.tissues.reshape(-1), self.labels.reshape(-1)
        if over is not None:
            pixels = pixels[tissues[pixels] == over]
        tissues[pixels] = tissue
        if label is not None:
            labels[pixels] = label


def label_of(level: float) -> int:
    """Return the label number of a vertebral body or disc: level 4.0 is L4, 4.5 the disc L4/5.

    Discs T11/12 to S1/2 (-0.5 to 6.5) have 1 to 8, vertebrae T11 to S1 (-1.0 to 6.0) 9 to 16. Any
    other number above 6 has 18 (SACRUM: S2 and below), the rest 17 (OTHER_SPINE: above T11).
    """
    if level in DISCS:
        return 1 + DISCS.index(level)
    if level in VERTEBRAE:
        return 1 + len(DISCS) + VERTEBRAE.index(level)
    return SACRUM if level > 6 else OTHER_SPINE


def _smooth(x: np.ndarray, knots: tuple, values: np.ndarray) -> np.ndarray:
    found = np.interp(x, knots, values)
    return gaussian_filter(found, 12, mode="nearest")  # samples of 0.02 levels


def _along(first: float, last: float, points: int = 24) -> np.ndarray:
    """Return levels from first to last, (points,)."""
    return np.linspace(first, last, points)


def _blob(centre: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Return a round outline, (28, 2). centre: (2,). radius: mean, mm."""
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    wave = sum(rng.normal(0, 0.13) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 4))
    stretch = rng.uniform(0.6, 1.7)
    turn = rng.uniform(0, np.pi)
    u, v = (
        radius * stretch * (1 + wave) * np.cos(angle),
        radius / stretch * (1 + wave) * np.sin(angle),
    )
    c, s = np.cos(turn), np.sin(turn)
    return centre + np.column_stack((c * u - s * v, s * u + c * v))


def draw_trunk(picture: Picture, column: SagittalSpine, rng: np.random.Generator) -> None:
    """Draw skin, fat, back muscles and abdomen of a sagittal slice into a picture, in place.

    column: position of the vertebral column, which they surround; it is not drawn: call `draw_spine`
    afterwards. rng: random sizes and positions.
    """
    levels = _along(FIRST_LEVEL + 0.1, LAST_LEVEL - 0.1, 40)
    fat_mm = rng.uniform(4, 45)
    thick = np.interp(levels, (-3, 1, 3, 5.5, 8), (0.6, 0.7, 1.0, 1.5, 1.6)) * fat_mm
    usual = np.interp(levels, (-3, 1, 4, 6, 8, 11), (50, 56, 62, 52, 38, 25))
    deep = usual * column.scale + rng.normal(0, 3)
    skin, muscles = (
        np.array([column.at(*place) for place in zip(levels, distance, strict=True)])
        for distance in (deep + thick, deep)
    )
    # The skin does not follow every bend of the column.
    z = np.linspace(skin[:, 1].max(), skin[:, 1].min(), 40)
    skin_y = gaussian_filter(_y_at(skin, z), 3, mode="nearest")
    front = -rng.uniform(90, 190)
    belly = np.array(
        [[front, -400.0], [front - 10, -60], [front - 15, 0], [front, 80], [front, 400.0]]
    )
    outer = _to_the_ends(np.column_stack((skin_y, z)))
    picture.fill(np.concatenate((outer, belly)), SKIN)
    picture.fill(np.concatenate((outer - (1.6, 0), belly + (1.6, 0))), FAT)
    inner_y = np.minimum(_y_at(muscles, z), skin_y - 2)
    wall = rng.uniform(4, 35)
    inner = _to_the_ends(np.column_stack((inner_y, z)))
    picture.fill(np.concatenate((inner, belly + (wall, 0))), MUSCLE)
    axis = np.array([column.at(level, -5) for level in levels])
    ends = [[axis[0, 0], 400.0]], [[axis[-1, 0] + 40, -400.0]]
    axis = np.concatenate((ends[0], axis, ends[1]))
    picture.fill(np.concatenate((axis, belly + (wall + 8, 0))), BELLY_FAT)
    for _ in range(rng.integers(0, 40)):  # fat between the strands of the back muscles
        level = rng.uniform(levels[0], 8)
        centre = column.at(level, rng.uniform(30, 62))
        picture.fill(_blob(centre, rng.uniform(1, 5), rng), FAT, over=MUSCLE)
    _draw_abdomen(picture, column, rng)


def _y_at(line: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return y of a line (points, 2) at heights z (n,), (n,)."""
    order = np.argsort(line[:, 1])
    return np.interp(z, line[order, 1], line[order, 0])


def _to_the_ends(line: np.ndarray) -> np.ndarray:
    """Return a line (points, 2) with vertical ends far above and below."""
    return np.concatenate(([[line[0, 0], 400.0]], line, [[line[-1, 0], -400.0]]))


def _draw_abdomen(picture: Picture, column: SagittalSpine, rng: np.random.Generator) -> None:
    first, last = FIRST_LEVEL + 0.1, LAST_LEVEL - 0.1
    for _ in range(rng.integers(10, 60)):
        level = rng.uniform(first, last)
        centre = column.at(level, -rng.uniform(35, 150))
        tissue = rng.choice([BOWEL, BOWEL, FLUID, ORGAN, AIR, BELLY_FAT, VESSEL])
        outline = _blob(centre, rng.uniform(3, 22), rng)
        picture.fill(outline, BOWEL, over=BELLY_FAT)
        picture.fill(centre + (outline - centre) * 0.75, int(tissue), over=BOWEL)
    if rng.random() < 0.7:  # bladder
        picture.fill(_blob(column.at(8, -rng.uniform(50, 90)), rng.uniform(10, 30), rng), FLUID)
    if rng.random() < 0.8:  # aorta or vena cava
        gap, wide = rng.uniform(1, 8), rng.uniform(8, 20)
        levels = _along(first, rng.uniform(3.6, 4.8))
        near = -column.half_mm(levels) - gap
        picture.fill(column.outline(levels, near, near - wide), VESSEL)


def draw_spine(
    picture: Picture, column: SagittalSpine, rng: np.random.Generator, side_mm: float
) -> None:
    """Draw ligaments, canal, processes, vertebrae and discs of a sagittal slice into a picture, in place.

    Vertebral bodies, discs and sacrum are labelled, too (`label_of`). column: the vertebral column:
    where they lie, and their sizes. rng: random shapes and defects. side_mm: distance of the slice from
    the midline, 0 or more, to either side; beyond 8 to 12 mm (random) the slice shows foramina instead
    of the canal, from 5 mm on no spinous processes.
    """
    line = rng.uniform(0.8, 2.2)
    levels = _along(FIRST_LEVEL + 0.1, 10.5)
    half = column.half_mm(levels)
    picture.fill(column.outline(levels, -half - line, -half + 3), LIGAMENT)
    in_canal = side_mm < rng.uniform(8, 12)
    gap = rng.uniform(0.5, 2)
    wide = rng.uniform(13, 19) * np.sqrt(max(0.2, 1 - (side_mm / 14) ** 2))
    if in_canal:
        _draw_canal(picture, column, rng, gap, wide)
    _draw_posterior(picture, column, rng, gap + wide, side_mm, in_canal=in_canal)
    for level in np.arange(-3.0, 11, 1.0):
        _draw_vertebra(picture, column, rng, float(level))
    fused = rng.random() < 0.35  # no disc to be seen in the sacrum
    for level in sorted(column.disc_half):
        if level < 6 or not fused:
            _draw_disc(picture, column, rng, level)


def _draw_canal(
    picture: Picture, column: SagittalSpine, rng: np.random.Generator, gap: float, wide: float
) -> None:
    """Draw epidural fat, dural sac, cord, roots. gap: behind the bodies; wide: of the sac; mm."""
    first = FIRST_LEVEL + 0.1

    def back_of_fat(levels: np.ndarray) -> np.ndarray:
        narrow = np.interp(levels, (5, 6, 8, 9.5), (1, 0.9, 0.6, 0.3))
        return column.half_mm(levels) + gap + wide * narrow + 1.5

    levels = _along(first, 9.5)
    picture.fill(
        column.outline(levels, column.half_mm(levels) - 1, back_of_fat(levels) + 1), LIGAMENT
    )
    levels = _along(4.5, 9.5)
    picture.fill(column.outline(levels, column.half_mm(levels), back_of_fat(levels)), EPIDURAL)
    end = rng.uniform(6.2, 8)

    def sac(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return front and width of the dural sac, mm."""
        taper = np.interp(levels, (4.5, end), (1, 0.25))
        taper = taper * np.interp(levels, (5, 6, 8, 9.5), (1, 0.9, 0.6, 0.3))
        return column.half_mm(levels) + gap + 1.5 * (1 - taper) * wide / 3, wide * taper

    levels = _along(first, end, 40)
    front, width = sac(levels)
    picture.fill(column.outline(levels, front, front + width), CSF)
    conus = float(np.clip(rng.normal(1.1, 0.5), -0.4, 2.6))
    thick, place = rng.uniform(5.5, 8.5), rng.uniform(0.45, 0.62)
    levels = _along(first, conus)
    half = thick / 2 * np.interp(levels, (conus - 1.2, conus), (1, 0.15))
    centre = column.half_mm(levels) + gap + wide * place
    picture.fill(column.outline(levels, centre - half, centre + half), CORD)
    for _ in range(rng.integers(2, 7)):
        place, stop = rng.uniform(0.55, 0.95), rng.uniform(3, end - 0.2)
        thin = rng.uniform(0.4, 1.0)
        levels = _along(conus - 0.5, stop)
        front, width = sac(levels)
        root = front + width * place
        picture.fill(column.outline(levels, root - thin, root + thin), ROOT, over=CSF)
    for disc in np.arange(0.5, 6, 1):  # fat behind the sac at the discs
        if rng.random() < 0.7:
            levels = _along(disc - 0.3, disc + 0.4)
            more = rng.uniform(1, 6) * np.exp(-(((levels - disc) / 0.2) ** 2))
            back = back_of_fat(levels)
            picture.fill(column.outline(levels, back - 2, back + more), EPIDURAL)


def _draw_posterior(
    picture: Picture,
    column: SagittalSpine,
    rng: np.random.Generator,
    canal_mm: float,
    side_mm: float,
    *,
    in_canal: bool,
) -> None:
    """Draw spinous processes in the midline, laminae, joints and foramina beside it."""
    reach = rng.uniform(24, 34) * column.scale
    for level in np.arange(-3.0, 9, 1.0):
        if side_mm < 5:
            _draw_process(picture, column, rng, float(level), canal_mm, reach)
        elif in_canal or rng.random() < 0.5:
            levels = _along(level + 0.1, level + 0.5)
            near = column.half_mm(levels) + canal_mm + 2
            _bone(picture, column.outline(levels, near, near + rng.uniform(4, 9)), MARROW)
        if not in_canal:
            _draw_foramen(picture, column, rng, float(level))
    if side_mm < 5:  # supraspinous ligament
        levels = _along(FIRST_LEVEL + 0.1, 6)
        near = column.half_mm(levels) + canal_mm + reach * _shortening(levels)
        picture.fill(column.outline(levels, near, near + 2), LIGAMENT)


def _shortening(level: np.ndarray | float) -> np.ndarray:
    """Return the length of spinous processes relative to those of L1 to L5."""
    return np.interp(level, (5, 6, 8), (1, 0.5, 0.25))


def _draw_process(
    picture: Picture,
    column: SagittalSpine,
    rng: np.random.Generator,
    level: float,
    canal_mm: float,
    reach: float,
) -> None:
    top, bottom = level + rng.uniform(0.12, 0.24), level + rng.uniform(0.5, 0.66)
    length = reach * _shortening(level) * rng.uniform(0.85, 1.1)
    drop = rng.uniform(0.0, 0.2)
    levels = _along(top, bottom)
    near = column.half_mm(levels) + canal_mm
    outline = column.outline(levels, near + 2, near + length)
    outline[len(outline) // 2 :] += column.at(level + drop) - column.at(level)
    levels = _along(bottom, level + 1.2)
    near = column.half_mm(levels) + canal_mm
    between = column.outline(levels, near + 3, near + length)
    picture.fill(between, int(rng.choice([LIGAMENT, FAT, MUSCLE])))
    _bone(picture, outline, MARROW)


def _draw_foramen(
    picture: Picture, column: SagittalSpine, rng: np.random.Generator, level: float
) -> None:
    """Draw pedicle, nerve root in fat, and facet joint beside the canal."""
    levels = _along(level - 0.32, level + 0.02)
    half = column.half_mm(levels)
    pedicle = column.outline(levels, half - 3, half + 18)
    levels = _along(level + 0.0, level + 0.62)
    half = column.half_mm(levels)
    picture.fill(column.outline(levels, half + 0.5, half + rng.uniform(8, 13)), EPIDURAL)
    root = column.at(level + 0.22, column.half_mm(level) + 6)
    picture.fill(_blob(root, rng.uniform(2, 4), rng), ROOT)
    levels = _along(level + 0.2, level + 0.8)
    half = column.half_mm(levels)
    _bone(picture, column.outline(levels, half + 13, half + 24), MARROW)
    _bone(picture, pedicle, MARROW)


def _bone(picture: Picture, outline: np.ndarray, tissue: int, label: int | None = None) -> None:
    """Fill a bone with a dark rim of about 1 mm on average."""
    centre = outline.mean(axis=0)
    size = np.sqrt(((outline - centre) ** 2).sum(axis=1)).mean()
    picture.fill(outline, CORTEX, label)
    picture.fill(centre + (outline - centre) * max(0.0, 1 - 1.1 / size), tissue)


def _draw_vertebra(
    picture: Picture, column: SagittalSpine, rng: np.random.Generator, level: float
) -> None:
    above, below = (column.disc_half.get(level + side, 0.05) for side in (-0.5, 0.5))
    top, bottom = level - 0.5 + above, level + 0.5 - below
    waist, dish = rng.uniform(0, 2.5), rng.uniform(0, 2.5) if level < 6 else 0.0

    def half(levels: np.ndarray | float) -> np.ndarray:
        share = (levels - (top + bottom) / 2) / (bottom - top) * 2
        return column.half_mm(levels) - waist * (1 - share**2) * (level < 7)

    wide = 1 + 0.03 * rng.normal()
    levels = _along(top, bottom, 12)
    outline = column.outline(levels, -half(levels) * wide, half(levels) * wide)
    across = np.linspace(-1, 1, 9)[1:-1]
    ends = []  # concave endplates
    for end, sign in ((bottom, -1), (top, 1)):
        inwards = sign * dish / column.pitch_mm(level) * (1 - across**2)
        places = zip(end + inwards, half(end) * wide * across, strict=True)
        ends.append(np.array([column.at(*place) for place in places]))
    outline = np.concatenate((outline[:12], ends[0], outline[12:], ends[1][::-1]))
    tissue = MARROW if level < 6 else SACRAL
    _bone(picture, outline, tissue, label_of(level))
    if rng.random() < 0.6 and level < 6:
        levels = _along(level - 0.05, level + 0.05, 4)
        vein = column.outline(levels, half(levels) - rng.uniform(6, 14), half(levels))
        picture.fill(vein, VEIN, over=tissue)
    if rng.random() < 0.06:  # haemangioma, fatty endplate
        centre = column.at(level + rng.uniform(-0.3, 0.3), rng.uniform(-10, 10))
        spot = _blob(centre, rng.uniform(3, 8), rng)
        picture.fill(spot, int(rng.choice([FAT, FLUID, LIGAMENT])), over=tissue)


def _draw_disc(
    picture: Picture, column: SagittalSpine, rng: np.random.Generator, level: float
) -> None:
    height = column.disc_half[level]
    bulge = max(0.0, rng.normal(0.5, 1.3)) if level < 6 else 0.0
    short = 1.0 if level < 6 else rng.uniform(0.3, 0.9)
    levels = _along(level - height, level + height, 10)
    middle = 1 - ((levels - level) / height) ** 2
    half = column.half_mm(levels) * short
    outline = column.outline(levels, -half - 0.5 * middle, half + bulge * middle)
    picture.fill(outline, ANNULUS, label_of(level))
    if level > 6:
        return
    if rng.random() < 0.06:  # Schmorl's node
        edge = level + rng.choice([-1, 1]) * height
        node = _blob(column.at(edge, rng.uniform(-6, 6)), rng.uniform(2, 5), rng)
        picture.fill(node, ANNULUS)
    if rng.random() < 0.8:
        swell, place = rng.uniform(0.55, 0.85), rng.uniform(-0.1, 0.12)
        levels = _along(level - height * 0.75, level + height * 0.75, 10)
        wide = swell * np.sqrt(np.clip(1 - (0.9 * (levels - level) / height) ** 2, 0, 1))
        half = column.half_mm(levels)
        nucleus = column.outline(levels, half * (place - wide), half * (place + wide))
        picture.fill(nucleus, ANNULUS if rng.random() < 0.3 else NUCLEUS)


def draw_metal(picture: Picture, column: SagittalSpine, rng: np.random.Generator) -> None:
    """Draw one to three screws or cages (tissue METAL) into a sagittal picture, in place.

    The labels stay as they are. column: the vertebral column; they lie at L1 to L5. rng: random number,
    positions and sizes.
    """
    for level in rng.choice(np.arange(1, 6), rng.integers(1, 4), replace=False):
        centre = column.at(float(level), rng.uniform(-5, 30))
        picture.fill(_blob(centre, rng.uniform(4, 12), rng), METAL)
