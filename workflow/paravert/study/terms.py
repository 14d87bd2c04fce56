"""Terms of a model formula in words, with the unit of their estimates."""

from collections.abc import Mapping

SEX_NAMES = {"F": "women", "M": "men"}
SCALES = {  # covariate of a model: the column it comes from, its step, the step in words
    "age_decades": ("age_years", 10.0, "decade"),
    "height_10cm": ("height_cm", 10.0, "10 cm"),
    "weight_10kg": ("weight_kg", 10.0, "10 kg"),
}


def term_label(term: str, levels: Mapping[str, list[str]], *, at_reference: bool = True) -> str:
    """Return a term in words, such as "men minus women, in psoas major".

    term: as statsmodels names it, "sex[T.M]:muscle[T.multifidus]". levels: of each category in the
    model, the reference first; those with one level are not compared. at_reference: whether to
    name the muscle in which a term holds that differs from muscle to muscle.
    """
    if term == "Intercept":
        first = [_level_name(values[0]) for values in levels.values()]
        return f"reference: {', '.join(first)}; covariates at their mean"
    first, _, second = term.partition(":")
    if second:
        return f"{_part(first, levels)}, {_part(second, levels)}"
    by_muscle = first.startswith(("sex[", "age_")) and len(levels.get("muscle", [])) > 1
    where = f", in {_level_name(levels['muscle'][0])}" if by_muscle and at_reference else ""
    return _part(first, levels) + where


def term_unit(term: str, unit: str) -> str:
    """Return the unit of a term's estimate; unit: that of the outcome."""
    return next(
        (f"{unit} per {step}" for name, (_, _, step) in SCALES.items() if name in term), unit
    )


def _part(part: str, levels: Mapping[str, list[str]]) -> str:
    if part in SCALES:
        return f"{part.partition('_')[0]}, per {SCALES[part][2]}"
    name, _, level = part.removesuffix("]").partition("[T.")
    return f"{_level_name(level)} minus {_level_name(levels[name][0])}"


def _level_name(level: str) -> str:
    return SEX_NAMES.get(level, level.replace("_", " "))
