"""x-kubernetes-validations at work: a schema's rules, compiled once, held against objects and what they were before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.apiserver.crd.expressions import ExpressionError, Program, Shape, compiled, shape_of, to_cel, uses_old
from services.apiserver.crd.schema import Schema, additional, properties
from tillerman.api.status import Cause, duplicate, forbidden_field, invalid_value, required

NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(?:'((?:\\.|[^'\\])*)'|\"((?:\\.|[^\"\\])*)\")\]")
_ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class Rule:
    """``test``: the rule, or why it does not compile here. ``message``: an expression for the text, or None.
    ``transition``: speaks of what was before.
    """

    declared: Mapping[str, Any]
    test: Program | ExpressionError
    message: Program | None
    transition: bool
    optional_old: bool


@dataclass(slots=True)
class RuleTree:
    """The rules of one place in a schema, and of the places below it that have any."""

    schema: Schema
    root: bool = False
    rules: list[Rule] = field(default_factory=list)
    fields: dict[str, RuleTree] = field(default_factory=dict)
    rest: RuleTree | None = None
    items: RuleTree | None = None


def rule_tree(schema: Schema, *, root: bool = False) -> RuleTree | None:
    """None where there is no rule."""
    tree = RuleTree(schema, root)
    shape = shape_of(schema)
    tree.rules = [compile_rule(rule, shape) for rule in schema.get("x-kubernetes-validations") or ()]
    for name, child in properties(schema).items():
        if (found := rule_tree(child)) is not None:
            tree.fields[name] = found
    rest, items = additional(schema), schema.get("items")
    tree.rest = rule_tree(rest) if isinstance(rest, Mapping) else None
    tree.items = rule_tree(items) if isinstance(items, Mapping) else None
    return tree if tree.rules or tree.fields or tree.rest or tree.items else None


def compile_rule(rule: Mapping[str, Any], shape: Shape) -> Rule:
    """Definitions are refused with rules that don't compile, but one may have been stored by another API server."""
    optional = bool(rule.get("optionalOldSelf"))
    text, message = rule["rule"], rule.get("messageExpression") or ""
    test: Program | ExpressionError
    shown: Program | None = None
    try:
        test = compiled(text, shape, optional)
        if message:
            shown = compiled(message, shape, optional)
    except ExpressionError as error:
        test = error
    return Rule(
        declared=rule,
        test=test,
        message=shown,
        transition=uses_old(text) or uses_old(message),
        optional_old=optional,
    )


def broken_rules(tree: RuleTree, value: Any, old: Any = None, *, updating: bool = False) -> list[Cause]:
    """What the rules have against an object; ``updating``: ``old`` is what it was before."""
    return _check(tree, value, old if updating else _ABSENT, "")


def _check(tree: RuleTree, value: Any, old: Any, path: str) -> list[Cause]:
    if value is None:
        return []
    causes: list[Cause] = []
    if tree.rules:
        own = to_cel(value, tree.schema, root=tree.root)
        before = None if old is _ABSENT or old is None else to_cel(old, tree.schema, root=tree.root)
        for rule in tree.rules:
            had_old = before is not None
            if rule.transition and not had_old and not rule.optional_old:
                continue
            causes += _judge(rule, tree.schema, path, own, before, had_old)
    if isinstance(value, dict):
        earlier = old if isinstance(old, dict) else {}
        for name, item in value.items():
            child = tree.fields.get(name)
            where = f"{path}.{name}" if path else name
            if child is None and name not in properties(tree.schema):
                child, where = tree.rest, f"{path}[{name}]"
            if child is not None:
                causes += _check(child, item, earlier.get(name, _ABSENT), where)
    elif isinstance(value, list) and tree.items is not None:
        earlier_items = _by_key(old, tree.schema)
        for index, item in enumerate(value):
            causes += _check(tree.items, item, earlier_items.get(_key(item, tree.schema), _ABSENT), f"{path}[{index}]")
    return causes


def _by_key(old: Any, schema: Schema) -> dict[bytes, Any]:
    """The items of before that can be told again: those of map-lists."""
    if not isinstance(old, list) or schema.get("x-kubernetes-list-type") != "map":
        return {}
    return {_key(item, schema): item for item in old}


def _key(item: Any, schema: Schema) -> bytes:
    names = schema.get("x-kubernetes-list-map-keys") or ()
    values = [item.get(name) for name in names] if isinstance(item, dict) else None
    encoded: bytes = orjson.dumps(values)
    return encoded


def _judge(rule: Rule, schema: Schema, path: str, own: Any, before: Any, had_old: bool) -> list[Cause]:
    kind = schema.get("type") or "object"
    declared = rule.declared
    try:
        if isinstance(rule.test, ExpressionError):
            raise rule.test
        if rule.test.run(own, before, had_old=had_old) is True:
            return []
    except ExpressionError as error:
        text = (declared.get("message") or declared["rule"]).strip()
        return [invalid_value(path or "<nil>", kind, f"{error} evaluating rule: {text}")]
    message = _message(rule, own, before, had_old)
    where = (path + _child_path(declared.get("fieldPath") or "")).removeprefix(".") or "<nil>"
    match declared.get("reason"):
        case "FieldValueRequired":
            return [required(where, message)]
        case "FieldValueForbidden":
            return [forbidden_field(where, message)]
        case "FieldValueDuplicate":
            return [duplicate(where, kind)]
    return [invalid_value(where, kind, message)]


def _message(rule: Rule, own: Any, before: Any, had_old: bool) -> str:
    declared = rule.declared
    if rule.message is not None:
        try:
            text = rule.message.run(own, before, had_old=had_old)
        except ExpressionError:
            text = ""
        # What cannot be shown on one line falls back to what is declared.
        if isinstance(text, str) and text.strip() and "\n" not in text:
            return text.strip()
    message: str = declared.get("message") or f"failed rule: {declared['rule'].strip()}"
    return message.strip()


def steps(field_path: str) -> list[str]:
    """The names in a fieldPath such as `.spec['x-y']`. Raises ValueError."""
    found, at = [], 0
    while at < len(field_path):
        match = _STEP.match(field_path, at)
        if match is None:
            raise ValueError(f"does not refer to a valid field: {field_path}")
        found.append(match[1] or match[2] or match[3])
        at = match.end()
    return found


def _child_path(field_path: str) -> str:
    return "".join(f".{step}" if re.fullmatch(r"\w+", step) else f"[{step}]" for step in steps(field_path))
