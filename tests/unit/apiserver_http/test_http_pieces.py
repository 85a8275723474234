"""Lists in pieces are the same bytes as whole."""

from __future__ import annotations

import orjson
import pytest

from services.apiserver.cache.entry import Entry, ProtoFramer
from services.apiserver.fronts.http import content, pieces
from services.apiserver.fronts.http.content import Accept, Answer
from tillerman.api import envelope
from tillerman.api.scheme import SCHEME
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import runtime_pb2

INFO = SCHEME.by_resource("v1", "configmaps")
FRAMER = ProtoFramer(core.ConfigMap, INFO.type_url, "v1", "ConfigMap")
NONE, ONE, MANY = 0, 1, pieces.WHOLE + 77


def entries(count: int) -> list[Entry]:
    found = []
    for number in range(count):
        obj = core.ConfigMap()
        obj.metadata.name = f"c{number:05}"
        obj.data["n"] = "x" * (number % 300)
        found.append(Entry(FRAMER, f"/registry/configmaps/default/{number}", obj.SerializeToString(), number + 1))
    return found


def body(answer: Answer) -> bytes:
    return answer.body + b"".join(answer.rest or ())


@pytest.mark.parametrize("count", [NONE, ONE, pieces.WHOLE, MANY])
def test_json(count: int) -> None:
    answer = content.many(INFO, entries(count), Accept(), revision=9)
    assert (answer.rest is not None) == (count > pieces.WHOLE)
    found = orjson.loads(body(answer))
    assert found["kind"] == "ConfigMapList" and found["metadata"] == {"resourceVersion": "9"}
    assert [item["metadata"]["name"] for item in found["items"]] == [f"c{i:05}" for i in range(count)]


@pytest.mark.parametrize("count", [NONE, ONE, MANY])
def test_protobuf(count: int) -> None:
    answer = content.many(INFO, entries(count), Accept(content.PROTOBUF), revision=9)
    raw = body(answer)
    unknown = runtime_pb2.Unknown.FromString(raw[len(envelope.MAGIC) :])
    found = core.ConfigMapList.FromString(unknown.raw)
    assert raw == envelope.wrap("v1", "ConfigMapList", unknown.raw)
    assert found.metadata.resourceVersion == "9"
    assert [(i.metadata.name, i.metadata.resourceVersion) for i in found.items] == [
        (f"c{n:05}", str(n + 1)) for n in range(count)
    ]


@pytest.mark.parametrize("count", [ONE, MANY])
def test_metadata_alone(count: int) -> None:
    answer = content.many(INFO, entries(count), Accept(shape="PartialObjectMetadataList"), revision=9)
    found = orjson.loads(body(answer))
    assert len(found["items"]) == count and "data" not in found["items"][0]
