"""Checks of the configuration: against its schema (all faults at once), and for repeated keys."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from paravert.errors import InputError, unseen_character

SCHEMA = Path(__file__).parent / "schemas" / "config.schema.yaml"
WORDS = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a finite number",
    "object": "settings below it",
    "string": "text",
}
LIMITS = {
    "minimum": "at least",
    "maximum": "at most",
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
}
PATTERNS = {
    r"^[0-9a-f]{64}\Z": "64 hexadecimal digits",
    r"^([0-9a-f]{64})?\Z": "64 hexadecimal digits",
    r"^[^\t\n]*\Z": "text without tabs and line breaks",
    r"^[^\t\n]+\Z": "text without tabs and line breaks",
    r"^[A-Za-z0-9][A-Za-z0-9_-]*\Z": "letters, digits, _ and -, the first a letter or digit",
    r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}\Z": "at most 32 letters, digits, _ and -, the first a letter or digit",
}

IN_QUOTES = "in quotes, as YAML reads yes, no, on and off as true and false"

# Numbers that YAML takes for text.
is_text_for_yaml = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?[0-9]+\.[0-9]*[eE][0-9]+").fullmatch


def check_configuration(settings: dict) -> None:
    """Raise InputError unless the whole configuration fits the schema config.schema.yaml.

    settings: the configuration as nested dicts, as read from YAML. The message lists every setting
    that is unknown, missing, of a wrong type or form, or out of range, every name that YAML read as
    true or false, and every text with an invisible character (`errors.unseen_character`) other than a
    line feed.
    """
    _check(settings, yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))


def check_section(name: str, settings: object) -> None:
    """Raise InputError unless one section of the configuration fits the schema config.schema.yaml.

    name: key of the section at the top of the configuration, such as "train_network"; KeyError for
    others. settings: value of the section, as read from YAML or JSON; every key that the schema
    describes must be there. The message lists all faults.
    """
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    section = schema["properties"][name]
    whole = section | {"required": list(section["properties"])}
    _check({name: settings}, {"type": "object", "properties": {name: whole}})


def _check(settings: dict, schema: dict) -> None:
    errors = _VALIDATOR(schema).iter_errors(settings)
    faults = {fault for error in errors for fault in _sentences(error)}
    faults |= set(_unseen(settings, [])) | set(_names_without_quotes(settings, []))
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        told = "".join(f"\n  {fault}" for fault in sorted(faults))
        raise InputError("configuration", f"{count}:{told}")


def check_files(files: Iterable[Path]) -> None:
    """Raise InputError unless configuration files are YAML mappings without a repeated key.

    files: paths of the files. The error is about the first file that cannot be read, is not YAML,
    is not a mapping, or has a key twice at one level; Snakemake would use the last of the two
    without a message.
    """
    for file in map(Path, files):
        document = _document(file)
        if not isinstance(document, yaml.MappingNode):
            found = "an empty file" if document is None else "a list or a single value"
            raise InputError(file, f"{found}, expected settings, each with its name")
        twice = list(_keys_twice(document, [], set()))
        if twice:
            raise InputError(file, f"{'; '.join(twice)}, expected once")


def as_written(key: str, files: Iterable[Path], arguments: Iterable[str]) -> str | None:
    """Return the text of a setting at the top of the configuration as it was written, None if nowhere.

    YAML and Snakemake read names such as 007 and 1_2 as the numbers 7 and 12. key: of the setting, whose
    value is no list and no section. files: configuration files that `check_files` accepts; the last one
    with the setting counts. arguments: of Snakemake's option --config, such as "subjects=007"; they
    override the files.
    """
    pairs = [(name.value, node.value) for file in files for name, node in _document(file).value]
    pairs += [argument.split("=", 1) for argument in arguments if "=" in argument]
    return next((text for name, text in reversed(pairs) if name == key), None)


def _document(file: Path) -> yaml.Node | None:
    """Return the root node of a YAML file, None for an empty one; InputError for other files."""
    try:
        # Snakemake also reads JSON, which is YAML except for its tabs.
        text = file.read_text(encoding="utf-8").replace("\t", " ")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise InputError(file, "not UTF-8, expected a configuration (YAML)") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(file, f"{line}{error.problem}, expected YAML") from None
    except (yaml.YAMLError, RecursionError):
        raise InputError(file, "no text, expected a configuration (YAML)") from None
    except OSError as error:
        raise InputError(file, f"may not be read ({error.strerror})") from None


def _is_whole(checker: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(checker: object, value: object) -> bool:
    return _is_whole(checker, value) or (isinstance(value, float) and math.isfinite(value))


# JSON Schema accepts 64.0 as an integer, and YAML's .nan and .inf as numbers.
_VALIDATOR = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"integer": _is_whole, "number": _is_finite}
    ),
)


def _sentences(error: ValidationError) -> list[str]:
    path = [str(part) for part in error.absolute_path]
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        return [_unknown([*path, str(key)], known) for key in error.instance if key not in known]
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return [f"no setting {'.'.join([*path, key])}, expected one" for key in missing]
    told = error.schema.get("description", "")
    found = "empty" if error.instance in (None, "") else repr(error.instance)
    return [f"{'.'.join(path)} is {found}, expected {_expected(error)}{told and f': {told}'}"]


def _expected(error: ValidationError) -> str:
    value = error.validator_value
    match error.validator:
        case "type":
            words = _any_of(
                [WORDS[name] for name in ([value] if isinstance(value, str) else value)]
            )
            unread = "number" in value and is_text_for_yaml(str(error.instance))
            if words == WORDS["string"] and isinstance(error.instance, bool):
                return f"{words} {IN_QUOTES}"
            return words + (", which YAML reads with point and sign: 1.0e-3" if unread else "")
        case "enum":
            return _any_of(value)
        case "pattern":
            return PATTERNS[value]
        case "uniqueItems":
            return "each entry once"
    return f"{LIMITS[error.validator]} {value}"


def _any_of(names: Sequence[str]) -> str:
    """Return names as "a, b or c"."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _unknown(path: list[str], known: dict) -> str:
    near = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected among {', '.join(known)}"
    return f"unknown setting {'.'.join(path)}, {hint}"


def _unseen(value: object, path: list[str]) -> Iterator[str]:
    """Yield a sentence for each text with an invisible character other than a tab or line feed."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _unseen(below, [*path, str(key)])
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from _unseen(below, [*path, str(number)])
    elif isinstance(value, str) and (found := unseen_character(value.replace("\n", ""))):
        yield f"{'.'.join(path)} holds the control character {found}, expected text"


def _names_without_quotes(settings: dict, path: list[str]) -> Iterator[str]:
    """Yield a sentence for each name that YAML read as true or false, such as the column no."""
    for key, below in settings.items():
        if isinstance(key, bool):
            yield f"{'.'.join([*path, str(key)])} is true or false, expected a name {IN_QUOTES}"
        elif isinstance(below, dict):
            yield from _names_without_quotes(below, [*path, str(key)])


def _keys_twice(node: yaml.Node, path: list[str], known: set[int]) -> Iterator[str]:
    """Yield the duplicate keys of a document's mappings. known: ids of the visited nodes."""
    if id(node) in known or isinstance(node, yaml.ScalarNode):
        return
    known.add(id(node))  # an alias is its anchor's node
    if isinstance(node, yaml.SequenceNode):
        for below in node.value:
            yield from _keys_twice(below, path, known)
        return
    first: dict[str, yaml.Mark] = {}
    for key, below in node.value:
        name = str(key.value)
        if first.setdefault(name, key.start_mark) is not key.start_mark:
            lines = f"lines {first[name].line + 1} and {key.start_mark.line + 1}"
            yield f"{'.'.join([*path, name])} stands there twice ({lines})"
        yield from _keys_twice(below, [*path, name], known)
