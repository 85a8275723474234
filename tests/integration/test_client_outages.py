"""The client library against real processes that are killed: what is told to handlers stays exact."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tillerman.api.status import StatusError, is_already_exists, is_not_found
from tillerman.client import (
    BatchOp,
    Client,
    ClientConfig,
    EventRecorder,
    Informer,
    InformerFactory,
    LeaderElector,
)
from tillerman.pb.k8s import coordination_v1_pb2 as coordination
from tillerman.pb.k8s import core_v1_pb2 as core


class ApiserverProcess:
    """An API server of its own process on a fixed port, in plain text."""

    def __init__(self, etcd_address: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._etcd = etcd_address
        self._log = folder / "apiserver.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        argv = ["-m", "services.apiserver", "--insecure", f"--port={self.port}", f"--etcd-servers={self._etcd}"]
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(sys.executable, *argv, stderr=log)

    async def kill(self) -> None:
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            await self._process.wait()
            self._process = None

    def client(self) -> Client:
        config = ClientConfig([f"127.0.0.1:{self.port}"], insecure=True)
        return Client.from_config(config, field_manager="test", wait_for_ready=True)


class Told:
    """Checks every handler call against those before it, and adds them up."""

    def __init__(self, informer: Informer[core.ConfigMap]) -> None:
        self.state: dict[str, core.ConfigMap] = {}
        self.wrong: list[str] = []
        self.calls = 0
        informer.add_handler(on_add=self.added, on_update=self.updated, on_delete=self.deleted)

    def added(self, new: core.ConfigMap) -> None:
        self.calls += 1
        if new.metadata.name in self.state:
            self.wrong.append(f"{new.metadata.name} added twice")
        self.state[new.metadata.name] = new

    def updated(self, old: core.ConfigMap, new: core.ConfigMap) -> None:
        self.calls += 1
        if self.state.get(new.metadata.name) is not old:
            self.wrong.append(f"{new.metadata.name} updated from a state nobody was told of")
        if int(new.metadata.resourceVersion) <= int(old.metadata.resourceVersion):
            self.wrong.append(f"{new.metadata.name} went back in time")
        self.state[new.metadata.name] = new

    def deleted(self, last: core.ConfigMap) -> None:
        self.calls += 1
        if self.state.pop(last.metadata.name, None) is None:
            self.wrong.append(f"{last.metadata.name} deleted, but never added")


@pytest.fixture
async def apiserver_process(etcd: Any, tmp_path: Path) -> AsyncIterator[ApiserverProcess]:
    process = ApiserverProcess(etcd.address, tmp_path)
    await process.start()
    yield process
    await process.kill()


async def write_for(client: Client, seconds: float, *, seed: int) -> None:
    """Creates, changes and deletes config maps, whatever the server does meanwhile."""
    chance = random.Random(seed)
    maps = client.resource(core.ConfigMap)
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        name = f"cm-{seed}-{chance.randrange(15)}"
        obj = core.ConfigMap()
        obj.metadata.name, obj.metadata.namespace = name, "default"
        obj.data["n"] = str(chance.random())
        try:
            match chance.randrange(4):
                case 0:
                    await maps.delete(name)
                case 1:
                    await maps.patch(name, "default", {"data": {"n": obj.data["n"]}})
                case _:
                    await maps.create(obj)
        except StatusError as error:
            if not (is_not_found(error) or is_already_exists(error)):
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def informers_of(client: Client) -> AsyncIterator[InformerFactory]:
    factory = InformerFactory(client)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(_hold(factory))
        await asyncio.sleep(0)
        try:
            yield factory
        finally:
            running.cancel()


async def _hold(factory: InformerFactory) -> None:
    async with asyncio.TaskGroup() as group:
        await factory.start(group)
        await asyncio.sleep(3600)


async def eventually(check: Any, seconds: float = 20) -> None:
    """Polls: what is waited for is the state of another process."""
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_an_informer_stays_exact_while_apiserver_and_etcd_are_killed(
    apiserver_process: ApiserverProcess, etcd: Any
) -> None:
    async with asyncio.timeout(90), apiserver_process.client() as client, informers_of(client) as factory:
        informer = factory.informer(core.ConfigMap, namespace="default")
        told = Told(informer)
        await factory.wait_synced()
        writers = [asyncio.create_task(write_for(client, 9, seed=n)) for n in range(3)]
        for _ in range(3):
            await asyncio.sleep(1.2)
            await apiserver_process.kill()
            await asyncio.sleep(0.2)
            await apiserver_process.start()
        await asyncio.sleep(1.5)
        etcd.kill()
        await asyncio.sleep(0.3)
        await asyncio.to_thread(etcd.start)
        await asyncio.gather(*writers)

        async def agrees() -> bool:
            listed = await client.resource(core.ConfigMap).list("default")
            truth = {o.metadata.name: o.metadata.resourceVersion for o in listed.items}
            cached = {o.metadata.name: o.metadata.resourceVersion for o in informer.list()}
            return truth == cached == {name: o.metadata.resourceVersion for name, o in told.state.items()}

        await eventually(agrees)
        assert told.wrong == []
        assert told.calls > 100


async def test_calls_wait_for_an_api_server_that_is_away(apiserver_process: ApiserverProcess) -> None:
    async with asyncio.timeout(60), apiserver_process.client() as client:
        await client.resource(core.Namespace).get("default")
        await apiserver_process.kill()
        waiting = asyncio.create_task(client.resource(core.Namespace).get("default"))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await apiserver_process.start()
        assert (await waiting).metadata.name == "default"
        await apiserver_process.kill()
        client.caller.wait_for_ready = False
        with pytest.raises(StatusError) as refused:
            await client.resource(core.Namespace).get("default")
        assert refused.value.reason == "ServiceUnavailable"


async def test_leadership_changes_hands_and_survives_a_restart_of_the_api_server(
    apiserver_process: ApiserverProcess,
) -> None:
    leading: list[str] = []

    async def lead(client: Client, name: str) -> None:
        async def work() -> None:
            leading.append(name)
            assert len(leading) == 1
            try:
                await asyncio.sleep(3600)
            finally:
                leading.remove(name)

        elector = LeaderElector(client, "test-boss", identity=name, lease_seconds=6, renew=5, retry=0.2)
        await elector.run(work)

    async with asyncio.timeout(60), apiserver_process.client() as client:
        first = asyncio.create_task(lead(client, "first"))

        async def is_leading(name: str) -> bool:
            return leading == [name]

        await eventually(lambda: is_leading("first"))
        second = asyncio.create_task(lead(client, "second"))
        await apiserver_process.kill()
        await apiserver_process.start()
        await client.resource(core.Namespace).get("default")
        await asyncio.sleep(1)
        assert leading == ["first"], (first, second)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await eventually(lambda: is_leading("second"), 3)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)


async def test_events_are_stored_and_counted(apiserver_process: ApiserverProcess) -> None:
    async with asyncio.timeout(60), apiserver_process.client() as client:
        made = core.ConfigMap()
        made.metadata.generateName, made.metadata.namespace = "about-", "default"
        made = await client.resource(core.ConfigMap).create(made)
        recorder = EventRecorder(client, "tester", "here")
        for _ in range(3):
            recorder.event(made, "Warning", "Odd", "something is odd")
            await recorder.flush()
        found = await client.resource(core.Event).list(
            "default", field_selector=f"involvedObject.name={made.metadata.name}"
        )
        [event] = found.items
        assert (event.reason, event.count, event.source.component) == ("Odd", 3, "tester")
        assert event.involvedObject.kind == "ConfigMap"


async def test_batches_have_an_outcome_each_and_dicts_travel_as_json(apiserver_process: ApiserverProcess) -> None:
    async with asyncio.timeout(60), apiserver_process.client() as client:
        one = core.ConfigMap()
        one.metadata.name, one.metadata.namespace = "batch-one", "default"
        made, again, missing = await client.batch(
            [
                BatchOp.create(one),
                BatchOp.create(one),
                BatchOp.delete(core.ConfigMap, "batch-none", "default"),
            ]
        )
        assert isinstance(made, core.ConfigMap) and made.metadata.uid
        assert isinstance(again, StatusError) and again.reason == "AlreadyExists"
        assert isinstance(missing, StatusError) and missing.reason == "NotFound"
        dynamic = client.dynamic("v1", "configmaps", True)
        stored = await dynamic.create(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "from-json"}, "data": {"a": "b"}}, "default"
        )
        assert stored["kind"] == "ConfigMap" and stored["data"] == {"a": "b"}
        assert (await dynamic.get("from-json", "default"))["metadata"]["uid"] == stored["metadata"]["uid"]
        with pytest.raises(StatusError) as refused:
            await dynamic.create(
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "dta": {}},
                "default",
                field_validation="Strict",
            )
        assert 'unknown field "dta"' in str(refused.value)


async def test_an_object_is_found_after_each_restart_of_the_api_server(apiserver_process: ApiserverProcess) -> None:
    async with asyncio.timeout(60), apiserver_process.client() as client:
        leases = client.resource(coordination.Lease)
        lease = coordination.Lease()
        lease.metadata.name, lease.metadata.namespace = "kept", "kube-system"
        await leases.create(lease)
        for _ in range(3):
            await apiserver_process.kill()
            await apiserver_process.start()
            assert (await leases.get("kept", "kube-system")).metadata.name == "kept"
            assert "kept" in [found.metadata.name for found in (await leases.list("kube-system")).items]
