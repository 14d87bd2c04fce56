"""Centile curves of a value over age by quantile regression, with bootstrap bands.

Each centile is the quantile regression of the value on a natural cubic spline of age (of few
different years: a line; Koenker and Bassett 1978), solved exactly as a linear program. Curves of
single centiles may cross. They are rearranged: the values at each age are sorted (Chernozhukov,
Fernandez-Val and Galichon 2010). The bands are from a bootstrap of m out of n subjects (Bickel,
Goetze and van Zwet 1997), curves rearranged.
"""

from dataclasses import dataclass

import numpy as np
import patsy
from scipy.optimize import linprog

from paravert.study.covariates import SPLINE_DF

CENTILES = (3, 10, 25, 50, 75, 90, 97)
MOST_RESAMPLED = 500  # subjects of a bootstrap sample; limits the time in large cohorts
NORMAL_95 = 1.959964


@dataclass(frozen=True)
class CentileCurves:
    """Centile curves of a value on a grid of ages, from `centile_curves`, which takes the grid.

    value: (ages, 7), in the unit of the fitted value: the centiles 3, 10, 25, 50, 75, 90 and 97
    (CENTILES), ascending at every age; row k is at age k of the grid, which is not stored here. low_95,
    high_95: same shape, pointwise 95 % band; NaN without bootstrap samples. crossed: (ages,) bool,
    whether curves crossed there and were sorted.
    """

    value: np.ndarray
    low_95: np.ndarray
    high_95: np.ndarray
    crossed: np.ndarray


def centile_curves(
    age_years: np.ndarray, value: np.ndarray, grid_years: np.ndarray, samples: int, seed: int
) -> CentileCurves:
    """Return the centile curves (CENTILES) of a value by age, with pointwise 95 % bands.

    age_years, value: (subjects,), finite. grid_years: (ages,), where the curves are evaluated. samples:
    number of bootstrap samples, 0 or at least 2; 0: bands are NaN. seed: of the bootstrap. Age enters
    as a natural cubic spline, or as a straight line if the subjects have at most SPLINE_DF + 1 (4)
    different whole years of age. Bands: estimate -+ 1.96 SD of bootstrap samples of m of the n subjects
    (at most MOST_RESAMPLED (500)), scaled by sqrt(m / n). Raises ArithmeticError if a regression is not
    solved.
    """
    design, at_grid = _designs(age_years, grid_years)
    curves = at_grid @ _coefficients(design, value)
    ordered = np.sort(curves, axis=1)
    random, size = np.random.default_rng(seed), min(len(value), MOST_RESAMPLED)
    resampled = []
    for _ in range(samples):
        drawn = random.integers(0, len(value), size)
        resampled.append(np.sort(at_grid @ _coefficients(design[drawn], value[drawn]), axis=1))
    sd = np.std(resampled, axis=0, ddof=1) if samples else np.full(curves.shape, np.nan)
    reach = NORMAL_95 * sd * np.sqrt(size / len(value))
    crossed = (np.diff(curves, axis=1) < 0).any(axis=1)
    return CentileCurves(ordered, ordered - reach, ordered + reach, crossed)


def _designs(age_years: np.ndarray, grid_years: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the design of the subjects, (subjects, terms), and of the grid, (ages, terms)."""
    # Within few years a spline bends beyond the youngest and oldest, where it is told: at whole years.
    curved = len(np.unique(np.floor(age_years))) > SPLINE_DF + 1
    formula = f"cr(age, df={SPLINE_DF}, constraints='center')" if curved else "age"
    design = patsy.dmatrix(formula, {"age": age_years})
    (at_grid,) = patsy.build_design_matrices([design.design_info], {"age": grid_years})
    return np.asarray(design), np.asarray(at_grid)


def _coefficients(design: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return the coefficients of every centile, (terms, centiles)."""
    shares = [centile / 100 for centile in CENTILES]
    return np.column_stack([quantile_coefficients(design, value, share) for share in shares])


def quantile_coefficients(design: np.ndarray, value: np.ndarray, share: float) -> np.ndarray:
    """Return the coefficients (terms,) of the regression of one quantile (Koenker and Bassett 1978).

    design: (rows, terms). value: (rows,). share: which quantile, between 0 and 1. Solved exactly as
    a linear program: the multipliers of the dual (Koenker 2005, section 6.2), for the scaled
    residuals of least squares, because HiGHS has absolute tolerances. statsmodels' QuantReg
    iterates and may stop early. Raises ArithmeticError if the program is not solved.
    """
    start = np.linalg.lstsq(design, value, rcond=None)[0]
    rest = value - design @ start
    spread = rest.std() or 1.0
    for presolve in (False, True):  # without is faster, and fails in some of 10,000 samples
        found = linprog(
            -rest / spread,
            A_eq=design.T,
            b_eq=(1 - share) * design.sum(axis=0),
            bounds=(0, 1),
            method="highs-ds",
            options={"presolve": presolve},
        )
        if found.success:
            return start - spread * found.eqlin.marginals
    raise ArithmeticError(f"quantile regression: {found.message}")
