"""What a kube-apiserver wrote, and under which key: the same requests end under the same keys here.

tests/fixtures/golden/keys.json.gz holds, of each recorded create of a built-in kind in an API version that is still
served: the request and etcd's key. A name that the server made up is compared by what comes before it.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from real_apiserver import Etcd

from tillerman.api.scheme import SCHEME
from tillerman.api.status import StatusError
from tillerman.client import Client
from tillerman.pb.etcd import rpc_pb2, rpc_pb2_grpc

FIXTURE = Path(__file__).parents[1] / "fixtures" / "golden" / "keys.json.gz"


def recorded() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(gzip.decompress(FIXTURE.read_bytes()))
    return cases


async def stored_keys(etcd: Etcd) -> set[str]:
    async with grpc.aio.insecure_channel(etcd.address) as channel:
        request = rpc_pb2.RangeRequest(key=b"/registry/", range_end=b"/registry0", keys_only=True)
        return {kv.key.decode() for kv in (await rpc_pb2_grpc.KVStub(channel).Range(request)).kvs}


async def test_requests_are_stored_under_the_recorded_keys(client: Client, etcd: Etcd) -> None:
    cases = recorded()
    assert len(cases) > 100
    before, wrong = await stored_keys(etcd), []
    for case in cases:
        request = case["request"]
        info = SCHEME.by_kind(request["apiVersion"], request["kind"])
        objects = client.dynamic(info.api_version, info.resource, info.namespaced)
        try:
            made = await objects.create(request, case["namespace"] or None)
        except StatusError as error:
            if error.reason != "AlreadyExists" or case["key"] not in before:
                wrong.append(f"{case['name']}: {error}")
            continue
        wanted, made_up = case["key"], request["metadata"].get("generateName")
        if made_up and not request["metadata"].get("name"):
            wanted = wanted[: wanted.rindex("/") + 1] + made["metadata"]["name"]
        if wanted not in await stored_keys(etcd):
            wrong.append(f"{case['name']}: nothing under {wanted}")
    if wrong:
        pytest.fail("\n".join(wrong))
