"""The configuration: checked before anything runs, every fault told at once."""

import difflib
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError

from paravert.errors import InputError

SCHEMA = Path(__file__).parent.parent / "schemas" / "config.schema.yaml"


def check_configuration(settings: dict) -> None:
    """Raise InputError that lists every setting that is unknown, missing or out of its range."""
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    errors = Draft202012Validator(schema).iter_errors(settings)
    faults = sorted(fault for error in errors for fault in _sentences(error))
    if faults:
        raise InputError("configuration", "".join(f"\n  {fault}" for fault in faults))


def _sentences(error: ValidationError) -> list[str]:
    path = [str(part) for part in error.absolute_path]
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        return [_unknown([*path, key], known) for key in error.instance if key not in known]
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return [f"no setting {'.'.join([*path, key])}, expected one" for key in missing]
    told = error.schema.get("description", f"{error.validator} {error.validator_value}")
    limits = f" ({error.validator} {error.validator_value})"
    return [f"{'.'.join(path)} is {error.instance!r}, expected{limits}: {told}"]


def _unknown(path: list[str], known: dict) -> str:
    near = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected among {', '.join(known)}"
    return f"unknown setting {'.'.join(path)}, {hint}"
