"""x-kubernetes-validations: what rules see, what they say, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from services.apiserver.crd.rules import broken_rules, rule_tree
from services.apiserver.strategy.custom.expressions import expressions

SCHEMA: dict[str, Any] = {
    "type": "object",
    "x-kubernetes-validations": [{"rule": "self.metadata.name.startsWith('g')", "message": "names begin with g"}],
    "properties": {
        "spec": {
            "type": "object",
            "x-kubernetes-validations": [
                {"rule": "self.min <= self.size", "messageExpression": "'size ' + string(self.size) + ' is too small'"},
                {"rule": "!has(self.__namespace__) || self.__namespace__ != 'x'", "reason": "FieldValueForbidden"},
                {"rule": "!has(self.pair) || self.pair.all(p, p in self.known)", "fieldPath": ".pair"},
                {"rule": "self.size >= oldSelf.size", "message": "size never shrinks"},
            ],
            "properties": {
                "size": {"type": "integer"},
                "min": {"type": "integer", "default": 0},
                "namespace": {"type": "string"},
                "pair": {"type": "array", "items": {"type": "string"}},
                "known": {"type": "object", "additionalProperties": {"type": "integer"}},
                "fixed": {
                    "type": "string",
                    "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "fixed is immutable"}],
                },
                "when": {
                    "type": "string",
                    "format": "date-time",
                    "x-kubernetes-validations": [{"rule": "self < timestamp('2030-01-01T00:00:00Z')"}],
                },
                "ratio": {"type": "number", "x-kubernetes-validations": [{"rule": "self < 1.5"}]},
                "parts": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "weight": {
                                "type": "integer",
                                "x-kubernetes-validations": [
                                    {"rule": "self >= oldSelf"},
                                    {
                                        "rule": "oldSelf.hasValue() || self < 100",
                                        "optionalOldSelf": True,
                                        "reason": "FieldValueRequired",
                                    },
                                ],
                            },
                        },
                    },
                },
            },
        }
    },
}
TREE = rule_tree(SCHEMA, root=True)


def broken(spec: dict[str, Any], old: dict[str, Any] | None = None, name: str = "g1") -> list[tuple[str, str]]:
    def whole(content: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "K", "metadata": {"name": name}, "spec": content}

    assert TREE is not None
    before = None if old is None else whole(old)
    return [(c.field, c.message) for c in broken_rules(TREE, whole(spec), before, updating=old is not None)]


GOOD = {"size": 3, "min": 1}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"size": 0}, [("spec", 'Invalid value: "object": size 0 is too small')]),
        (
            {"namespace": "x"},
            [("spec", "Forbidden: failed rule: !has(self.__namespace__) || self.__namespace__ != 'x'")],
        ),
        (
            {"pair": ["a", "b"], "known": {"a": 1}},
            [("spec.pair", "self.pair.all(p, p in self.known)")],
        ),
        ({"pair": ["a"], "known": {"a": 1}}, []),
        ({"when": "2031-01-01T00:00:00Z"}, [("spec.when", 'Invalid value: "string": failed rule: ')]),
        ({"when": "2026-01-01T00:00:00+02:00"}, []),
        ({"ratio": 1}, []),
        ({"ratio": 2}, [("spec.ratio", 'Invalid value: "number": failed rule: self < 1.5')]),
        (
            {"min": None},
            [("spec", 'Invalid value: "object": no such key: "min" evaluating rule: self.min <= self.size')],
        ),
        ({"parts": [{"name": "a", "weight": 100}]}, [("spec.parts[0].weight", "Required value: failed rule: oldSelf")]),
    ],
)
def test_rules_on_creation(change: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    spec = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    found = broken(spec)
    assert [field for field, _ in found] == [field for field, _ in expected]
    for (_, message), (_, text) in zip(found, expected, strict=True):
        assert text in message


def test_the_name_is_seen_at_the_root() -> None:
    assert broken(GOOD, name="other") == [("<nil>", 'Invalid value: "object": names begin with g')]


def test_transition_rules_compare_with_what_was() -> None:
    old = {**GOOD, "fixed": "a", "parts": [{"name": "p", "weight": 5}, {"name": "q", "weight": 100}]}
    assert broken({**old, "size": 2}, old) == [("spec", 'Invalid value: "object": size never shrinks')]
    assert broken({**old, "fixed": "b"}, old) == [("spec.fixed", 'Invalid value: "string": fixed is immutable')]
    # The items are told by their keys, wherever they stand; a new one has no past.
    moved = [{"name": "q", "weight": 100}, {"name": "p", "weight": 4}, {"name": "r", "weight": 1}]
    assert [field for field, _ in broken({**old, "parts": moved}, old)] == ["spec.parts[1].weight"]
    assert broken({**GOOD, "fixed": "new"}, GOOD) == []


@pytest.mark.parametrize(
    ("rule", "field", "text"),
    [
        ({"rule": "self.size >"}, "rule", "compilation failed"),
        ({"rule": "nope(self)"}, "rule", "undeclared reference to 'nope'"),
        ({"rule": "1 + 1"}, "rule", "must evaluate to a bool"),
        ({"rule": " "}, "rule", "rule is not specified"),
        ({"rule": "true", "messageExpression": "1"}, "messageExpression", "must evaluate to a string"),
        ({"rule": "true", "message": "a\nb"}, "message", "must not contain line breaks"),
        ({"rule": "true ||\nfalse"}, "message", "must be specified if rule contains line breaks"),
        ({"rule": "true", "reason": "Odd"}, "reason", 'Unsupported value: "Odd"'),
        ({"rule": "true", "fieldPath": ".nope"}, "fieldPath", "does not refer to a valid field"),
        (
            {"rule": "true", "optionalOldSelf": True},
            "optionalOldSelf",
            "must not be set when rule does not use oldSelf",
        ),
    ],
)
def test_rules_that_cannot_work_are_refused(rule: dict[str, Any], field: str, text: str) -> None:
    schema = {"type": "object", "properties": {"size": {"type": "integer"}}, "x-kubernetes-validations": [rule]}
    causes = expressions("s", schema)
    assert [cause.field for cause in causes] == [f"s.x-kubernetes-validations[0].{field}"]
    assert text in causes[0].message


def test_old_items_of_plain_lists_are_not_known() -> None:
    item = {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}
    causes = expressions("s", {"type": "array", "items": item})
    assert [c.field for c in causes] == ["s.items.x-kubernetes-validations[0].rule"]
    assert "uncorrelatable portion of the schema within s.items" in causes[0].message
    assert expressions("s", SCHEMA) == []
