"""What a namespace that is being deleted says about why it is still there."""

from __future__ import annotations

from services.controller.namespace import Remaining, conditions


def test_what_remains_is_named_with_its_group_and_each_finalizer_counted() -> None:
    remaining = [
        Remaining("widgets.example.com", 3, {"a.b/c": 2, "d.e/f": 1}),
        Remaining("configmaps.", 1, {"a.b/c": 1}),
    ]
    told = {type: (reason, message) for type, reason, message in conditions(remaining, "")}
    assert told["NamespaceContentRemaining"] == (
        "SomeResourcesRemain",
        "Some resources are remaining: configmaps. has 1 resource instances, "
        "widgets.example.com has 3 resource instances",
    )
    assert told["NamespaceFinalizersRemaining"] == (
        "SomeFinalizersRemain",
        "Some content in the namespace has finalizers remaining: a.b/c in 3 resource instances, "
        "d.e/f in 1 resource instances",
    )


def test_an_empty_namespace_has_no_problem() -> None:
    assert [reason for _, reason, _ in conditions([], "")] == [
        "ResourcesDiscovered",
        "ParsedGroupVersions",
        "ContentDeleted",
        "ContentRemoved",
        "ContentHasNoFinalizers",
    ]
