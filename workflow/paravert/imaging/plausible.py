"""What the numbers of a header may be; outside, they are unknown.

They are slips of who wrote them, or in another unit, which is not guessed at.
"""

SLAB_RANGE_MM = (0.1, 100.0)  # what a slice may stand for: thickness, or distance to the next
FIELD_RANGE_T = (0.01, 25.0)
AGE_RANGE_YEARS = (0.0, 120.0)
# Of 0 too, which some headers tell: it sets an image apart from one of another time.
TIME_RANGES_MS = {
    "EffectiveEchoTime": (0.0, 5_000.0),
    "EchoTime": (0.0, 5_000.0),
    "RepetitionTime": (0.0, 100_000.0),
    "InversionTime": (0.0, 100_000.0),
}


def within(value: float | None, limits: tuple[float, float]) -> float | None:
    """Return a number that lies within limits, including these; None otherwise."""
    return value if value is not None and limits[0] <= value <= limits[1] else None


def plausible(value: float | None, keyword: str) -> float | None:
    """Return a number of the header, None for a time that no sequence has."""
    limits = TIME_RANGES_MS.get(keyword)
    return value if limits is None else within(value, limits)
