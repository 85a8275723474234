"""A server in memory behind the client's interface, and a runner that calls `tiller` against it."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from click.testing import CliRunner, Result
from google.protobuf.message import Message

from tillerman.api import codec, status
from tillerman.api.scheme import SCHEME
from tillerman.api.selectors import parse_field_selector, parse_label_selector
from tillerman.cli import session as sessions
from tillerman.cli.main import tiller
from tillerman.client.resource import ListResult, WatchEvent
from tillerman.pb.api import objects_pb2


class FakeResource:
    """Enough of ResourceClient to read with; objects are messages or dicts."""

    def __init__(self, server: "FakeServer", api_version: str, resource: str, *, typed: bool) -> None:
        self._server, self._of, self._typed = server, (api_version, resource), typed

    def _matching(self, namespace: str | None, label_selector: str, field_selector: str) -> list[Any]:
        labels, fields = parse_label_selector(label_selector), parse_field_selector(field_selector)
        out = []
        for obj in self._server.objects.get(self._of, []):
            metadata = obj["metadata"]

            def value(path: str, obj: dict[str, Any] = obj) -> str:
                found: Any = obj
                for step in path.split("."):
                    found = (found or {}).get(step, "")
                return str(found)

            if namespace not in (None, metadata.get("namespace")):
                continue
            if labels.matches(metadata.get("labels") or {}) and fields.matches(value):
                out.append(codec.from_dict(obj) if self._typed else obj)
        return out

    async def get(self, name: str, namespace: str | None = None) -> Any:
        self._server.calls.append(("get", *self._of, namespace, name))
        for obj in self._matching(namespace, "", f"metadata.name={name}"):
            return obj
        raise status.not_found(self._of[1], name, self._of[0].rpartition("/")[0])

    async def list(
        self,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
    ) -> ListResult[Any]:
        found = self._matching(namespace, label_selector, field_selector)
        begin = int(continue_token or 0)
        end = begin + limit if limit else len(found)
        self._server.calls.append(("list", *self._of, namespace, begin))
        return ListResult(found[begin:end], "100", str(end) if end < len(found) else "")

    async def watch(self, namespace: str | None = None, **_: Any) -> AsyncIterator[WatchEvent[Any]]:
        for kind, obj in self._server.changes:
            yield WatchEvent(kind, codec.from_dict(obj) if self._typed else obj, "101")
        raise KeyboardInterrupt


class FakeServer:
    """`objects` by (apiVersion, resource); `changes` are what a watch sees before the user interrupts it."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.changes: list[tuple[str, dict[str, Any]]] = []
        self.custom: list[objects_pb2.DiscoverResponse.Resource] = []
        self.calls: list[tuple[Any, ...]] = []

    def add(self, *objects: dict[str, Any]) -> None:
        for obj in objects:
            try:
                resource = SCHEME.by_kind(obj["apiVersion"], obj["kind"]).resource
            except LookupError:
                resource = next(r.resource for r in self.custom if r.kind == obj["kind"])
            self.objects.setdefault((obj["apiVersion"], resource), []).append(obj)

    def resource(self, message_type: type[Message]) -> FakeResource:
        info = SCHEME.by_message(message_type)
        return FakeResource(self, info.api_version, info.resource, typed=True)

    def dynamic(self, api_version: str, resource: str, namespaced: bool) -> FakeResource:
        return FakeResource(self, api_version, resource, typed=False)

    async def discover(self) -> list[objects_pb2.DiscoverResponse.Resource]:
        served = [
            objects_pb2.DiscoverResponse.Resource(
                api_version=i.api_version,
                resource=i.resource,
                singular=i.singular,
                short_names=i.short_names,
                kind=i.kind,
                namespaced=i.namespaced,
                verbs=i.verbs,
            )
            for i in SCHEME.resources()
        ]
        return [*served, *self.custom]


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def run(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    @asynccontextmanager
    async def connect(given: dict[str, Any]) -> AsyncIterator[sessions.Session]:
        yield sessions.Session(server, given.get("namespace") or "default", bool(given.get("namespace")))  # type: ignore[arg-type]

    monkeypatch.setattr(sessions, "connect", connect)
    runner = CliRunner()

    def call(*args: str) -> Result:
        return runner.invoke(tiller, list(args))

    yield call


def pod(name: str, namespace: str = "default", **labels: str) -> dict[str, Any]:
    """A running pod of one container."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "labels": labels,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "resourceVersion": "7",
            "managedFields": [{"manager": "m"}],
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "i:1"}]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "containerStatuses": [
                {"name": "c", "ready": True, "restartCount": 0, "state": {"running": {}}, "image": "i:1"}
            ],
        },
    }


@pytest.fixture
def make_pod() -> Callable[..., dict[str, Any]]:
    return pod
