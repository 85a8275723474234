"""Clients, watchers and readers while apiservers and etcd are killed; what they saw is kept for the model."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc
import orjson
from apiserver_process import ApiserverProcess
from model import DELETED, History, Key, Operation, Seen, Selects, Stretch, Version, version_of
from real_apiserver import Etcd

from tests.integration.etcd_decoder import decode, unwrap
from tillerman.api.status import StatusError
from tillerman.client import Client
from tillerman.pb.api import objects_pb2 as pb
from tillerman.pb.etcd import rpc_pb2, rpc_pb2_grpc
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import meta_v1_pb2

NAMESPACES = ("model-a", "model-b")
NAMES = ("k0", "k1", "k2", "k3", "k4")
COLORS = ("red", "blue")
PREFIX = b"/registry/configmaps/model-"
CALL_SECONDS = 25.0
TYPE_URL = "type.googleapis.com/k8s.io.api.core.v1.ConfigMap"
# Refusals that say for sure that nothing was written.
REFUSALS = frozenset({"NotFound", "AlreadyExists", "Conflict", "Invalid", "BadRequest", "TooManyRequests"})


def config_map(key: Key, labels: dict[str, str], data: dict[str, str], revision: int = 0) -> core.ConfigMap:
    obj = core.ConfigMap()
    obj.metadata.namespace, obj.metadata.name = key
    obj.metadata.labels.update(labels)
    obj.data.update(data)
    if revision:
        obj.metadata.resourceVersion = str(revision)
    return obj


def target(key: Key) -> pb.Target:
    return pb.Target(api_version="v1", resource="configmaps", namespace=key[0], name=key[1])


@dataclass(frozen=True)
class Selection:
    """What a watcher asks for, and the same as a function."""

    name: str
    namespace: str
    label_selector: str
    field_selector: str
    test: Selects

    def selects(self, version: Version) -> bool:
        # Other namespaces have ConfigMaps too.
        return version.key[0] in NAMESPACES and self.test(version)


SELECTIONS = (
    Selection("all", "", "", "", lambda version: True),
    Selection("namespace", NAMESPACES[0], "", "", lambda version: version.key[0] == NAMESPACES[0]),
    Selection("label", "", "color=red", "", lambda version: version.labels.get("color") == "red"),
    Selection("not", "", "color notin (red)", "", lambda version: version.labels.get("color") != "red"),
    Selection("name", NAMESPACES[1], "", "metadata.name=k1", lambda version: version.key == (NAMESPACES[1], "k1")),
    Selection("everywhere", "", "", "metadata.name=k2", lambda version: version.key[1] == "k2"),
)


class Clock:
    """The largest revision that anybody has been told of."""

    def __init__(self) -> None:
        self.revision = 0

    def told(self, revision: int) -> None:
        self.revision = max(self.revision, revision)


class Servers:
    """Two apiservers over one etcd, and the channels to them, which outlive their restarts."""

    def __init__(self, servers: list[ApiserverProcess]) -> None:
        self.servers = servers
        self.channels = [server.channel() for server in servers]
        self.clients = [Client(channel) for channel in self.channels]

    async def close(self) -> None:
        for client in self.clients:
            await client.close()


# -- what etcd says ----------------------------------------------------------------------------------------------------


class Recorder:
    """etcd's own history of the test's keys, watched without the project's code."""

    def __init__(self, etcd: Etcd) -> None:
        self.history = History()
        self.revision = 0
        self._etcd = etcd

    async def run(self) -> None:
        while True:
            try:
                async with grpc.aio.insecure_channel(
                    self._etcd.address, options=[("grpc.use_local_subchannel_pool", 1)]
                ) as channel:
                    await self._follow(rpc_pb2_grpc.WatchStub(channel).Watch())
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)

    async def _follow(self, call: Any) -> None:
        create = rpc_pb2.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=self.revision + 1)
        await call.write(rpc_pb2.WatchRequest(create_request=create))
        async for response in call:
            assert not response.canceled, f"the recorder lost etcd's history: {response}"
            for event in response.events:
                self._record(event)
            if response.events:
                self.revision = max(self.revision, response.events[-1].kv.mod_revision)

    def _record(self, event: Any) -> None:
        pair = event.kv
        if pair.mod_revision <= self.revision or not pair.key.startswith(PREFIX):
            return
        _, _, _, namespace, name = pair.key.decode().split("/")
        self.history.add(pair.mod_revision, (namespace, name), None if event.type else stored(pair))


def stored(pair: Any) -> Version:
    found = decode(unwrap(pair.value)[2], "k8s.io.api.core.v1.ConfigMap")
    return Version(
        (found.get("metadata.namespace"), found.get("metadata.name")),
        pair.mod_revision,
        found.get("metadata.uid"),
        found.get("metadata.labels", {}),
        found.get("data", {}),
    )


# -- writers -----------------------------------------------------------------------------------------------------------


class Writer:
    """One client: random operations, one after the other, now and then a batch."""

    def __init__(self, name: str, random: Random, servers: Servers, clock: Clock, log: list[Operation]) -> None:
        self._name = name
        self._random = random
        self._servers = servers
        self._clock = clock
        self._log = log
        self._number = 0
        self._known: dict[Key, Version] = {}

    async def run(self, until: asyncio.Event) -> None:
        while not until.is_set():
            client = self._random.choice(self._servers.clients)
            if self._random.random() < 0.15:
                await self._batch(client)
            else:
                operation = self._operation()
                await self._call(client, operation)
            await asyncio.sleep(self._random.choice((0, 0, 0.005, 0.02)))

    def _operation(self) -> Operation:
        random = self._random
        self._number += 1
        key = (random.choice(NAMESPACES), random.choice(NAMES))
        read = self._known.get(key)
        verb = random.choice(("create", "update", "update", "merge", "json", "delete")) if read else "create"
        labels = {"color": random.choice(COLORS)} if random.random() < 0.8 else {}
        operation = Operation(f"{self._name}-{self._number}", verb, key, labels, known_before=self._clock.revision)
        if verb == "update":
            operation.read = read
            operation.data = {"n": str(self._number)}
        elif verb == "delete" and random.random() < 0.5:
            operation.read = read
        self._log.append(operation)
        return operation

    def _request(self, operation: Operation) -> tuple[str, Any]:
        key = operation.key
        match operation.verb:
            case "create" | "update":
                data = {**operation.data, "token": operation.token}
                revision = operation.read.revision if operation.read else 0
                made: Any = pb.CreateRequest if operation.verb == "create" else pb.UpdateRequest
                request = made(target=target(key))
                request.object.type_url = TYPE_URL
                request.object.value = config_map(key, operation.labels, data, revision).SerializeToString()
                if operation.verb == "create":
                    request.target.name = ""
                return operation.verb.title(), request
            case "delete":
                request = pb.DeleteRequest(target=target(key))
                if operation.read is not None:
                    request.options.preconditions.resourceVersion = str(operation.read.revision)
                return "Delete", request
            case "merge":
                content = {"metadata": {"labels": operation.labels}, "data": {"token": operation.token}}
                kind = "application/merge-patch+json"
                return "Patch", pb.PatchRequest(target=target(key), patch_type=kind, patch=orjson.dumps(content))
        steps = [
            f'{{"op":"add","path":"/data/{operation.token}","value":"here"}}',
            f'{{"op":"add","path":"/data/token","value":"{operation.token}"}}',
        ]
        patch = f"[{','.join(steps)}]".encode()
        return "Patch", pb.PatchRequest(target=target(key), patch_type="application/json-patch+json", patch=patch)

    async def _call(self, client: Client, operation: Operation) -> None:
        method, request = self._request(operation)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                answer = await client.caller.unary(method, "configmaps", request)
        except (StatusError, TimeoutError) as error:
            self._refused(operation, error)
            await self._look(client, operation.key)
        else:
            self._done(operation, answer.object)

    async def _look(self, client: Client, key: Key) -> None:
        """What somebody else has made of an object."""
        try:
            found = await client.resource(core.ConfigMap).get(key[1], key[0])
        except StatusError:
            await asyncio.sleep(self._random.choice((0.01, 0.1)))
        else:
            self._known[key] = version_of(found)

    def _refused(self, operation: Operation, error: BaseException) -> None:
        operation.why = str(error)[:160]
        self._known.pop(operation.key, None)
        if isinstance(error, StatusError) and error.reason in REFUSALS:
            operation.outcome = "refused"

    def _done(self, operation: Operation, packed: Any) -> None:
        operation.outcome = "done"
        if operation.verb == "delete":
            self._known.pop(operation.key, None)
            if packed.type_url == TYPE_URL:
                operation.result = version_of(core.ConfigMap.FromString(packed.value))
            else:
                uid = meta_v1_pb2.Status.FromString(packed.value).details.uid
                operation.result = Version(operation.key, 0, uid, {}, {})
            return
        assert packed.type_url == TYPE_URL
        operation.result = self._known[operation.key] = version_of(core.ConfigMap.FromString(packed.value))
        self._clock.told(operation.result.revision)

    async def _batch(self, client: Client) -> None:
        """Several operations in one call: they come to etcd together and share a revision."""
        operations = [self._operation() for _ in range(self._random.randrange(2, 6))]
        request = pb.BatchRequest()
        for operation in operations:
            method, made = self._request(operation)
            getattr(request.operations.add(), method.lower()).CopyFrom(made)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                answer = await client.caller.unary("Batch", "configmaps", request)
        except (StatusError, TimeoutError) as error:
            for operation in operations:
                self._refused(operation, error)
            return
        for operation, outcome in zip(operations, answer.outcomes, strict=True):
            if outcome.WhichOneof("outcome") == "failure":
                self._refused(operation, StatusError(outcome.failure))
            else:
                self._done(operation, outcome.object)


# -- watchers ----------------------------------------------------------------------------------------------------------


class Watcher:
    """Lists, watches, resumes after every break at the last revision that it was told of, lists again on Expired."""

    def __init__(self, name: str, selection: Selection, random: Random, servers: Servers, clock: Clock) -> None:
        self.name = f"{selection.name} watcher {name}"
        self.selection = selection
        self.stretches: list[Stretch] = []
        self.expired = 0
        self.resumed = 0
        self._random = random
        self._servers = servers
        self._clock = clock

    @property
    def upto(self) -> int:
        return self.stretches[-1].upto if self.stretches else 0

    async def run(self) -> None:
        while True:
            try:
                client = self._random.choice(self._servers.clients)
                if not self.stretches:
                    await self._list(client)
                await self._watch(client)
                self.resumed += 1
            except StatusError as error:
                self._note(f"{error.reason}: {error.message[:100]}")
                if error.reason in ("Expired", "Gone"):
                    self.expired += 1
                    with contextlib.suppress(StatusError):
                        await self._list(self._random.choice(self._servers.clients))
                elif error.reason not in ("ServiceUnavailable", "Timeout", "InternalError", "ServerTimeout"):
                    raise
                await asyncio.sleep(self._random.choice((0.02, 0.1)))

    def _note(self, text: str) -> None:
        if self.stretches:
            self.stretches[-1].notes.append(f"at {self.upto}: {text}")

    async def _list(self, client: Client) -> None:
        chosen = self.selection
        listed = await client.resource(core.ConfigMap).list(
            chosen.namespace or None, label_selector=chosen.label_selector, field_selector=chosen.field_selector
        )
        revision = int(listed.resource_version)
        items = [version for item in listed.items if (version := version_of(item)).key[0] in NAMESPACES]
        self._clock.told(revision)
        self.stretches.append(Stretch(revision, items, upto=revision))

    async def _watch(self, client: Client) -> None:
        """Until the stream ends; sometimes it is left early, sometimes it is not read for a while."""
        chosen, stretch = self.selection, self.stretches[-1]
        batches = client.resource(core.ConfigMap).watch_batches(
            chosen.namespace or None,
            resource_version=str(stretch.upto),
            label_selector=chosen.label_selector,
            field_selector=chosen.field_selector,
        )
        self._note("watches")
        leave = self._random.randrange(5, 200)
        async with contextlib.aclosing(batches):
            async for batch in batches:
                for event in batch:
                    revision = int(event.resource_version)
                    version = version_of(event.object)
                    if event.type != "BOOKMARK" and version.key[0] in NAMESPACES:
                        stretch.events.append(Seen(event.type, version))
                    if event.type != DELETED:
                        self._clock.told(revision)
                    stretch.upto = max(stretch.upto, revision)
                leave -= len(batch)
                if leave <= 0:
                    self._note("leaves")
                    if self._random.random() < 0.5:
                        await asyncio.sleep(self._random.random() * 3)
                    return


# -- readers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Read:
    """A list (all pages of it) at a revision. ``known_before``: what it must not be older than."""

    name: str
    revision: int
    items: list[Version]
    selection: Selection
    known_before: int = 0


class Reader:
    """Lists in one piece, in pages, and at past revisions, while others write."""

    def __init__(self, random: Random, servers: Servers, clock: Clock) -> None:
        self.reads: list[Read] = []
        self._random = random
        self._servers = servers
        self._clock = clock

    async def run(self, until: asyncio.Event) -> None:
        while not until.is_set():
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    await self._read()
            except (StatusError, TimeoutError):
                await asyncio.sleep(0.05)
            await asyncio.sleep(self._random.choice((0.01, 0.1)))

    async def _read(self) -> None:
        random = self._random
        chosen = random.choice(SELECTIONS)
        known = self._clock.revision
        options: dict[str, Any] = {}
        name = random.choice(("list", "pages", "past"))
        if name == "pages":
            options = {"limit": random.choice((1, 2, 3))}
        elif name == "past" and known > 30:
            revision = known - random.randrange(30)
            options = {"resource_version": str(revision), "resource_version_match": "Exact"}
            known = 0
        items: list[Version] = []
        revision, token = 0, ""
        while True:
            page = (
                await random.choice(self._servers.clients)
                .resource(core.ConfigMap)
                .list(
                    chosen.namespace or None,
                    label_selector=chosen.label_selector,
                    field_selector=chosen.field_selector,
                    continue_token=token,
                    **options,
                )
            )
            items += [version for item in page.items if (version := version_of(item)).key[0] in NAMESPACES]
            assert revision in (0, int(page.resource_version)), "the pages of a list have different revisions"
            revision, token = int(page.resource_version), page.continue_token
            options = {"limit": options["limit"]} if "limit" in options else {}
            if not token:
                break
        self.reads.append(Read(name, revision, items, chosen, known))


# -- crashes -----------------------------------------------------------------------------------------------------------


class Crashes:
    """Kills and restarts, and compacts etcd in between. ``tally``: how often what was done."""

    def __init__(self, random: Random, etcd: Etcd, servers: Servers, recorder: Recorder) -> None:
        self.tally: dict[str, int] = {}
        self._random = random
        self._etcd = etcd
        self._servers = servers
        self._recorder = recorder

    async def run(self, until: asyncio.Event) -> None:
        while not until.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(until.wait(), self._random.uniform(0.2, 2))
            what: Callable[[], Any] = self._random.choice(
                (self._apiserver, self._apiserver, self._store, self._compact, self._compact)
            )
            self.tally[what.__name__.strip("_")] = self.tally.get(what.__name__.strip("_"), 0) + 1
            await what()
        for server in self._servers.servers:
            if not server.running:
                await asyncio.to_thread(server.start)

    async def _apiserver(self) -> None:
        server = self._random.choice(self._servers.servers)
        server.kill()
        await asyncio.sleep(self._random.choice((0, 0.2)))
        await asyncio.to_thread(server.start, wait=self._random.random() < 0.7)

    async def _store(self) -> None:
        self._etcd.kill()
        await asyncio.sleep(self._random.choice((0, 0.1, 0.5)))
        await asyncio.to_thread(self._etcd.start)

    async def _compact(self) -> None:
        revision = self._recorder.revision - self._random.choice((0, 0, 20))
        if revision <= 0:
            return
        with contextlib.suppress(grpc.aio.AioRpcError):
            async with grpc.aio.insecure_channel(self._etcd.address) as channel:
                request = rpc_pb2.CompactionRequest(revision=revision)
                await rpc_pb2_grpc.KVStub(channel).Compact(request, timeout=5)


@contextlib.asynccontextmanager
async def running(servers: Servers) -> AsyncIterator[None]:
    """The namespaces, made once."""
    for name in NAMESPACES:
        namespace = core.Namespace()
        namespace.metadata.name = name
        servers.clients[0].caller.wait_for_ready = True
        await servers.clients[0].resource(core.Namespace).create(namespace)
    servers.clients[0].caller.wait_for_ready = False
    try:
        yield
    finally:
        await servers.close()
