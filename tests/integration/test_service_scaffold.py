"""A service process as it runs: mutual TLS, health, reflection, metrics, signals, and what ends it."""

import asyncio
import json
import os
import signal
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tillerman.client.channel import ClientConfig, open_channel
from tillerman.pb.api import scheduler_pb2, scheduler_pb2_grpc
from tillerman.service.pki import CertificateAuthority, issue, make_ca

SERVICE = textwrap.dedent('''
    """A small scheduler service, whose calls do what their argument says."""
    import asyncio, sys
    from dataclasses import dataclass
    from tillerman.api.status import not_found
    from tillerman.pb.api import scheduler_pb2 as pb, scheduler_pb2_grpc
    from tillerman.service import Component, ServiceOptions, option, run

    @dataclass(kw_only=True)
    class Options(ServiceOptions):
        fail: str = option("", help="How to fail.")

    class Servicer(scheduler_pb2_grpc.SchedulerServicer):
        def __init__(self, runtime):
            self.runtime = runtime

        async def Explain(self, request, context):
            user = self.runtime.peer_identity(context)
            match request.name:
                case "missing":
                    raise not_found("pods", "missing")
                case "bug":
                    raise ZeroDivisionError("a bug")
                case "slow":
                    await asyncio.sleep(30)
                case "token":
                    return pb.ExplainResponse(state=self.runtime.bearer_token(context), node=user.name)
            return pb.ExplainResponse(state=user.name, message=",".join(user.groups))

    async def ends():
        await asyncio.sleep(0.05)

    async def raises():
        await asyncio.sleep(0.05)
        raise RuntimeError("the disk is on fire")

    async def stubborn():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    async def start(runtime):
        runtime.add_servicer(scheduler_pb2_grpc.add_SchedulerServicer_to_server, Servicer(runtime))
        match runtime.options.fail:
            case "start":
                raise RuntimeError("no luck")
            case "ends":
                runtime.task_group.create_task(ends(), name="short-lived")
            case "raises":
                runtime.task_group.create_task(raises(), name="burning")
            case "stubborn":
                runtime.task_group.create_task(stubborn(), name="stubborn")

        async def goodbye():
            runtime.log.info("goodbye")

        runtime.on_shutdown(goodbye)

    sys.exit(run(Component("demo"), options_cls=Options, start=start))
''')


@dataclass
class Service:
    process: asyncio.subprocess.Process
    folder: Path
    port: int
    metrics_port: int
    ca: CertificateAuthority

    def channel(self, *, port: int | None = None, name: str = "alice", groups: tuple[str, ...] = ("admins", "staff"),
                anonymous: bool = False, token: str = "") -> grpc.aio.Channel:  # fmt: skip
        pair = issue(self.ca, name, groups)
        config = ClientConfig(
            servers=[f"127.0.0.1:{port or self.port}"],
            ca=self.ca.pair.certificate,
            cert=None if anonymous else pair.certificate,
            key=None if anonymous else pair.key,
            token=token,
        )
        return open_channel(config)

    async def stop(self, number: int = signal.SIGTERM) -> tuple[int, list[dict[str, object]]]:
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> tuple[int, list[dict[str, object]]]:
        async with asyncio.timeout(15):
            _, err = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, [json.loads(line) for line in err.splitlines() if line.startswith(b"{")]

    async def http(self, path: str) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.metrics_port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        return int(head.split()[1]), body


class Launcher:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = make_ca()
        self.ca.write(folder)
        issue(self.ca, "demo", sans=["127.0.0.1", "localhost", "kubernetes"]).write(folder, "server")
        self.started: list[asyncio.subprocess.Process] = []

    async def process(self, *flags: str) -> asyncio.subprocess.Process:
        tls = [f"--tls-cert-file={self.folder}/server.crt", f"--tls-key-file={self.folder}/server.key",
               f"--client-ca-file={self.folder}/ca.crt"]  # fmt: skip
        script = self.folder / "demo.py"
        script.write_text(SERVICE)
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(script), f"--ready-file={self.folder}/ready", *tls, *flags,
            stderr=asyncio.subprocess.PIPE, cwd=self.folder,
        )  # fmt: skip
        self.started.append(process)
        return process

    async def service(self, *flags: str) -> Service:
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        process = await self.process(*flags)
        async with asyncio.timeout(15):
            while not ready.exists():
                assert process.returncode is None, (await process.communicate())[1]
                await asyncio.sleep(0.02)
        ports = json.loads(ready.read_text())
        return Service(process, self.folder, ports["port"], ports["metrics_port"], self.ca)


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    for process in launcher.started:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_the_peer_is_known_by_its_certificate(launcher: Launcher) -> None:
    service = await launcher.service()
    async with service.channel() as channel:
        answer = await scheduler_pb2_grpc.SchedulerStub(channel).Explain(scheduler_pb2.ExplainRequest(), timeout=5)
    assert answer.state == "alice"
    assert answer.message == "admins,staff,system:authenticated"


@pytest.mark.parametrize("name", ["a,b", "O=system:masters", "x+CN=root", 'quo"te', "back\\slash", "Grüße", "#hash"])
async def test_a_common_name_cannot_pass_for_another_subject(launcher: Launcher, name: str) -> None:
    service = await launcher.service()
    async with service.channel(name=name, groups=("one,two",)) as channel:
        answer = await scheduler_pb2_grpc.SchedulerStub(channel).Explain(scheduler_pb2.ExplainRequest(), timeout=5)
    assert (answer.state, answer.message) == (name, "one,two,system:authenticated")


async def test_a_client_without_certificate_or_of_another_ca_is_refused(launcher: Launcher) -> None:
    service = await launcher.service()
    async with service.channel(anonymous=True) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await scheduler_pb2_grpc.SchedulerStub(channel).Explain(scheduler_pb2.ExplainRequest(), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    stranger = issue(make_ca("another"), "alice")
    config = ClientConfig(
        [f"127.0.0.1:{service.port}"], service.ca.pair.certificate, stranger.certificate, stranger.key
    )
    async with open_channel(config) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await scheduler_pb2_grpc.SchedulerStub(channel).Explain(scheduler_pb2.ExplainRequest(), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_bearer_token_comes_in_by_its_own_port(launcher: Launcher, unused_tcp_port: int) -> None:
    service = await launcher.service(f"--token-port={unused_tcp_port}")
    async with service.channel(port=unused_tcp_port, anonymous=True, token="sesame") as channel:
        stub = scheduler_pb2_grpc.SchedulerStub(channel)
        answer = await stub.Explain(scheduler_pb2.ExplainRequest(name="token"), timeout=5)
    assert (answer.state, answer.node) == ("sesame", "system:anonymous")


async def test_health_and_reflection(launcher: Launcher) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    service = await launcher.service()
    async with service.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "tillerman.v1.Scheduler"):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        names = [s.name async for r in reflection.ServerReflectionInfo(asked) for s in r.list_services_response.service]
    assert "tillerman.v1.Scheduler" in names


async def test_refusals_and_bugs_become_codes_metrics_and_logs(launcher: Launcher) -> None:
    service = await launcher.service()
    async with service.channel() as channel:
        stub = scheduler_pb2_grpc.SchedulerStub(channel)
        trace = (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),)
        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await stub.Explain(scheduler_pb2.ExplainRequest(name="missing"), timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as bug:
            await stub.Explain(scheduler_pb2.ExplainRequest(name="bug"), timeout=5, metadata=trace)
        await stub.Explain(scheduler_pb2.ExplainRequest(), timeout=5)
    from tillerman.api.rpcstatus import from_rpc

    assert missing.value.code() is grpc.StatusCode.NOT_FOUND
    assert from_rpc(missing.value).reason == "NotFound"
    assert bug.value.code() is grpc.StatusCode.INTERNAL
    assert "a bug" not in (bug.value.details() or "")
    status, page = await service.http("/metrics")
    assert status == 200
    of_explain = 'grpc_method="Explain",grpc_service="tillerman.v1.Scheduler",grpc_type="unary"'
    for code in ("NotFound", "Internal", "OK"):
        assert f'grpc_server_handled_total{{grpc_code="{code}",{of_explain}}} 1.0' in page.decode()
    assert f"grpc_server_started_total{{{of_explain}}} 3.0" in page.decode()
    assert "process_resident_memory_bytes" in page.decode()
    assert 'tillerman_build_info{component="demo"' in page.decode()
    exit_code, log = await service.stop()
    assert exit_code == 0
    [failure] = [line for line in log if line["msg"] == "call failed"]
    assert "a bug" in str(failure["exception"])
    assert failure["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


async def test_http_pages(launcher: Launcher) -> None:
    service = await launcher.service()
    assert await service.http("/readyz") == (200, b"ok")
    assert await service.http("/healthz?verbose") == (200, b"ok")
    assert (await service.http("/nothing"))[0] == 404
    reader, writer = await asyncio.open_connection("127.0.0.1", service.metrics_port)
    writer.write(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()
    await writer.wait_closed()


async def test_sigterm_ends_calls_runs_hooks_and_exits_0(launcher: Launcher) -> None:
    service = await launcher.service("--shutdown-grace=200ms")
    async with service.channel() as channel:
        slow = scheduler_pb2_grpc.SchedulerStub(channel).Explain(scheduler_pb2.ExplainRequest(name="slow"))
        await channel.channel_ready()
        await asyncio.sleep(0.1)
        code, log = await service.stop()
        with pytest.raises(grpc.aio.AioRpcError):
            await slow
    assert code == 0
    assert [line["msg"] for line in log][-3:] == ["shutting down", "goodbye", "stopped"]


async def test_open_streams_are_told_and_do_not_delay_the_shutdown(launcher: Launcher) -> None:
    service = await launcher.service("--shutdown-grace=5s")
    async with service.channel() as channel:
        call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
        began = time.monotonic()
        code, _ = await service.stop()
        assert time.monotonic() - began < 2
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            while await call.read() is not grpc.aio.EOF:
                pass
    assert code == 0
    assert (ended.value.code(), ended.value.details()) == (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")


@pytest.mark.parametrize(
    ("flag", "words"),
    [("ends", ("short-lived", "ended")), ("raises", ("burning", "the disk is on fire")), ("start", ("no luck",))],
)
async def test_whatever_ends_a_root_task_ends_the_process_and_says_so(
    launcher: Launcher, flag: str, words: tuple[str, ...]
) -> None:
    process = await launcher.process(f"--fail={flag}")
    async with asyncio.timeout(15):
        _, err = await process.communicate()
    assert process.returncode == 1
    for word in words:
        assert word in err.decode()


async def test_a_task_that_will_not_end_does_not_keep_the_process(launcher: Launcher) -> None:
    service = await launcher.service("--fail=stubborn", "--shutdown-timeout=500ms")
    code, log = await service.stop()
    assert code == 1
    assert any("stubborn" in str(line.get("tasks")) for line in log)


async def test_a_replaced_certificate_is_served_without_a_restart(launcher: Launcher) -> None:
    service = await launcher.service()
    async with service.channel() as before:
        await scheduler_pb2_grpc.SchedulerStub(before).Explain(scheduler_pb2.ExplainRequest(), timeout=5)
        issue(service.ca, "demo-2", sans=["renewed.example"]).write(service.folder, "server")
        pair = issue(service.ca, "bob")
        config = ClientConfig(
            [f"127.0.0.1:{service.port}"], service.ca.pair.certificate, pair.certificate, pair.key,
            server_name="renewed.example",
        )  # fmt: skip
        async with open_channel(config) as after:
            answer = await scheduler_pb2_grpc.SchedulerStub(after).Explain(scheduler_pb2.ExplainRequest(), timeout=5)
        assert answer.state == "bob"
        await scheduler_pb2_grpc.SchedulerStub(before).Explain(scheduler_pb2.ExplainRequest(), timeout=5)


async def test_a_busy_port_and_missing_tls_are_told(launcher: Launcher) -> None:
    service = await launcher.service()
    for flags, words in (
        ([f"--port={service.port}"], "cannot listen on 127.0.0.1"),
        ([f"--metrics-port={service.metrics_port}"], "--metrics-port: cannot listen on"),
        (["--tls-cert-file="], "TLS needs"),
        (["--shutdown-grace=soon"], '--shutdown-grace: "soon" is not a duration'),
    ):
        process = await launcher.process(*flags)
        _, err = await process.communicate()
        assert process.returncode == 2, (flags, err)
        assert words in err.decode()
    assert os.getpid() != service.process.pid
