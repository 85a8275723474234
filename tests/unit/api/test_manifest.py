"""Manifests in YAML and JSON."""

import pytest

from tillerman.api.codec import DecodeError
from tillerman.api.manifest import load_documents, to_yaml


def test_documents_and_lists_are_flattened() -> None:
    text = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}
---
---
apiVersion: v1
kind: PodList
items:
- metadata: {name: c}
"""
    found = load_documents(text)
    assert [d["metadata"]["name"] for d in found] == ["a", "b", "c"]
    assert (found[2]["apiVersion"], found[2]["kind"]) == ("v1", "Pod")


def test_json() -> None:
    assert load_documents('{"kind": "Pod", "spec": {"a": 1.5}}') == [{"kind": "Pod", "spec": {"a": 1.5}}]
    assert load_documents("{kind: Pod}") == [{"kind": "Pod"}]


def test_types_are_those_of_json() -> None:
    found = load_documents('a: 2026-01-01\nb: "1"\nc: 1\nd: yes\n1: x\ntrue: y\n')
    assert found == [{"a": "2026-01-01", "b": "1", "c": 1, "d": True, "1": "x", "true": "y"}]


def test_keys_that_stand_twice_are_refused() -> None:
    with pytest.raises(DecodeError, match='yaml: line 3: key "a" already set in map'):
        load_documents("a: 1\nb: 2\na: 3\n")
    with pytest.raises(DecodeError, match=r'duplicate field "spec\.a"'):
        load_documents('{"spec": {"a": 1, "a": 2}}')


def test_text_that_is_no_manifest() -> None:
    with pytest.raises(DecodeError, match="yaml: line 2"):
        load_documents("a: [")
    with pytest.raises(DecodeError, match="must be an object"):
        load_documents("just text")
    assert load_documents("# nothing\n") == []


def test_anchors_and_merges() -> None:
    found = load_documents("base: &b {x: 1}\nother:\n  <<: *b\n  y: 2\n")
    assert found[0]["other"] == {"x": 1, "y": 2}


def test_yaml_is_block_style_and_sorted() -> None:
    data = {"b": [{"x": "1"}], "a": {"text": "one\ntwo\n"}}
    assert to_yaml(data) == "a:\n  text: |\n    one\n    two\nb:\n- x: '1'\n"
    assert load_documents(to_yaml(data)) == [data]
