"""The findings of the paper, each with the numbers of this study: reproduced or not.

Source of the claims: Niemeyer et al., Eur Spine J 2022, Results and Figures 4 to 6.
"""

import numpy as np
import pandas as pd
from scipy import stats

from paravert.anatomy import LABELS, MUSCLES, SIDES
from paravert.study.accuracy import CONFIDENCE
from paravert.study.covariates import persons
from paravert.study.inference import BY_LEVEL, CSA, FAT, SEX_AND_AGE
from paravert.study.result_tables import (
    BASIS_COLUMNS,
    BOOTSTRAP,
    FEWER,
    LEAST_SHARED_SUBJECTS,
    NO_FAMILY,
    too_few_to_resample,
)
from paravert.study.summary import counted

SIZE_AND_OVERLAP = "size and overlap"
CORRELATION = "Spearman correlation"  # in the column model
SHARE = "share of subjects"
SIGNIFICANT = 0.05  # of p by Holm
LEAST_QUARTILE = 0.75  # the paper: the lower quartile of every muscle's IoU is above it
CLAIM_COLUMNS = ("claim", "found", "reproduced", "tested_by", *BASIS_COLUMNS, "n_sex")
YES, NO, PART, UNTESTED = "yes", "no", "in part", "not tested"
UNCERTAIN = "in direction only"


def size_and_overlap(pairs: pd.DataFrame, samples: int, seed: int) -> list[dict]:
    """Return Spearman's correlation of area and IoU over slices, for all muscles together and for each.

    pairs: one row per slice, muscle and side with subject, muscle, area_mm2 (of the manual mask)
    and iou; rows with a null are left out. samples, seed: of the bootstrap over subjects. Returns
    one dict per correlation with keys of inference.CONTRAST_COLUMNS: muscle ("" for all), estimate
    (rho), its 95 % interval low_95 and high_95, p_value, df, n_subjects, n_rows and others.
    Interval and p value: t with df = n_subjects - 1 on the z transform (Fisher 1915), whose error
    is the SD of z over the bootstrap samples. With fewer than LEAST_RESAMPLED (5) subjects, without
    such an SD, or if rho is 1 or -1, it has a note instead of interval, p value and df; if area or
    IoU does not vary, instead of the estimate, too.
    """
    rows = []
    for muscle in ("", *MUSCLES):
        own = pairs if not muscle else pairs[pairs["muscle"] == muscle]
        known = own.dropna(subset=["area_mm2", "iou"])
        where = muscle.replace("_", " ") or "all muscles"
        row = {
            "family": SIZE_AND_OVERLAP,
            "outcome": "iou",
            "model": CORRELATION,
            "muscle": muscle,
            "label": f"area and IoU of a slice, {where}",
            "unit": "rho",
            "estimator": CORRELATION,
            "n_subjects": known["subject"].nunique(),
            "n_rows": len(known),
        }
        rows.append(row | _spearman(known, samples, seed))
    return rows


def _spearman(known: pd.DataFrame, samples: int, seed: int) -> dict:
    subjects = known["subject"].nunique()
    if known["area_mm2"].nunique() < 2 or known["iou"].nunique() < 2:
        return {
            "note": f"not estimated: {counted(subjects, 'subject')} with area and IoU, expected varying values"
        }
    ranks = np.column_stack([stats.rankdata(known[name]) for name in ("area_mm2", "iou")])
    ranks = ranks / len(ranks) - 0.5
    x, y = ranks.T
    products = pd.DataFrame({"n": 1.0, "x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y})
    sums = products.groupby(known["subject"].to_numpy()).sum().to_numpy()
    value = float(_correlation(sums.sum(axis=0)))
    if note := too_few_to_resample(subjects):
        return {"estimate": value, "note": note}
    drawn = np.random.default_rng(seed).multinomial(
        subjects, np.full(subjects, 1 / subjects), samples
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        z, resampled = np.arctanh(value), np.arctanh(_correlation(drawn @ sums))
    finite = resampled[np.isfinite(resampled)]
    error = finite.std(ddof=1) if len(finite) > 1 else 0.0
    if not error > 0 or not np.isfinite(z):
        return {
            "estimate": value,
            "note": "no interval: bootstrap samples whose correlations are alike",
        }
    df = subjects - 1
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, df) * error
    return {
        "estimate": value,
        "low_95": float(np.tanh(z - reach)),
        "high_95": float(np.tanh(z + reach)),
        "p_value": float(2 * stats.t.sf(abs(z) / error, df)),
        "df": df,
        "covariance": BOOTSTRAP,
    }


def _correlation(sums: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation from sums, (..., 6): n, x, y, xx, yy, xy."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (xy - x * y / n) / np.sqrt((xx - x * x / n) * (yy - y * y / n))


def paper_claims(
    contrasts: pd.DataFrame, muscles: pd.DataFrame, overlap: pd.DataFrame, ranges: str = ""
) -> pd.DataFrame:
    """Return each finding of the paper with what this study finds, one row each.

    The paper: Niemeyer et al., Eur Spine J 2022. contrasts: the dicts of `inference.corrected` as a
    data frame with inference.CONTRAST_COLUMNS, those of `size_and_overlap` among them; of the models
    only "sex and age" is used. muscles: the cohort table `muscles`. overlap: from
    `accuracy.held_out_rows`. ranges: from `StandardLevel.ranges`; unless it is "", men and women are
    compared by level, and all that is found of areas and fat fractions ends with it. Columns: claim,
    found (numbers of this study), reproduced, tested_by (texts), and estimator, link, covariance, df,
    n_subjects, n_rows, unit and family (BASIS_COLUMNS: how it was tested), and n_sex (subjects of the
    smaller sex, where both are compared). Of several comparisons, n_sex is the smallest, and
    BASIS_COLUMNS are those of the first with a p value, if there is one; for the quartiles of the IoU,
    n_subjects is that of the muscle and side with fewest. A claim holds for a comparison of models if
    its estimate has the claimed direction and p_holm is below .05. reproduced: "yes" if the claim holds
    for all its comparisons (or subjects, or muscles), "in part" if for some, or for all that are
    measured but not for all muscles, "no" if for none; "in direction only" if for no comparison, but
    all estimates have the claimed direction; "not tested" without data, without a p value, or of fewer
    than 5 subjects (of a sex). Comparisons without a p value do not count.
    """
    planned = contrasts[contrasts["model"].isin([SEX_AND_AGE.name, CORRELATION])]
    means = _means(muscles)
    area, fat = (BY_LEVEL[name] if ranges else name for name in (CSA, FAT))
    by_level = " by level" * bool(ranges)
    of_muscles = [
        (
            "Men have larger areas in all muscles",
            *_compared(planned, f"sex, area{by_level}", area, 0.0, above=True),
        ),
        ("Erector spinae is the largest muscle in all subjects", *_largest(means)),
        ("In men psoas major is the second largest", *_second_in_men(means)),
        (
            "In women psoas major is about as large as quadratus lumborum and multifidus",
            *_psoas_in_women(means),
        ),
        (
            "The fat fraction is larger in women",
            *_compared(planned, f"sex, fat{by_level}", fat, 1.0, above=False),
        ),
        ("The fat fraction rises with age", *_compared(planned, "age", FAT, 1.0, above=True)),
        (
            "The fat fraction is larger in multifidus and erector spinae than in psoas major and quadratus lumborum",
            *_compared(planned, "muscles, fat", FAT, 1.0, above=True),
        ),
    ]
    rows = [
        *(
            (claim, "; ".join(filter(None, [found, ranges])), *rest)
            for claim, found, *rest in of_muscles
        ),
        (
            "Larger areas go with a higher IoU",
            *_compared(planned, SIZE_AND_OVERLAP, "iou", 0.0, above=True),
        ),
        (
            "The lower quartile of the IoU is above .75 in every muscle and side",
            *_quartiles(overlap),
        ),
    ]
    return pd.DataFrame(
        {"claim": claim, "found": found, "reproduced": verdict, "tested_by": tested_by} | basis
        for claim, found, verdict, tested_by, basis in rows
    ).reindex(columns=list(CLAIM_COLUMNS))


def _compared(
    contrasts: pd.DataFrame, family: str, outcome: str, neutral: float, *, above: bool
) -> tuple:
    own = contrasts[(contrasts["family"] == family) & (contrasts["outcome"] == outcome)]
    estimated = own.dropna(subset=["estimate"])
    tested_by = f"contrasts, family {family!r}"
    where = " by level" * family.endswith("by level")
    if estimated.empty:
        why = [where.strip(), *own["note"].dropna().unique()[:1]]
        found = ": ".join(filter(None, why)) or "no estimate"
        return found, UNTESTED, tested_by, {"family": family}
    tested = estimated.dropna(subset=["p_holm"])
    known = estimated if tested.empty else tested
    as_claimed = (known["estimate"] > neutral) == above
    certain = as_claimed & (known["p_holm"] < SIGNIFICANT)
    estimates = known["estimate"]
    low, high = (f"{float(f'{end:.3g}'):,g}" for end in (estimates.min(), estimates.max()))
    what = known["label"].iloc[0].partition(", ")[0]  # without the muscle
    ends = f"{low if low == high else f'{low} to {high}'} {known['unit'].iloc[0]}"
    measured = set(known["muscle"]) & set(MUSCLES)
    lacking = 0 < len(measured) < len(MUSCLES)  # without muscles: one comparison of all
    kind = f" {'correlations of ' * (outcome == 'iou')}measured muscles" * lacking
    counts = (
        f"as claimed in {as_claimed.sum()} of {len(known)}{kind}, p (Holm) < .05 in {certain.sum()}"
    )
    first = known.iloc[0]
    basis = {name: first.get(name) for name in BASIS_COLUMNS}
    basis["n_sex"] = known["n_sex"].min()  # found tells the ends of all its comparisons
    if tested.empty:
        why = first["note"] if pd.notna(first["note"]) else "no p value"
        return f"{what}{where}: {ends}; {why}", UNTESTED, tested_by, basis
    verdict = _verdict(int(certain.sum()), len(known))
    verdict = PART if verdict == YES and lacking else verdict
    if verdict == NO and as_claimed.all():
        verdict = UNCERTAIN
    return _enough(f"{what}{where}: {ends}; {counts}", verdict, tested_by, basis)


def _enough(found: str, verdict: str, tested_by: str, basis: dict) -> tuple:
    """Return the last columns of a claim; of few subjects it is not tested."""
    counts = pd.Series([basis["n_subjects"], basis.get("n_sex")], dtype=float)
    if (counts < LEAST_SHARED_SUBJECTS).any():
        found, verdict = f"{found}; {FEWER}", UNTESTED
    return found, verdict, tested_by, basis


def _described(estimator: str, subjects: int, rows: int, unit: str = "1") -> dict:
    """Return the basis of a claim that no model tests."""
    told = {"estimator": estimator, "n_subjects": subjects, "n_rows": rows, "unit": unit}
    return told | {"family": NO_FAMILY}


def _verdict(held: int, of: int) -> str:
    return YES if held == of else PART if held else NO


def _means(muscles: pd.DataFrame) -> pd.DataFrame:
    """Return the mean area of both sides, each the mean over scans; rows: subject and sex, columns: muscle.

    NaN where the area of a side is unknown. sex: of a subject's first row in which it is known.
    """
    keys = ["subject", "muscle"]
    sides = muscles.groupby([*keys, "side"], observed=True)[CSA].mean()
    both = sides.groupby(level=keys, observed=True).sum(min_count=len(SIDES))
    means = (both / len(SIDES)).unstack("muscle").reindex(columns=list(MUSCLES))
    sex = muscles.astype({"sex": object}).groupby("subject")["sex"].first()
    return means.set_index(sex.reindex(means.index), append=True)


def _nobody(who: str, own: pd.DataFrame) -> str:
    """Return why there is nobody whose muscles can be compared; own: rows of `_means`."""
    return f"no {who} with all muscles measured" if len(own) else f"no {who}"


def _largest(means: pd.DataFrame) -> tuple:
    tested_by = "csa_mean_mm2, mean of both sides"
    known = means.dropna()
    if known.empty:
        return _nobody("subjects", means), UNTESTED, tested_by, {}
    held = int((known.idxmax(axis=1) == "erector_spinae").sum())
    found = f"in {held} of {counted(len(known), 'subject')}"
    basis = _described(SHARE, len(known), known.size)
    return _enough(found, _verdict(held, len(known)), tested_by, basis)


def _second_in_men(means: pd.DataFrame) -> tuple:
    of_men = means[means.index.get_level_values("sex") == "M"]
    tested_by, men = "csa_mean_mm2, mean of both sides", of_men.dropna()
    if men.empty:
        return _nobody("men", of_men), UNTESTED, tested_by, {}
    held = int((men.rank(axis=1, ascending=False)["psoas_major"] == 2).sum())
    found, basis = f"in {held} of {persons(len(men), 'M')}", _described(SHARE, len(men), men.size)
    return _enough(found, _verdict(held, len(men)), tested_by, basis)


def _psoas_in_women(means: pd.DataFrame) -> tuple:
    everybody = means[means.index.get_level_values("sex") == "F"]
    tested_by, of_women = "means of women; about: within a third", everybody.dropna()
    if of_women.empty:
        return _nobody("women", everybody), UNTESTED, tested_by, {}
    women = of_women.mean()
    ratios = [
        women["psoas_major"] / women[muscle] for muscle in ("quadratus_lumborum", "multifidus")
    ]
    found = (
        f"psoas major is {ratios[0]:.2f} times quadratus lumborum, {ratios[1]:.2f} times multifidus"
    )
    held = sum(2 / 3 <= ratio <= 1.5 for ratio in ratios)
    basis = _described("ratio of means", len(of_women), of_women.size)
    return _enough(found, _verdict(held, 2), tested_by, basis)


def _quartiles(overlap: pd.DataFrame) -> tuple:
    known = overlap.dropna(subset=["iou"])
    tested_by = "Table 1"
    if known.empty:
        return "no held-out masks", UNTESTED, tested_by, {}
    groups = known.groupby(["muscle", "side"], observed=True)
    quartiles = groups["iou"].quantile(0.25)
    held = int((quartiles > LEAST_QUARTILE).sum())
    found = f"{quartiles.min():.3f} to {quartiles.max():.3f}"
    fewest = int(groups["subject"].nunique().min())
    basis = _described("lower quartile over slices", fewest, len(known))
    verdict = _verdict(held, len(quartiles))
    if verdict == YES and len(quartiles) < len(LABELS):
        measured = f"{len(quartiles)} measured {'muscle and side' if len(quartiles) == 1 else 'muscles and sides'}"
        found, verdict = f"{found}, in {measured}", PART
    return _enough(found, verdict, tested_by, basis)
