"""Intact stacks whose slices differ strongly from one to the next, each kind as scanners make them.

Every kind is drawn at random: a seed gives the same stack (slices, rows, columns) again.
"""

from collections.abc import Callable

import numpy as np

Points = Callable[[np.ndarray], np.ndarray]
HEAD_MM = (150.0, 190.0, 180.0)  # across, front to back, up
LAYERS = ((1.0, 900), (0.93, 100), (0.87, 500))  # scalp, bone, brain: size and value
NOISE = (0.005, 0.05)  # of the brightest


def head(chance: np.random.Generator) -> Points:
    """Return what gives the values of a head of ellipsoids at points (..., 3), -1 to 1 each."""
    parts = [(np.zeros(3), np.full(3, size), value) for size, value in LAYERS]
    for _ in range(12):
        axes, value = chance.uniform(0.05, 0.35, 3), chance.uniform(50, 1000)
        parts.append((chance.uniform(-0.5, 0.5, 3), axes, value))

    def values(points: np.ndarray) -> np.ndarray:
        image = np.zeros(points.shape[:-1])
        for centre, axes, value in parts:
            image[(((points - centre) / axes) ** 2).sum(-1) < 1] = value
        return image

    return values


def cut(values: Points, way: int, gap_mm: float, size: int, first_mm: float = 0.0) -> np.ndarray:
    """Return slices of a head across one of its axes, each the mean of three within its thickness."""
    side = np.linspace(-1, 1, size)
    middles = np.arange(first_mm + gap_mm / 2, HEAD_MM[way], gap_mm)
    slices = []
    for middle in middles:
        within = middle + np.array([-0.3, 0, 0.3]) * gap_mm
        grids = [np.meshgrid(2 * at / HEAD_MM[way] - 1, side, side, indexing="ij") for at in within]
        order = np.argsort([way, *(axis for axis in range(3) if axis != way)])
        points = [np.stack([grid[axis] for axis in order], axis=-1)[0] for grid in grids]
        slices.append(np.mean([values(at) for at in points], axis=0))
    return np.array(slices)


def noisy(stack: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Return magnitudes after noise in both channels (Rice)."""
    noise = chance.uniform(*NOISE) * stack.max()
    real, imaginary = chance.normal(0, noise, (2, *stack.shape))
    return np.hypot(stack + real, imaginary).astype(np.float32)


def shifted(slice_: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return np.roll(slice_, (rows, columns), (0, 1))


def _head(way: int) -> Callable[[np.random.Generator], np.ndarray]:
    def draw(chance):
        size = int(chance.choice((64, 96)))
        return noisy(cut(head(chance), way, chance.uniform(3, 10), size), chance)

    return draw


def top_of_head(chance: np.random.Generator) -> np.ndarray:
    """A few thick slices up to the vertex: each cross-section far smaller than the one before."""
    return noisy(cut(head(chance), 2, chance.uniform(6, 10), 96, chance.uniform(110, 150)), chance)


def echo_planar(chance: np.random.Generator) -> np.ndarray:
    """64 x 64, a contrast of its own in each slice, ghosts, odd slices shifted by a movement."""
    stack = cut(head(chance), 2, chance.uniform(3, 6), 64)
    stack = stack**0.7 + 0.15 * np.roll(stack, 32, axis=1)
    for index in range(len(stack)):
        power, scale = chance.uniform(0.7, 1.5), np.exp(chance.normal(0, 0.4))
        stack[index] = scale * (stack[index] / stack.max()) ** power
        if index % 2:
            stack[index] = shifted(stack[index], *chance.integers(-2, 3, 2))
    return noisy(stack, chance)


def trunk(chance: np.random.Generator, size: int = 128) -> np.ndarray:
    """Fat around muscle, a spine, bowel that differs from slice to slice."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    gap_mm, stack = chance.uniform(4, 10), []
    for index in range(int(chance.integers(3, 20))):
        z = index * gap_mm / 100
        outline = (x / 0.9) ** 2 + (y / (0.7 + 0.1 * np.sin(z))) ** 2
        image = np.where(outline < 1, np.where(outline > 0.75, 900, 300), 0.0)
        image[x**2 + (y - 0.2 * np.cos(z)) ** 2 < 0.03] = 600
        for _ in range(3):
            place = chance.uniform(-0.4, 0.4), chance.uniform(-0.5, -0.1)
            bowel = (x - place[0]) ** 2 + (y - place[1]) ** 2 < chance.uniform(0.005, 0.03)
            image[bowel] = chance.uniform(100, 1200)
        stack.append(image)
    return noisy(np.array(stack), chance)


def ends_in_air(chance: np.random.Generator) -> np.ndarray:
    """The first slices lie beyond the body, the next partly."""
    body = trunk(chance)
    nothing = np.zeros((int(chance.integers(1, 3)), *body.shape[1:]))
    partly = body[:1] * chance.uniform(0.05, 0.6)
    return noisy(np.concatenate([nothing, partly, body]), chance)


def moved(chance: np.random.Generator) -> np.ndarray:
    """Odd slices were measured after the even ones, and after a movement."""
    stack = trunk(chance)
    for index in range(1, len(stack), 2):
        stack[index] = chance.uniform(0.7, 1.4) * shifted(stack[index], *chance.integers(-3, 4, 2))
    return stack


def masked(chance: np.random.Generator) -> np.ndarray:
    """All values in the background are 0."""
    stack = trunk(chance)
    stack[stack < 0.15 * stack.max()] = 0
    return stack


def resampled(chance: np.random.Generator) -> np.ndarray:
    """A turned grid that reaches beyond the volume: a wedge of zeros that grows over the slices."""
    stack = cut(head(chance), int(chance.integers(3)), chance.uniform(3, 8), 96)
    stack = noisy(stack, chance)
    slope, start = chance.uniform(0.5, 3), chance.integers(-10, 20)
    for index in range(len(stack)):
        stack[index, : max(0, int(start + slope * index))] = 0
    return stack


KINDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "head, sagittal": _head(0),
    "head, coronal": _head(1),
    "head, axial": _head(2),
    "top of a head": top_of_head,
    "echo-planar head": echo_planar,
    "trunk": trunk,
    "trunk, ends in air": ends_in_air,
    "trunk, odd slices moved": moved,
    "trunk, background of zeros": masked,
    "resampled, a wedge of zeros": resampled,
}


def draw(kind: str, seed: int) -> np.ndarray:
    """Return a stack of a kind."""
    return KINDS[kind](np.random.default_rng([seed, list(KINDS).index(kind)]))
