"""Random imaging artefacts of synthetic slices: coils, saturation, k-space, motion, noise, display.

Pictures are float32 tensors (batch, rows, columns). Most strengths are drawn per picture, from
`rng`. Points are float32 tensors (batch, 2, rows, columns), positions of a picture's pixels in the
section that it shows: x (to the section's right) and y (down) in mm from the section's middle.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

LOG_COIL_LIMITS = (-3.0, 2.2)  # of the logarithm of the sensitivity
BAND_SHARE, BAND_EDGE_MM = 0.15, (-60.0, 5.0)  # share of the pictures; y of the band's edge
# Share of the pictures with bands beside the spine, and distance of their edge from its middle.
LATERAL_SHARE, LATERAL_EDGE_MM = 0.1, (55.0, 110.0)
# Share of the pictures with a small square field of view, and its width; mean (x, y) and SD of its middle: near
# the spine, so that it shows the back.
SMALL_FIELD_SHARE, SMALL_FIELD_MM = 0.2, (165.0, 220.0)
SMALL_FIELD_AT_MM, SMALL_FIELD_SD_MM = (0.0, 16.0), 9.0
SHIFT_SHARE, SHIFT_SD_MM, MOST_SHIFT_MM = 0.6, 1.0, 2.6  # chemical shift of fat
FAILING_SHARE = 0.4  # of the pictures with saturated fat
# Share of the batches with soft borders, widths of the borders in points (odd), and least strength in a picture.
SOFT_SHARE, SOFT_POINTS, LEAST_SOFT = 0.6, (3, 5, 9, 13), 0.3
# Share of the pictures with a bright rim of the body, how much brighter it is, how deep it reaches into muscle.
RIM_SHARE, RIM_GAIN, RIM_DEPTH_MM = 0.5, (0.1, 0.8), (7.0, 24.0)
RIM_CELL_PX = 2  # pixels per axis of the coarser grid on which the rim is computed


def soft_borders(
    parts: Sequence[torch.Tensor], inside: torch.Tensor, rng: np.random.Generator
) -> list[torch.Tensor]:
    """Return pictures in which, in some batches, the borders of a region are smoothed.

    In 60 % of the calls all pictures are smoothed over one width, each entry of the batch by its own
    strength, the same in water and fat; in the others the inputs themselves are returned. A
    muscle's border that is oblique to a thick slice is a gradual change from muscle to fat over several
    mm; the labels stay those of the middle of the slice. parts: pictures of the signals of water and of
    fat, float32 (batch, rows, columns) each, not changed; returns both in the same order and shapes.
    inside: the region (muscles and the septa between them), bool (batch, rows, columns). rng: random
    numbers.
    """
    if rng.random() >= SOFT_SHARE:
        return list(parts)
    width = int(rng.choice(SOFT_POINTS))
    strength = _per_picture(rng.uniform(LEAST_SOFT, 1.0, len(inside)), parts[0])
    share = _box_mean(inside.to(parts[0]), width)
    weight = strength * ((share > 0) & (share < 1))
    return [torch.lerp(part, _box_mean(part, width), weight) for part in parts]


def _box_mean(pictures: torch.Tensor, width: int) -> torch.Tensor:
    """Return the mean over width x width points around each, same shape; width: odd."""
    result = pictures[:, None]
    for size in ((width, 1), (1, width)):
        reach = tuple(points // 2 for points in size)
        result = functional.avg_pool2d(result, size, 1, reach, count_include_pad=False)
    return result[:, 0]


def coil_field(points: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return the sensitivity of random coils at each point, float32 (batch, rows, columns).

    About 1 in the section's middle. points: float32 (batch, 2, rows, columns), position of each
    pixel in the drawn section of the body: x (to the section's right) and y (down) in mm from its
    middle. rng: random numbers. The logarithm is a quadratic polynomial of x and y, limited to -3
    to 2.2. In most pictures a part of it falls from the back to the front, as with coils in the
    table under the subject.
    """
    n = len(points)
    x, y = points[:, 0] / 150, points[:, 1] / 150
    c = _per_picture(rng.normal(0, 0.18, (5, n)), points)
    fall = _per_picture(np.where(rng.random(n) < 0.25, 0.0, rng.gamma(1.6, 0.5, n)), points)
    uneven = c[0] * x + c[1] * y + c[2] * x * y + c[3] * (x * x - 0.3) + c[4] * (y * y - 0.3)
    return torch.exp((uneven + fall * y).clamp(*LOG_COIL_LIMITS))


def bright_rim(outer_fat: torch.Tensor, pixel_mm: float, rng: np.random.Generator) -> torch.Tensor:
    """Return the factor, 1 or more, by which the body near its surface is brighter, float32.

    In half of the pictures, thick subcutaneous fat is brighter by 10 to 80 %, and muscle beneath it by as
    much at the fascia and by less deeper, down to a depth of 7 to 24 mm, which is one for all pictures of
    a call. Where the fat is thinner than this depth, both are brighter by less. In the real volunteer
    TUM01, muscle 3 mm beneath the fascia of the back is 15 to 20 % brighter than deeper (docs/septum.md).
    outer_fat: whether a pixel is subcutaneous fat, bool (batch, rows, columns), whose shape the result
    has. pixel_mm: pixel size. rng: random numbers.
    """
    n, *size = outer_fat.shape
    cells = functional.avg_pool2d(outer_fat[:, None].float(), RIM_CELL_PX)
    width = 2 * round(rng.uniform(*RIM_DEPTH_MM) / (RIM_CELL_PX * pixel_mm) / 2 - 0.5) + 1
    share = _box_mean(_box_mean(cells[:, 0], width), width)[:, None]
    share = functional.interpolate(share, size=size, mode="bilinear", align_corners=False)[:, 0]
    gain = np.where(rng.random(n) < RIM_SHARE, rng.uniform(*RIM_GAIN, n), 0.0)
    return 1 + _per_picture(gain, share) * (2 * share).clamp_max(1)


def saturation_band(points: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return the factor, 0-1, by which an anterior saturation band reduces the signal at each point.

    float32 (batch, rows, columns); 1 in pictures without a band. Such bands suppress ghosts of
    breathing and flow; their edge may cross the psoas. points: float32 (batch, 2, rows, columns),
    position of each pixel in the drawn section of the body: x (to the section's right) and y (down)
    in mm from its middle. rng: random numbers.
    """
    n = len(points)
    left = np.where(rng.random(n) < BAND_SHARE, rng.uniform(0.03, 0.5, n), 1.0)
    edge, slope = rng.uniform(*BAND_EDGE_MM, n), rng.normal(0, 0.12, n)
    edge, slope, width_mm = (
        _per_picture(values, points) for values in (edge, slope, rng.uniform(2, 9, n))
    )
    behind = torch.sigmoid((points[:, 1] - edge - slope * points[:, 0]) / width_mm)
    left = _per_picture(left, points)
    return left + (1 - left) * behind


def lateral_saturation(points: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return the factor, 0-1, by which saturation bands beside the spine reduce the signal at each point.

    float32 (batch, rows, columns); 1 in pictures without such bands. They suppress wrap-around of
    the flanks, on one side or both; their edge may cross quadratus and erector spinae. points:
    float32 (batch, 2, rows, columns), position of each pixel in the drawn section of the body: x
    (to the section's right) and y (down) in mm from its middle. rng: random numbers.
    """
    factor = torch.ones_like(points[:, 0])
    for number in np.flatnonzero(rng.random(len(points)) < LATERAL_SHARE):
        x, y = points[number]
        for side in rng.permutation((1, -1))[: rng.integers(1, 3)]:
            edge = rng.uniform(*LATERAL_EDGE_MM) + rng.normal(0, 0.08) * y
            within = torch.sigmoid((edge - float(side) * x) / rng.uniform(2, 7))
            left = rng.uniform(0.03, 0.5)
            factor[number] *= left + (1 - left) * within
    return factor


def small_field(points: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return the mask of a field of view that cuts off the flanks, bool (batch, rows, columns).

    All True in most pictures; in the others, True within a square near the spine. points: float32
    (batch, 2, rows, columns), position of each pixel in the drawn section of the body: x (to the
    section's right) and y (down) in mm from its middle. rng: random numbers.
    """
    n, _, rows, columns = points.shape
    inside = torch.ones((n, rows, columns), dtype=torch.bool, device=points.device)
    for number in np.flatnonzero(rng.random(n) < SMALL_FIELD_SHARE):
        one = points[number]
        middle = torch.from_numpy(rng.normal(SMALL_FIELD_AT_MM, SMALL_FIELD_SD_MM)).to(one)
        row, column = divmod(int(((one - middle[:, None, None]) ** 2).sum(0).argmin()), columns)
        pixel_mm = float((one[:, 0, 0] - one[:, -1, -1]).norm()) / np.hypot(rows - 1, columns - 1)
        half = round(rng.uniform(*SMALL_FIELD_MM) / 2 / pixel_mm)
        inside[number] = False
        inside[number, max(0, row - half) : row + half, max(0, column - half) : column + half] = (
            True
        )
    return inside


def failing_saturation(
    points: torch.Tensor, saturated: np.ndarray, rng: np.random.Generator
) -> torch.Tensor:
    """Return the factor, 1 or more, by which failing fat saturation raises the signal of fat.

    float32 (batch, rows, columns). In some pictures fat saturation fails towards one edge, as in an
    uneven magnetic field. points: float32 (batch, 2, rows, columns), position of each pixel in the
    drawn section of the body: x (to the section's right) and y (down) in mm from its middle.
    saturated: (batch,), what saturation left of the signal of fat, above 0 to 1 (1: not saturated;
    the result is then 1, otherwise at most 1 / saturated). rng: random numbers.
    """
    n = len(points)
    most = np.where(
        rng.random(n) < FAILING_SHARE, rng.uniform(0.2, 1.0, n) * (1 / saturated - 1), 0
    )
    angle, off_mm, width_mm = (
        rng.uniform(0, 2 * np.pi, n),
        rng.uniform(0, 90, n),
        rng.uniform(5, 25, n),
    )
    x, y, off_mm, width_mm, most = (
        _per_picture(values, points)
        for values in (np.cos(angle), np.sin(angle), off_mm, width_mm, most)
    )
    along = points[:, 0] * x + points[:, 1] * y
    return 1 + most * torch.sigmoid((along - off_mm) / width_mm)


def drawn_shifts_px(
    spacing_mm: float, down: np.ndarray, shifts: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return random chemical shifts of fat in pixels, (right, down), int (batch, 2).

    They lie along the frequency-encoding axis, at most 2.6 mm (MOST_SHIFT_MM) before they are
    rounded to whole pixels. spacing_mm: pixel size. down: bool (batch,), whether the phase-encoding
    axis runs down the rows (shifts are then to the right or left). shifts: bool (batch,), whether a
    picture may have a shift; without one it has (0, 0). rng: random numbers.
    """
    n = len(down)
    some = shifts & (rng.random(n) < SHIFT_SHARE)
    shift_mm = np.where(some, rng.normal(0, SHIFT_SD_MM, n), 0)
    shift_mm = np.clip(shift_mm, -MOST_SHIFT_MM, MOST_SHIFT_MM)
    pixels = np.round(shift_mm / spacing_mm).astype(int)
    return pixels[:, None] * np.stack([down, ~down], axis=1)


def shifted(fat: torch.Tensor, shifts_px: np.ndarray) -> torch.Tensor:
    """Return pictures of fat, each shifted cyclically by whole pixels; same shape and dtype.

    fat: signal of fat, float32 (batch, rows, columns). shifts_px: int (batch, 2), pixels to the
    right and down.
    """
    pairs = zip(fat, shifts_px.tolist(), strict=True)
    return torch.stack([torch.roll(one, (below, right), (0, 1)) for one, (right, below) in pairs])


def phase_runs_down(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return at random whether the phase-encoding axis of each picture runs down the rows, bool (n,).

    False: it runs from left to right. rng: random numbers.
    """
    return rng.random(n) < 0.5


def blurred(pictures: torch.Tensor, down: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Return pictures after a random low-pass filter in k-space, soft or hard (Gibbs ringing).

    Some keep nearly all of their resolution. pictures: float32 (batch, rows, columns); returns the
    same shape. down: bool (batch,), whether the phase-encoding axis, along which the resolution is
    lower, runs down the rows. rng: random numbers.
    """
    n, rows, columns = pictures.shape
    frequency = rng.uniform(0.35, 1.1, n)
    phase = frequency * rng.uniform(0.6, 1.0, n)
    by_row, by_column = np.where(down, phase, frequency), np.where(down, frequency, phase)
    softness = rng.choice((0.03, 0.12, 0.35), n)
    spectrum = torch.fft.rfft2(pictures)
    spectrum *= _cut_off(torch.fft.fftfreq(rows), by_row, softness, pictures)[:, :, None]
    spectrum *= _cut_off(torch.fft.rfftfreq(columns), by_column, softness, pictures)[:, None]
    return torch.fft.irfft2(spectrum, s=(rows, columns))


def _cut_off(
    frequency: torch.Tensor, reach: np.ndarray, softness: np.ndarray, like: torch.Tensor
) -> torch.Tensor:
    """Return the filter along one axis of k-space, 0-1, (batch, frequencies).

    frequency: cycles per pixel. reach: cut-off as a share of the highest frequency, (batch,).
    """
    share = 2 * frequency.abs().to(like)[None]
    reach, softness = (torch.from_numpy(v).to(like)[:, None] for v in (reach, softness))
    return torch.sigmoid((reach - share) / (0.25 * softness * reach))


def ghosted(pictures: torch.Tensor, down: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Return pictures, some with ghosts of motion (shifted faint copies) along the phase-encoding axis.

    pictures: float32 (batch, rows, columns); returns the same shape. down: bool (batch,), whether
    that axis runs down the rows. rng: random numbers.
    """
    result = pictures
    n, rows, columns = pictures.shape
    for axis, size, own in ((1, rows, down), (2, columns, ~down)):
        strength = np.where(own & (rng.random(n) < 0.3), rng.uniform(0.02, 0.15, n), 0.0)
        shift = int(rng.integers(size // 8, size // 2))
        ghosts = torch.roll(pictures, shift, axis) - 0.5 * torch.roll(pictures, -shift, axis)
        result = result + _per_picture(strength, pictures) * ghosts
    return result


def wrapped(
    pictures: torch.Tensor, down: np.ndarray, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures, some with wrap-around (aliasing), and the mask of their field of view, bool.

    pictures: float32 (batch, rows, columns); both results have this shape. In some, the field of
    view is smaller than the picture along the phase-encoding axis: what lies beyond one edge is
    added at the opposite one, and pixels outside the field are 0 (mask False). down: bool (batch,),
    whether that axis runs down the rows. rng: random numbers.
    """
    n, rows, columns = pictures.shape
    inside = torch.ones(pictures.shape, dtype=torch.bool, device=pictures.device)
    result = pictures.clone()
    for number in np.flatnonzero(rng.random(n) < 0.12):
        axis, size = (0, rows) if down[number] else (1, columns)
        field = int(size * rng.uniform(0.72, 0.95))
        first = int(rng.integers(0, size - field + 1))
        picture, whole, shown = (
            one[number].transpose(0, axis) for one in (result, pictures, inside)
        )
        picture[first : first + size - field - first] += whole[first + field :]
        picture[field : first + field] += whole[:first]
        picture[:first], picture[first + field :] = 0, 0
        shown[:first], shown[first + field :] = False, False
    return result, inside


def moved(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return pictures, some mixed with a copy shifted by up to two rows and columns (motion).

    The shift is cyclic and the same for all pictures of a call. pictures: float32 (batch, rows,
    columns); returns the same shape. rng: random numbers.
    """
    strength = np.where(rng.random(len(pictures)) < 0.15, rng.uniform(0.15, 0.5, len(pictures)), 0)
    shift = tuple(int(pixels) for pixels in rng.integers(-2, 3, 2))
    weight = _per_picture(strength, pictures)
    return (1 - weight) * pictures + weight * torch.roll(pictures, shift, (1, 2))


def noisy(
    pictures: torch.Tensor, rng: np.random.Generator, generator: torch.Generator
) -> torch.Tensor:
    """Return magnitude pictures with noise of 1, 2 or 4 coils: noncentral chi (of one, Rician).

    In some batches the noise is coarser than a pixel, as after interpolation by the scanner, in
    some stronger in the middle, as in parallel imaging. pictures: signal, about 1 where it is
    bright, may be negative, float32 (batch, rows, columns); returns the same shape, not negative.
    rng: random kind and level of noise. generator: torch's random numbers, on the device of
    pictures, for the noise itself.
    """
    n, rows, columns = pictures.shape
    level = np.exp(rng.uniform(np.log(0.004), np.log(0.09), n))
    coils = int(rng.choice((1, 1, 2, 4)))
    coarse = rng.random() < 0.3
    shape = (n, rows // 2, columns // 2) if coarse else (n, rows, columns)
    power = torch.zeros_like(pictures)
    spread = _per_picture(level, pictures)
    if rng.random() < 0.3:
        y = torch.linspace(-1, 1, rows, device=pictures.device)[:, None]
        x = torch.linspace(-1, 1, columns, device=pictures.device)[None]
        spread = spread * (1 + 1.5 * torch.exp(-3 * (x * x + y * y)))
    for channel in range(2 * coils):
        noise = torch.randn(shape, generator=generator, device=pictures.device)
        if coarse:
            noise = functional.interpolate(
                noise[:, None], size=(rows, columns), mode="bilinear", align_corners=False
            )[:, 0]
        signal = pictures / coils**0.5 if channel < coils else 0
        power += (signal + spread * noise) ** 2
    return power.sqrt()


def as_stored(pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return pictures as a scanner stores them: random gamma, some clipped, quantised.

    pictures: magnitudes, float32 (batch, rows, columns); returns the same shape, scaled so that
    about 0.5 % of a picture's pixels are above 1 if it is not clipped. rng: random numbers.
    """
    n, rows, columns = pictures.shape
    top = torch.quantile(pictures.flatten(1)[:, ::7], 0.995, dim=1)[:, None, None].clamp_min(1e-6)
    relative = pictures / top
    gamma = _per_picture(np.exp(rng.normal(0, 0.15, n)), pictures)
    relative = relative.clamp_min(1e-5) ** gamma
    ceiling = _per_picture(np.where(rng.random(n) < 0.2, rng.uniform(0.55, 1, n), 4.0), pictures)
    relative = torch.minimum(relative, ceiling)
    floor = _per_picture(np.where(rng.random(n) < 0.1, rng.uniform(0.01, 0.08, n), 0), pictures)
    relative = (relative - floor).clamp_min(0)
    steps = _per_picture(np.where(rng.random(n) < 0.15, rng.uniform(60, 255, n), 4095), pictures)
    return (relative * steps).round() / steps


def field_of_view(shape: tuple[int, int, int], rng: np.random.Generator) -> torch.Tensor:
    """Return a random mask of the field of view, bool (pictures, rows, columns).

    shape: (pictures, rows, columns) of the mask, which is on the CPU. All True in most pictures; in
    some, margins are False. rng: random numbers.
    """
    n, rows, columns = shape
    inside = torch.ones(shape, dtype=torch.bool)
    for number in np.flatnonzero(rng.random(n) < 0.2):
        for axis, size in ((0, rows), (1, columns)):
            low, high = (int(size * rng.uniform(0, 0.18) * (rng.random() < 0.5)) for _ in (0, 1))
            part = inside[number].transpose(0, axis)
            part[:low] = False
            part[size - high :] = False
    return inside


def _per_picture(values: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """Return values (..., batch) as a float32 tensor (..., batch, 1, 1) on the device of like."""
    return torch.from_numpy(np.asarray(values, np.float32)).to(like.device)[..., None, None]
