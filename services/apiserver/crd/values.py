"""Checks a value against its schema, in the words of Kubernetes' validator.

The walk and its texts are go-openapi's as Kubernetes uses it: a list's items are reported under the list's own path,
and where oneOf or anyOf fails, the alternative that came closest tells why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import orjson

from services.apiserver.crd.formats import FORMATS
from services.apiserver.crd.schema import Schema, additional, properties
from tillerman.api.status import Cause, invalid_value, required, shown

_GO_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
# What stands for a value's type where a format is asked for.
_GO_FORMATS = {int: "int64", float: "double"}
NO_PATH = "<nil>"
# Fields that may stand where additionalProperties allows none.
_ALWAYS = ("$schema", "id")


@dataclass(slots=True)
class Result:
    """``matches``: how many checks passed, to tell which alternative came closest."""

    causes: list[Cause] = field(default_factory=list)
    matches: int = 0

    def merge(self, other: Result) -> None:
        self.causes += other.causes
        self.matches += other.matches


def validate(value: Any, schema: Schema, path: str = "") -> list[Cause]:
    """What is wrong with a value; the causes' fields begin with ``path``."""
    return _check(value, schema, path).causes


def _check(value: Any, schema: Schema, path: str) -> Result:
    result = Result()
    _type(value, schema, path, result)
    if value is not None:
        _alternatives(value, schema, path, result)
    if isinstance(value, str):
        _string(value, schema, path, result)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _number(value, schema, path, result)
    elif isinstance(value, list):
        _array(value, schema, path, result)
    _enum(value, schema, path, result)
    if isinstance(value, dict):
        _object(value, schema, path, result)
    result.matches += 1
    return result


def _body(path: str, text: str) -> str:
    return f"{path} in body {text}"


def _type(value: Any, schema: Schema, path: str, result: Result) -> None:
    kinds = ["integer", "string"] if schema.get("x-kubernetes-int-or-string") else [schema.get("type") or ""]
    if kinds == [""]:
        return
    if value is None:
        if not schema.get("nullable"):
            result.causes.append(_wrong_type(path, kinds, "null"))
        return
    found = _GO_TYPES[type(value)]
    fits = found in kinds
    if found == "number" and "integer" in kinds:
        fits = value.is_integer()
    elif found == "integer" and "number" in kinds:
        fits = True
    if fits:
        result.matches += 1
    elif (wanted := schema.get("format")) and not isinstance(value, str | list):
        result.causes.append(_wrong_type(path, [wanted], _GO_FORMATS.get(type(value), "")))
    else:
        result.causes.append(_wrong_type(path, kinds, found))


def _wrong_type(path: str, kinds: list[str], found: str) -> Cause:
    return invalid_value(path, found, _body(path, f'must be of type {",".join(kinds)}: "{found}"'))


# -- alternatives ------------------------------------------------------------------------------------------------------


def _alternatives(value: Any, schema: Schema, path: str, result: Result) -> None:
    if alternatives := schema.get("anyOf"):
        _any_of(value, alternatives, path, result)
    if alternatives := schema.get("oneOf"):
        _one_of(value, alternatives, path, result)
    if parts := schema.get("allOf"):
        results = [_check(value, part, path) for part in parts]
        for each in results:
            result.merge(each)
        passed = sum(not each.causes for each in results)
        if passed != len(parts):
            none = "" if passed else ". None validated"
            result.causes.append(_pathless(f'"{path}" must validate all the schemas (allOf){none}'))
    if (refused := schema.get("not")) is not None and not _check(value, refused, path).causes:
        result.causes.append(_pathless(f'"{path}" must not validate the schema (not)'))


def _pathless(text: str) -> Cause:
    """What the validator says of a whole schema names its place only in the text."""
    return invalid_value(NO_PATH, "", text)


def _any_of(value: Any, alternatives: list[Schema], path: str, result: Result) -> None:
    closest: Result | None = None
    for alternative in alternatives:
        found = _check(value, alternative, path)
        if not found.causes:
            result.merge(found)
            return
        if closest is None or found.matches > closest.matches:
            closest = found
    result.causes.append(_pathless(f'"{path}" must validate at least one schema (anyOf)'))
    if closest is not None:
        result.merge(closest)


def _one_of(value: Any, alternatives: list[Schema], path: str, result: Result) -> None:
    closest: Result | None = None
    passed = []
    for alternative in alternatives:
        found = _check(value, alternative, path)
        if not found.causes:
            passed.append(found)
        elif closest is None or found.matches > closest.matches:
            closest = found
    if len(passed) == 1:
        result.merge(passed[0])
        return
    count = f"Found {len(passed)} valid alternatives" if passed else "Found none valid"
    result.causes.append(_pathless(f'"{path}" must validate one and only one schema (oneOf). {count}'))
    if not passed and closest is not None:
        result.merge(closest)


# -- scalars -----------------------------------------------------------------------------------------------------------


@cache
def pattern(text: str) -> re.Pattern[str]:
    """A schema's regular expression, written for Go, in Python's dialect. Raises re.error.

    Go knows POSIX classes, and its dollar is the end of the text where Python's also stands before a last newline.
    """
    for name, letters in _POSIX.items():
        text = text.replace(f"[:{name}:]", letters)
    return re.compile(re.sub(r"(?<!\\)((?:\\\\)*)(?:\$|\\z)$", r"\1\\Z", text))


_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r"\t ",
    "digit": "0-9",
    "lower": "a-z",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}


def _string(value: str, schema: Schema, path: str, result: Result) -> None:
    before = len(result.causes)
    # Only the first of these is told; the format is looked at beside them.
    if (limit := schema.get("maxLength")) is not None and len(value) > limit:
        result.causes.append(invalid_value(path, value, _body(path, f"should be at most {limit} chars long")))
    elif (limit := schema.get("minLength")) is not None and len(value) < limit:
        result.causes.append(invalid_value(path, value, _body(path, f"should be at least {limit} chars long")))
    elif (wanted := schema.get("pattern")) and pattern(wanted).search(value) is None:
        result.causes.append(invalid_value(path, value, _body(path, f"should match '{wanted}'")))
    wanted = schema.get("format") or ""
    if (check := FORMATS.get(wanted)) is not None and not check(value):
        result.causes.append(invalid_value(path, value, _body(path, f"must be of type {wanted}: {shown(value)}")))
    result.matches += len(result.causes) == before


def _number(value: float, schema: Schema, path: str, result: Result) -> None:
    before = len(result.causes)
    if factor := schema.get("multipleOf"):
        quotient = value / factor
        if abs(quotient - round(quotient)) > 1e-9 * max(1.0, abs(quotient)):
            detail = f"should be a multiple of {shown(_plain(factor))}"
            result.causes.append(invalid_value(path, value, _body(path, detail)))
    if (limit := schema.get("maximum")) is not None:
        strict = bool(schema.get("exclusiveMaximum"))
        if value > limit or (strict and value == limit):
            detail = f"should be less than {'' if strict else 'or equal to '}{shown(_plain(limit))}"
            result.causes.append(invalid_value(path, value, _body(path, detail)))
    if (limit := schema.get("minimum")) is not None:
        strict = bool(schema.get("exclusiveMinimum"))
        if value < limit or (strict and value == limit):
            detail = f"should be greater than {'' if strict else 'or equal to '}{shown(_plain(limit))}"
            result.causes.append(invalid_value(path, value, _body(path, detail)))
    result.matches += len(result.causes) == before


def _plain(number: float) -> float:
    return int(number) if isinstance(number, float) and number.is_integer() else number


def same(first: Any, second: Any) -> bool:
    """Whether two JSON values are the same value: 1 and 1.0 are, 1 and true are not."""
    return _canonical(first) == _canonical(second)


def _canonical(value: Any) -> bytes:
    def plain(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: plain(item) for key, item in part.items()}
        if isinstance(part, list):
            return [plain(item) for item in part]
        return _plain(part)

    encoded: bytes = orjson.dumps(plain(value), option=orjson.OPT_SORT_KEYS)
    return encoded


def _enum(value: Any, schema: Schema, path: str, result: Result) -> None:
    allowed = schema.get("enum")
    if not allowed or (value is None and schema.get("nullable")):
        return
    if any(same(value, choice) for choice in allowed):
        result.matches += 1
        return
    choices = [choice if isinstance(choice, str) else orjson.dumps(choice).decode() for choice in allowed]
    listed = ", ".join(shown(choice) for choice in choices)
    message = f"Unsupported value: {shown(value)}: supported values: {listed}"
    result.causes.append(Cause(path, "FieldValueNotSupported", message))


# -- lists and objects -------------------------------------------------------------------------------------------------


def _array(value: list[Any], schema: Schema, path: str, result: Result) -> None:
    if (items := schema.get("items")) is not None:
        for item in value:
            result.merge(_check(item, items, path))
    count = len(value)
    if (limit := schema.get("minItems")) is not None and count < limit:
        result.causes.append(invalid_value(path, count, _body(path, f"should have at least {limit} items")))
    if (limit := schema.get("maxItems")) is not None and count > limit:
        result.causes.append(invalid_value(path, count, _body(path, f"should have at most {limit} items")))
    if schema.get("uniqueItems") and len({_canonical(item) for item in value}) != count:
        result.causes.append(invalid_value(path, "", _body(path, "shouldn't contain duplicates")))


def _object(value: dict[str, Any], schema: Schema, path: str, result: Result) -> None:
    count = len(value)
    if (limit := schema.get("minProperties")) is not None and count < limit:
        result.causes.append(invalid_value(path, limit, _body(path, f"should have at least {limit} properties")))
        return
    if (limit := schema.get("maxProperties")) is not None and count > limit:
        result.causes.append(invalid_value(path, limit, _body(path, f"should have at most {limit} properties")))
        return
    dot = f"{path}." if path else ""
    known, rest = properties(schema), additional(schema)
    if rest is False:
        for name in value:
            if name not in known and name not in _ALWAYS:
                result.causes.append(invalid_value(path, name, _body(dot + name, "is a forbidden property")))
    for name in schema.get("required") or ():
        if name not in value:
            result.causes.append(required(dot + name))
    for name, item in value.items():
        child = known.get(name)
        if child is None and isinstance(rest, Mapping):
            child = rest
        if child is not None:
            result.merge(_check(item, child, dot + name))
