"""Variance components of an outcome: between subjects, between their muscles and sides, and the rest.

They are descriptive; the marginal models do not use them.
"""

import numpy as np
import pandas as pd

from paravert.anatomy import MUSCLES, SIDES

LEAST_SUBJECTS = 10
UNIT = "share of the muscle's mean"
COMPONENTS = {
    "subject": "SD between subjects",
    "muscle": "SD between the muscles of a subject",
    "side": "SD between the sides of a subject",
    "residual": "SD within muscle and side of a subject",
}


def variance_components(data: pd.DataFrame, outcome: str) -> list[dict]:
    """Return the variance components of an outcome as SD: of subjects, their muscles, sides, and the rest.

    data: one row per subject, muscle and side, with sex and age_years. outcome: column of data; it
    is divided by the muscle's mean, because variances grow with size, and SD are shares of that
    mean. Effects of sex, age and side per muscle are removed first by least squares. Only subjects
    with all muscles and sides are used; for them the mean squares of the analysis of variance give
    the components, which are those of REML if none is at zero (Searle, Casella and McCulloch 1992,
    chapter 4). Negative components are 0. Returns one dict per component with keys of
    inference.MODEL_COLUMNS (term, label, estimate, unit and others); a single dict with a note if
    there are fewer than LEAST_SUBJECTS (10) subjects.
    """
    known = data.dropna(subset=[outcome, "sex", "age_years"])
    common = {"outcome": outcome, "model": "variance components", "kind": "spread"}
    cells = known.pivot(index="subject", columns=["muscle", "side"], values=outcome)
    cells = cells.reindex(columns=pd.MultiIndex.from_product([MUSCLES, SIDES])).dropna()
    common |= {"n_subjects": len(cells), "n_rows": cells.size}
    if len(cells) < LEAST_SUBJECTS:
        found = f"{len(cells)} subjects with all muscles and sides"
        return [common | {"note": f"not estimated: {found}, expected at least {LEAST_SUBJECTS}"}]
    people = known.drop_duplicates("subject").set_index("subject").loc[cells.index]
    values = cells.to_numpy().reshape(-1, len(MUSCLES), len(SIDES))
    design = np.column_stack(
        [np.ones(len(people)), people["sex"] == "M", people["age_years"]]
    ).astype(float)
    found = _components(values / values.mean(axis=(0, 2), keepdims=True), design)
    return [
        common
        | {
            "term": f"sd_{name}",
            "label": label,
            "estimate": float(np.sqrt(max(variance, 0))),
            "unit": UNIT,
        }
        for (name, label), variance in zip(COMPONENTS.items(), found, strict=True)
    ]


def _components(values: np.ndarray, design: np.ndarray) -> tuple[float, float, float, float]:
    """Return the variances of subject, subject x muscle, subject x side, and residual.

    values: (subjects, muscles, sides). design: (subjects, terms), the terms between subjects.
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
