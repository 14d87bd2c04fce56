"""Centile curves of a value over age by quantile regression, with bootstrap bands.

Each centile is the quantile regression of the value on a natural cubic spline of age (Koenker and
Bassett 1978), solved exactly as a linear program. Curves of single centiles may cross. They are
rearranged: the values at each age are sorted (Chernozhukov, Fernandez-Val and Galichon 2010). The bands
are from a bootstrap of m out of n subjects (Bickel, Goetze and van Zwet 1997), curves rearranged.
"""

from dataclasses import dataclass

import numpy as np
import patsy
from scipy.optimize import linprog

from paravert.study.covariates import SPLINE_DF

CENTILES = (3, 10, 25, 50, 75, 90, 97)
MOST_RESAMPLED = 500  # subjects of a bootstrap sample: bounds the time in large cohorts
NORMAL_95 = 1.959964


@dataclass(frozen=True)
class CentileCurves:
    """Centile curves on a grid of ages, in ascending order at every age.

    value, low_95, high_95: (ages, centiles), unit of the fitted value. crossed: (ages,), whether curves
    crossed there and were rearranged.
    """

    value: np.ndarray
    low_95: np.ndarray
    high_95: np.ndarray
    crossed: np.ndarray


def centile_curves(
    age_years: np.ndarray, value: np.ndarray, grid_years: np.ndarray, samples: int, seed: int
) -> CentileCurves:
    """Return the curves of CENTILES. age_years, value: (subjects,), finite. grid_years: (ages,).

    Age enters as a straight line if it has at most SPLINE_DF + 1 different values. Bands: estimate -+
    1.96 times the SD of the bootstrap samples, which hold at most MOST_RESAMPLED subjects; the SD is
    scaled by the square root of m / n. Without samples the bands are nan.
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
    curved = len(np.unique(age_years)) > SPLINE_DF + 1
    formula = f"cr(age, df={SPLINE_DF}, constraints='center')" if curved else "age"
    design = patsy.dmatrix(formula, {"age": age_years})
    (at_grid,) = patsy.build_design_matrices([design.design_info], {"age": grid_years})
    return np.asarray(design), np.asarray(at_grid)


def _coefficients(design: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return the coefficients of every centile, (terms, centiles)."""
    shares = [centile / 100 for centile in CENTILES]
    return np.column_stack([quantile_coefficients(design, value, share) for share in shares])


def quantile_coefficients(design: np.ndarray, value: np.ndarray, share: float) -> np.ndarray:
    """Return the coefficients, (terms,), of the quantile regression of a share between 0 and 1.

    design: (rows, terms). value: (rows,). They are the multipliers of the dual linear program
    (Koenker 2005, section 6.2), solved for the scaled residuals of least squares, which HiGHS needs:
    its tolerances are absolute. statsmodels' QuantReg iterates reweighted least squares: its results
    differ in the third digit where it stops early.
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
