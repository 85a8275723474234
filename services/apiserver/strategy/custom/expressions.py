"""Rules for the x-kubernetes-validations of a definition: each compiles, and comes to true or false."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.apiserver.crd.expressions import ExpressionError, Program, Shape, compiled, shape_of, uses_old
from services.apiserver.crd.rules import steps
from services.apiserver.crd.schema import Schema
from services.apiserver.strategy.causes import Cause, forbidden, invalid, not_supported, required

NAME = "x-kubernetes-validations"
_REASONS = ("FieldValueRequired", "FieldValueForbidden", "FieldValueInvalid", "FieldValueDuplicate")


def expressions(path: str, schema: Schema, *, uncorrelatable: str = "") -> list[Cause]:
    """What is wrong with the rules anywhere in a structural schema. ``uncorrelatable``: the list above, if any, whose
    items of before cannot be told again.
    """
    causes: list[Cause] = []
    shape = shape_of(schema)
    for index, rule in enumerate(schema.get(NAME) or ()):
        causes += _rule(f"{path}.{NAME}[{index}]", rule, schema, shape, uncorrelatable)
    items = schema.get("items")
    if isinstance(items, Mapping):
        known = schema.get("x-kubernetes-list-type") == "map"
        above = uncorrelatable or ("" if known else f"{path}.items")
        causes += expressions(f"{path}.items", items, uncorrelatable=above)
    for name in sorted(schema.get("properties") or {}):
        causes += expressions(f"{path}.properties[{name}]", schema["properties"][name], uncorrelatable=uncorrelatable)
    if isinstance(schema.get("additionalProperties"), Mapping):
        below = schema["additionalProperties"]
        causes += expressions(f"{path}.additionalProperties", below, uncorrelatable=uncorrelatable)
    for field in ("allOf", "oneOf", "anyOf"):
        for index, child in enumerate(schema.get(field) or ()):
            causes += _nested(f"{path}.{field}[{index}]", child)
    return causes + (_nested(f"{path}.not", schema["not"]) if "not" in schema else [])


def _nested(path: str, schema: Schema) -> list[Cause]:
    return [forbidden(f"{path}.{NAME}", "must be empty to be structural")] if schema.get(NAME) else []


def _rule(path: str, rule: Mapping[str, Any], schema: Schema, shape: Shape, uncorrelatable: str) -> list[Cause]:
    text, message = rule["rule"].strip(), rule.get("message") or ""
    causes = _texts(path, rule)
    if not text:
        return [*causes, required(f"{path}.rule", "rule is not specified")]
    optional = bool(rule.get("optionalOldSelf"))
    if uncorrelatable and uses_old(text) and not optional:
        detail = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {uncorrelatable}"
        causes.append(invalid(f"{path}.rule", rule["rule"], detail))
    if optional and not uses_old(text):
        detail = "must not be set when rule does not use oldSelf"
        causes.append(invalid(f"{path}.optionalOldSelf", True, detail))
    causes += _compiles(f"{path}.rule", text, shape, optional, "BOOL", "must evaluate to a bool")
    if expression := (rule.get("messageExpression") or "").strip():
        where = f"{path}.messageExpression"
        causes += _compiles(where, expression, shape, optional, "STRING", "must evaluate to a string")
    if message and not message.strip():
        causes.append(invalid(f"{path}.message", message, "message must be non-empty if specified"))
    return causes + _field_path(f"{path}.fieldPath", rule.get("fieldPath") or "", schema)


def _texts(path: str, rule: Mapping[str, Any]) -> list[Cause]:
    causes: list[Cause] = []
    message, reason = rule.get("message") or "", rule.get("reason")
    if "\n" in message or "\r" in message:
        causes.append(invalid(f"{path}.message", message, "message must not contain line breaks"))
    if ("\n" in rule["rule"] or "\r" in rule["rule"]) and not message:
        detail = "message must be specified if rule contains line breaks"
        causes.append(required(f"{path}.message", detail))
    if reason is not None and reason not in _REASONS:
        causes.append(not_supported(f"{path}.reason", reason, _REASONS))
    return causes


def _compiles(path: str, text: str, shape: Shape, optional: bool, wanted: str, detail: str) -> list[Cause]:
    try:
        program: Program = compiled(text, shape, optional)
    except ExpressionError as error:
        return [invalid(path, text, str(error))]
    return [] if program.returns in (wanted, "DYN") else [invalid(path, text, detail)]


def _field_path(path: str, value: str, schema: Schema) -> list[Cause]:
    if not value:
        return []
    try:
        names = steps(value)
    except ValueError as error:
        return [invalid(path, value, str(error))]
    found: Any = schema
    for name in names:
        rest = found.get("additionalProperties")
        found = (found.get("properties") or {}).get(name) or (rest if isinstance(rest, Mapping) else None)
        if found is None:
            return [invalid(path, value, f"does not refer to a valid field: {value}")]
    return []
