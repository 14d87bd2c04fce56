"""Numbers, units and names as a reader wants them: rounded, in words, unknown as a dash."""

import pandas as pd

UNKNOWN = "–"
UNITS = {"mm2": "mm²", "mm2/m2": "mm²/m²", "kg/m2": "kg/m²", "year": "years", "1": "%"}


def number(value: float | None, digits: int) -> str:
    """Return a number with thousands separated and a true minus; a dash where it is unknown."""
    if value is None or pd.isna(value):
        return UNKNOWN
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "−")


def span(low: float, high: float, digits: int) -> str:
    """Return an interval as "low to high"; a dash where an end is unknown."""
    if pd.isna(low) or pd.isna(high):
        return UNKNOWN
    return f"{number(low, digits)} to {number(high, digits)}"


def p_value(value: float) -> str:
    """Return a p value with three digits, below that "< 0.001"."""
    if pd.isna(value):
        return UNKNOWN
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def words(name: str) -> str:
    """Return a name of the tables, such as psoas_major, in words."""
    return str(name).replace("_", " ").capitalize()


def scaled(unit: str) -> tuple[float, int]:
    """Return factor and digits with which a value of this unit is read; fractions in percent."""
    return {"1": (100, 1), "mm2": (1, 0), "ml": (1, 0)}.get(unit.split(" ")[0], (1, 1))


def shown_unit(unit: str) -> str:
    """Return a unit of the tables as it is read; fractions become percent."""
    first, *rest = unit.split(" ", 1)
    return " ".join([UNITS.get(first, first), *rest])


def points(unit: str) -> str:
    """Return the unit of a difference: fractions differ in percentage points."""
    return shown_unit(unit).replace("%", "% points")
