"""Definitions that the tests of custom resources share."""

from __future__ import annotations

import asyncio
from typing import Any

from tillerman.client import Client
from tillerman.client.dynamic import DynamicClient

DEFINITIONS = ("apiextensions.k8s.io/v1", "customresourcedefinitions")
SPEC_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "description": "What is wanted.",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 0, "maximum": 50, "description": "How many there shall be."},
                "color": {"type": "string", "enum": ["red", "green", "blue"], "default": "red"},
                "parts": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "weight": {"type": "integer", "default": 1}},
                    },
                },
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        },
        "status": {
            "type": "object",
            "properties": {
                "size": {"type": "integer"},
                "selector": {"type": "string"},
                "conditions": {
                    "type": "array",
                    "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            },
        },
    },
}


def definition(plural: str = "gizmos", *, scope: str = "Namespaced", **changes: Any) -> dict[str, Any]:
    """A definition in example.org with one version, v1; ``changes`` go over its spec."""
    kind = plural.removesuffix("s").capitalize()
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": SPEC_SCHEMA},
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.size",
                "statusReplicasPath": ".status.size",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        "selectableFields": [{"jsonPath": ".spec.color"}],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.org"},
        "spec": {
            "group": "example.org",
            "scope": scope,
            "names": {"plural": plural, "kind": kind, "shortNames": [plural[:2]], "categories": ["toys"]},
            "versions": [version],
            **changes,
        },
    }


def gizmo(name: str, **spec: Any) -> dict[str, Any]:
    content = {"size": 1, **spec}
    return {"apiVersion": "example.org/v1", "kind": "Gizmo", "metadata": {"name": name}, "spec": content}


def definitions_of(client: Client) -> DynamicClient:
    return client.dynamic(*DEFINITIONS, False)


def gizmos_of(client: Client, version: str = "v1") -> DynamicClient:
    return client.dynamic(f"example.org/{version}", "gizmos", True)


def condition(crd: dict[str, Any], type: str) -> dict[str, Any]:
    found = (c for c in crd.get("status", {}).get("conditions") or () if c["type"] == type)
    return next(found, {"status": "", "reason": ""})


async def establish(client: Client, crd: dict[str, Any]) -> dict[str, Any]:
    """Creates a definition; returns it as soon as it is established."""
    definitions = definitions_of(client)
    created = await definitions.create(crd)
    return await until(client, created, "Established", "True")


async def until(client: Client, crd: dict[str, Any], type: str, status: str) -> dict[str, Any]:
    """The definition once a condition is so."""
    name = crd["metadata"]["name"]
    events = definitions_of(client).watch(field_selector=f"metadata.name={name}")
    async with asyncio.timeout(20):
        async for event in events:
            if condition(event.object, type)["status"] == status:
                return event.object
    raise AssertionError("the watch ended")


async def gone(client: Client, name: str) -> None:
    """Until a definition is no longer stored."""
    await removed(definitions_of(client), name)


async def removed(resource: DynamicClient, name: str) -> None:
    """Until an object is no longer stored."""
    selector = f"metadata.name={name}"
    page = await resource.list(field_selector=selector)
    async with asyncio.timeout(20):
        if page.items:
            async for event in resource.watch(resource_version=page.resource_version, field_selector=selector):
                if event.type == "DELETED":
                    return
