"""Variance components of an outcome: between subjects, between their muscles and sides, and the rest.

They are descriptive; the marginal models do not use them.
"""

import warnings

import numpy as np
import pandas as pd
import statsmodels.api as sm
from statsmodels.regression.mixed_linear_model import MixedLMParams, VCSpec

from paravert.anatomy import MUSCLES, SIDES
from paravert.study.marginal_model import EXACT_FIT
from paravert.study.result_tables import NO_FAMILY
from paravert.study.scans import sampled_subjects
from paravert.study.summary import counted

ESTIMATOR = "linear mixed model, REML"
MOST_SUBJECTS = 400  # some 7 ms each: the optimiser takes 200 steps with a loop over the subjects
LEAST_SUBJECTS = 10
UNIT = "share of the muscle's mean"
LEAST_RATIO = 1e-4  # of a variance to that of the residual, at the start
COMPONENTS = {
    "subject": "SD between subjects",
    "muscle": "SD between the muscles of a subject",
    "side": "SD between the sides of a subject",
    "residual": "SD within muscle and side of a subject",
}


def variance_components(data: pd.DataFrame, outcome: str, seed: int) -> list[dict]:
    """Return the variance components of an outcome as SD: of subjects, their muscles, sides, and the rest.

    data: one row per subject, muscle and side, with sex and age_years. outcome: column of data; it is
    divided by the muscle's mean, because variances grow with size, and SD are shares of that mean.
    seed: of the sample that is taken of more than MOST_SUBJECTS (400) subjects. A linear mixed model
    (REML, statsmodels' MixedLM) with random effects of the subject, its muscles and its sides, and
    fixed effects of sex, age and side per muscle. Only subjects of known sex and age with the outcome
    of all muscles and sides are used; where sex determines age, age is left out. Returns one dict per
    component with keys of inference.MODEL_COLUMNS (term: "sd_subject", "sd_muscle", "sd_side" and
    "sd_residual", in this order; label, estimate, unit and others); a single dict with a note and
    without estimate if there are fewer than LEAST_SUBJECTS (10) subjects, a muscle's outcome is 0 in
    all, nothing is left within muscle and side, or the optimiser did not converge.
    """
    known = data.dropna(subset=[outcome, "sex", "age_years"])
    common = {"outcome": outcome, "model": "variance components", "kind": "spread"}
    cells = known.pivot(index="subject", columns=["muscle", "side"], values=outcome)
    cells = cells.reindex(columns=pd.MultiIndex.from_product([MUSCLES, SIDES])).dropna()
    sample, note = sampled_subjects(cells.index.to_series(), MOST_SUBJECTS, seed)
    cells = cells[cells.index.isin(sample)]
    common |= {"n_subjects": len(cells), "n_rows": cells.size, "family": NO_FAMILY}
    if len(cells) < LEAST_SUBJECTS:
        found = f"{counted(len(cells), 'subject')} with all muscles and sides"
        return [common | {"note": f"not estimated: {found}, expected at least {LEAST_SUBJECTS}"}]
    people = known.drop_duplicates("subject").set_index("subject").loc[cells.index]
    values = cells.to_numpy().reshape(-1, len(MUSCLES), len(SIDES))
    between = (people["sex"] == "M", people["age_years"])
    varying = [one for one in between if one.nunique() > 1]
    design = np.column_stack([np.ones(len(people)), *varying]).astype(float)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        design = design[:, :-1]
    means = values.mean(axis=(0, 2), keepdims=True)
    if not means.all():
        return [common | {"note": "not estimated: a muscle is 0 in all subjects"}]
    values = values / means
    if not _mean_squares(values, design)[-1] > EXACT_FIT**2:
        return [common | {"note": "not estimated: no variation is left within muscle and side"}]
    found = _reml(values, design)
    if found is None:
        return [common | {"note": "not estimated: the optimiser did not converge"}]
    common |= {"estimator": ESTIMATOR, "link": "identity", "note": note}
    return [
        common
        | {"term": f"sd_{name}", "label": label, "estimate": float(np.sqrt(variance)), "unit": UNIT}
        for (name, label), variance in zip(COMPONENTS.items(), found, strict=True)
    ]


def _reml(values: np.ndarray, design: np.ndarray) -> tuple[float, float, float, float] | None:
    """Return the variances of subject, subject x muscle, subject x side, and residual, by REML.

    values: (subjects, muscles, sides). design: (subjects, terms), the terms between subjects. None
    if the optimiser did not converge. It starts from the mean squares, on the scale of the residual
    SD: from statsmodels' own start, or by a gradient, it may stop elsewhere.
    """
    start = np.maximum(_mean_squares(values, design), 0.0)
    subjects, muscles, sides = values.shape
    scale, rows = np.sqrt(start[-1]), muscles * sides
    muscle, side = (
        np.kron(np.eye(muscles), np.ones((sides, 1))),
        np.tile(np.eye(sides), (muscles, 1)),
    )
    of_sides = np.tile(muscle * side[:, [1]], (subjects, 1))  # the second side of each muscle
    fixed = np.column_stack([np.kron(design, muscle), of_sides])
    names = [
        [[f"{what}{n}" for n in range(count)]] * subjects
        for what, count in (("m", muscles), ("s", sides))
    ]
    parts = VCSpec(["muscle", "side"], names, [[muscle] * subjects, [side] * subjects])
    model = sm.MixedLM(
        values.ravel() / scale, fixed, np.repeat(np.arange(subjects), rows),
        exog_re=np.ones((len(fixed), 1)), exog_vc=parts,
    )  # fmt: skip
    ratios = np.maximum(start[:-1] / start[-1], LEAST_RATIO)
    first = MixedLMParams.from_components(
        np.linalg.lstsq(fixed, model.endog, rcond=None)[0], ratios[:1, None], vcomp=ratios[1:]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a component at zero
        try:
            fit = model.fit(reml=True, method=["nm"], start_params=first)
        except np.linalg.LinAlgError:  # of a residual that is next to nothing
            return None
    if not fit.converged:
        return None
    found = np.array([fit.cov_re[0, 0], *fit.vcomp, fit.scale]) * scale**2
    return tuple(found)


def _mean_squares(values: np.ndarray, design: np.ndarray) -> tuple[float, float, float, float]:
    """Return the same variances from the mean squares of the analysis of variance.

    They are those of REML if none is negative (Searle, Casella and McCulloch 1992, chapter 4).
    """
    subjects, muscles, sides = values.shape
    coefficients, _, rank, _ = np.linalg.lstsq(design, values.reshape(subjects, -1), rcond=None)
    side_means = values.mean(axis=0, keepdims=True)
    residual = values - (design @ coefficients).reshape(subjects, muscles, sides).mean(
        axis=2, keepdims=True
    )
    residual -= side_means - side_means.mean(axis=2, keepdims=True)
    of_subject = residual.mean(axis=(1, 2), keepdims=True)
    of_muscle = residual.mean(axis=2, keepdims=True) - of_subject
    of_side = residual.mean(axis=1, keepdims=True) - of_subject
    rest = residual - of_subject - of_muscle - of_side
    between = subjects - int(rank)
    square_subject = muscles * sides * (of_subject**2).sum() / between
    square_muscle = sides * (of_muscle**2).sum() / (between * (muscles - 1))
    square_side = muscles * (of_side**2).sum() / ((subjects - 1) * (sides - 1))
    square_rest = (rest**2).sum() / ((subjects - 1) * (muscles - 1) * (sides - 1))
    return (
        (square_subject - square_muscle - square_side + square_rest) / (muscles * sides),
        (square_muscle - square_rest) / sides,
        (square_side - square_rest) / muscles,
        square_rest,
    )
