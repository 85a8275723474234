"""What is wrong with a question about access."""

from __future__ import annotations

from typing import Any

import pytest

from services.apiserver.auth.reviews import review_faults
from tillerman.api import codec
from tillerman.pb.k8s import authorization_v1_pb2

GET, PATH = {"verb": "get", "resource": "pods"}, {"verb": "get", "path": "/x"}


def review(spec: dict[str, Any], metadata: dict[str, Any] | None = None) -> Any:
    return codec.from_dict({"metadata": metadata or {}, "spec": spec}, authorization_v1_pb2.SubjectAccessReview)


@pytest.mark.parametrize(
    ("spec", "metadata", "fields"),
    [
        ({"user": "u", "resourceAttributes": GET}, {}, []),
        ({"groups": ["g"], "nonResourceAttributes": PATH}, {"managedFields": [{"manager": "m"}]}, []),
        ({"resourceAttributes": GET}, {}, ["spec.user"]),
        ({"user": "u"}, {}, ["spec.resourceAttributes"]),
        ({}, {}, ["spec.resourceAttributes", "spec.user"]),
        ({"user": "u", "resourceAttributes": {}, "nonResourceAttributes": {}}, {}, ["spec.nonResourceAttributes"]),
        ({"user": "u", "resourceAttributes": GET}, {"name": "x"}, ["metadata"]),
        ({"user": "u", "resourceAttributes": GET}, {"namespace": "x"}, ["metadata"]),
        ({"user": "u", "resourceAttributes": GET}, {"labels": {"a": "b"}}, ["metadata"]),
    ],
)
def test_reviews_of_the_cluster(spec: dict[str, Any], metadata: dict[str, Any], fields: list[str]) -> None:
    assert [cause.field for cause in review_faults(review(spec, metadata), local=False, needs_user=True)] == fields


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"user": "u", "resourceAttributes": {**GET, "namespace": "n"}}, []),
        ({"user": "u", "resourceAttributes": GET}, ["spec.resourceAttributes.namespace"]),
        ({"user": "u", "resourceAttributes": {**GET, "namespace": "o"}}, ["spec.resourceAttributes.namespace"]),
        ({"user": "u", "nonResourceAttributes": PATH}, ["spec.nonResourceAttributes"]),
        ({"user": "u"}, ["spec.resourceAttributes"]),
    ],
)
def test_reviews_of_a_namespace(spec: dict[str, Any], fields: list[str]) -> None:
    asked = review(spec, {"namespace": "n"})
    assert [cause.field for cause in review_faults(asked, local=True, needs_user=True)] == fields


def test_empty_fields_are_no_metadata() -> None:
    asked = review({"resourceAttributes": GET})
    asked.metadata.name = asked.metadata.namespace = asked.metadata.uid = ""
    asked.metadata.generation = 0
    asked.metadata.creationTimestamp.SetInParent()
    assert review_faults(asked, local=False, needs_user=False) == []
