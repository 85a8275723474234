"""Definitions: which are refused, how their names are accepted, which versions come first."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from services.apiserver import strategy
from services.apiserver.crd import lifecycle
from services.apiserver.crd.definition import ESTABLISHED, NAMES_ACCEPTED, Definition, is_true
from services.apiserver.crd.versions import preferred_first
from tillerman.api import codec
from tillerman.api.meta import get_condition

GOOD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.example.org"},
    "spec": {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"]},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}},
            }
        ],
    },
}
ROOT = "spec.validation.openAPIV3Schema"


def crd(**changes: Any) -> Any:
    """The good definition with ``changes`` over its spec, as the API server takes it in."""
    content = copy.deepcopy(GOOD)
    content["spec"] |= changes
    message = codec.from_dict(content)
    strategy.default(message)
    strategy.prepare_for_create(message)
    return message


def with_schema(schema: dict[str, Any], **version: Any) -> Any:
    return crd(versions=[{**GOOD["spec"]["versions"][0], "schema": {"openAPIV3Schema": schema}, **version}])


def faults(definition: Any) -> list[tuple[str, str]]:
    return [(cause.field, cause.type) for cause in strategy.validate_create(definition)]


def test_a_good_one_passes() -> None:
    assert faults(crd()) == []


INVALID, REQUIRED, FORBIDDEN = "FieldValueInvalid", "FieldValueRequired", "FieldValueForbidden"
OBJECT = {"type": "object"}
NULLABLE = {"type": "string", "nullable": True}
WITH_FIELD = {"type": "object", "properties": {"b": {"type": "string"}}}
SCHEMAS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"type": "array", "items": OBJECT}, [(".type", INVALID)]),
    ({"properties": {"a": OBJECT}}, [(".type", REQUIRED)]),
    ({**OBJECT, "additionalProperties": {"type": "string"}}, [(".additionalProperties", FORBIDDEN)]),
    ({**OBJECT, "nullable": True}, [(".nullable", FORBIDDEN)]),
    ({**OBJECT, "properties": {"a": {}}}, [(".properties[a].type", REQUIRED)]),
    ({**OBJECT, "properties": {"a": {"type": "array"}}}, [(".properties[a].items", REQUIRED)]),
    (
        {**OBJECT, "properties": {"a": {"type": "string", "default": 1}}},
        [(".properties[a].default", INVALID)],
    ),
    (
        {**OBJECT, "properties": {"a": {"type": "object", "default": {"b": 1}}}},
        [(".properties[a].default", INVALID)],
    ),
    (
        {**OBJECT, "properties": {"metadata": {"type": "object", "properties": {"labels": OBJECT}}}},
        [(".properties[metadata]", FORBIDDEN)],
    ),
    (
        {**OBJECT, "properties": {"a": {"type": "string"}}, "anyOf": [{"required": ["a"], "description": "x"}]},
        [(".anyOf[0].description", FORBIDDEN)],
    ),
    (
        {**OBJECT, "anyOf": [{"properties": {"a": {"minimum": 1}}}]},
        [(".properties[a]", REQUIRED)],
    ),
    (
        {**OBJECT, "properties": {"a": {"x-kubernetes-int-or-string": True, "type": "integer"}}},
        [(".properties[a].type", INVALID)],
    ),
    (
        {
            **OBJECT,
            "properties": {
                "a": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
            },
        },
        [],
    ),
    (
        {**OBJECT, "properties": {"a": {"type": "object", "x-kubernetes-embedded-resource": True}}},
        [(".properties[a].properties", REQUIRED)],
    ),
    (
        {
            **OBJECT,
            "properties": {
                "a": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {"k": {"type": "string"}}},
                }
            },
        },
        [(".properties[a].items.properties[k].default", REQUIRED)],
    ),
    (
        {
            **OBJECT,
            "properties": {"a": {"type": "array", "x-kubernetes-list-type": "set", "items": OBJECT}},
        },
        [(".properties[a].items.x-kubernetes-map-type", INVALID)],
    ),
    (
        {
            **OBJECT,
            "properties": {
                "a": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "required": ["k"], "properties": {"k": NULLABLE}},
                }
            },
        },
        [(".properties[a].items.properties[k].nullable", FORBIDDEN)],
    ),
    ({**OBJECT, "properties": {"a": {**OBJECT, "additionalProperties": False}}}, []),
    ({**OBJECT, "properties": {"a": {**WITH_FIELD, "additionalProperties": True}}}, []),
    (
        {**OBJECT, "properties": {"a": {**WITH_FIELD, "additionalProperties": False}}},
        [(".properties[a].additionalProperties", FORBIDDEN)],
    ),
    (
        {**OBJECT, "properties": {"metadata": {"type": "object", "description": "x"}}},
        [(".properties[metadata]", FORBIDDEN)],
    ),
    (
        {
            **OBJECT,
            "properties": {
                "a": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "properties": {"metadata": {"type": "object", "properties": {"labels": OBJECT}}},
                }
            },
        },
        [],
    ),
    ({**OBJECT, "properties": {"a": {"type": "string", "pattern": "("}}}, [(".properties[a].pattern", INVALID)]),
]


@pytest.mark.parametrize(("schema", "expected"), SCHEMAS)
def test_schemas_that_are_not_structural_are_refused(schema: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert faults(with_schema(schema)) == [(ROOT + field, kind) for field, kind in expected]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"preserveUnknownFields": True}, [("spec.preserveUnknownFields", INVALID)]),
        ({"scope": "World"}, [("spec.scope", "FieldValueNotSupported")]),
        ({"names": {"plural": "things", "kind": "Thing", "listKind": "Thing"}}, [("spec.names.listKind", INVALID)]),
        (
            {"conversion": {"strategy": "Webhook"}},
            [("spec.conversion.webhookClientConfig", REQUIRED), ("spec.conversion.conversionReviewVersions", REQUIRED)],
        ),
        (
            {
                "conversion": {
                    "strategy": "Webhook",
                    "webhook": {"clientConfig": {"url": "https://a/b"}, "conversionReviewVersions": ["v9"]},
                }
            },
            [("spec.conversion.conversionReviewVersions", INVALID)],
        ),
        (
            {"conversion": {"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}}},
            [("spec.conversion.conversionReviewVersions", FORBIDDEN)],
        ),
    ],
)
def test_definitions_that_are_refused(changes: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert faults(crd(**changes)) == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ({"deprecationWarning": "x"}, [("spec.versions[0].deprecationWarning", INVALID)]),
        ({"selectableFields": [{"jsonPath": ".spec.a"}]}, [("spec.selectableFields[0].jsonPath", INVALID)]),
        (
            {"subresources": {"scale": {"specReplicasPath": ".status.n", "statusReplicasPath": ".status.n"}}},
            [("spec.subresources.scale.specReplicasPath", INVALID)],
        ),
        (
            {"additionalPrinterColumns": [{"name": "A", "type": "string", "jsonPath": ".a[?(@.b==1)].c"}]},
            [],
        ),
    ],
)
def test_versions_that_are_refused(version: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert faults(with_schema(OBJECT, **version)) == expected


def test_the_name_of_the_first_version_is_looked_at_twice() -> None:
    first = {**GOOD["spec"]["versions"][0], "name": "V1"}
    second = {**first, "name": "V2", "storage": False}
    assert faults(crd(versions=[first, second])) == [
        ("spec.versions[0].name", INVALID),
        ("spec.versions[1].name", INVALID),
        ("spec.version", INVALID),
    ]


def test_of_several_storage_versions_the_first_counts_as_stored() -> None:
    first = GOOD["spec"]["versions"][0]
    assert faults(crd(versions=[first, {**first, "name": "v2"}])) == [
        ("spec.versions", INVALID),
        ("status.storedVersions", INVALID),
    ]


def test_what_the_name_is_made_of_cannot_change() -> None:
    old = crd()
    new = crd(group="example.com", scope="Cluster", names={"plural": "others", "kind": "Other"})
    new.metadata.resourceVersion = old.metadata.resourceVersion = "1"
    lifecycle.settle(old, [])
    assert [cause.field for cause in strategy.validate_update(new, old)] == [
        "spec.scope",
        "spec.names.kind",
        "spec.group",
        "spec.names.plural",
    ]


def test_versions_that_share_a_schema_share_what_status_asks_of_it() -> None:
    schema = {"openAPIV3Schema": {**WITH_FIELD, "oneOf": [{"required": ["b"]}]}}
    first = {**GOOD["spec"]["versions"][0], "schema": schema}
    second = {**first, "name": "v2", "storage": False, "subresources": {"status": {}}}
    assert faults(crd(versions=[first, second])) == [(ROOT, INVALID)]


def test_webhooks_do_not_convert_what_is_not_pruned() -> None:
    webhook = {"clientConfig": {"url": "https://a/b"}, "conversionReviewVersions": ["v1"]}
    definition = crd(preserveUnknownFields=True, conversion={"strategy": "Webhook", "webhook": webhook})
    assert faults(definition) == [("spec.conversion.strategy", INVALID), ("spec.preserveUnknownFields", INVALID)]


def test_groups_of_kubernetes_need_an_approval() -> None:
    definition = crd(group="things.k8s.io")
    definition.metadata.name = "things.things.k8s.io"
    assert faults(definition) == [("metadata.annotations[api-approved.kubernetes.io]", REQUIRED)]
    definition.metadata.annotations[lifecycle.APPROVED_BY] = "https://example.org/approval"
    assert faults(definition) == []
    lifecycle.settle(definition, [])
    assert is_true(definition, lifecycle.CONFORMANT)


def test_names_are_taken_once() -> None:
    first, second = crd(), crd(names={"plural": "others", "kind": "Other", "shortNames": ["th"]})
    lifecycle.settle(first, [second])
    lifecycle.settle(second, [first])
    assert is_true(first, ESTABLISHED)
    refused = get_condition(second.status.conditions, NAMES_ACCEPTED)
    assert refused is not None
    assert (refused.reason, refused.message) == ("ShortNamesConflict", '"th" is already in use')
    assert not Definition.of(second).served
    # What was accepted stays served, whatever it asks for next.
    first.spec.names.shortNames.append("ot")
    second.spec.names.shortNames[:] = ["ot"]
    lifecycle.settle(second, [first])
    lifecycle.settle(first, [second])
    assert is_true(first, ESTABLISHED)
    assert not is_true(first, NAMES_ACCEPTED)
    assert list(first.status.acceptedNames.shortNames) == ["th"]
    assert Definition.of(first).info(Definition.of(first).served[0]).short_names == ("th",)


def test_versions_are_ranked_as_kubernetes_does() -> None:
    ranked = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]
    assert preferred_first(sorted(ranked, reverse=True)) == ranked
