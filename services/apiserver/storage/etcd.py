"""An etcd v3 client over grpc.aio: one long-lived channel per endpoint, the calls going to the one that answers.

Safe for any number of concurrent callers on one event loop. Calls are retried on another endpoint with backoff while
etcd is unreachable, for at most ``patience`` seconds; a retried write may have been applied by the earlier attempt,
which ``Reply.retried`` tells.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from services.apiserver.storage.errors import RETRYABLE, StorageError, translate
from tillerman.pb.etcd import rpc_pb2

_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    # How long an attempt to connect may take at least.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]

Response = TypeVar("Response")
Observe = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class EtcdTLS:
    """PEM files for mutual TLS with etcd; ``certificate`` and ``key`` may be absent together."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            root_certificates=self.ca.read_bytes(),
            private_key=self.key.read_bytes() if self.key else None,
            certificate_chain=self.certificate.read_bytes() if self.certificate else None,
        )


@dataclass(frozen=True, slots=True)
class Reply(Generic[Response]):
    """A response, and whether an earlier attempt of the same call may have been carried out too."""

    response: Response
    retried: bool


class _Endpoint:
    """One etcd member's channel and the calls on it."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.address = address
        self.channel: Any
        if credentials is None:
            self.channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        else:
            self.channel = grpc.aio.secure_channel(address, credentials, options=_CHANNEL_OPTIONS)
        unary = self._unary
        self.calls: dict[str, Any] = {
            "range": unary("KV/Range", rpc_pb2.RangeRequest, rpc_pb2.RangeResponse),
            "txn": self.channel.unary_unary(
                "/etcdserverpb.KV/Txn", response_deserializer=rpc_pb2.TxnResponse.FromString
            ),
            "compact": unary("KV/Compact", rpc_pb2.CompactionRequest, rpc_pb2.CompactionResponse),
            "leaseGrant": unary("Lease/LeaseGrant", rpc_pb2.LeaseGrantRequest, rpc_pb2.LeaseGrantResponse),
            "leaseRevoke": unary("Lease/LeaseRevoke", rpc_pb2.LeaseRevokeRequest, rpc_pb2.LeaseRevokeResponse),
            "status": unary("Maintenance/Status", rpc_pb2.StatusRequest, rpc_pb2.StatusResponse),
            "defragment": unary("Maintenance/Defragment", rpc_pb2.DefragmentRequest, rpc_pb2.DefragmentResponse),
            "alarm": unary("Maintenance/Alarm", rpc_pb2.AlarmRequest, rpc_pb2.AlarmResponse),
        }
        self.watch: Any = self.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=rpc_pb2.WatchRequest.SerializeToString,
            response_deserializer=rpc_pb2.WatchResponse.FromString,
        )

    def _unary(self, path: str, request: Any, response: Any) -> Any:
        return self.channel.unary_unary(
            f"/etcdserverpb.{path}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )


class EtcdClient:
    """``endpoints``: host:port, all members of one etcd cluster. ``observe(operation, seconds)`` is told of each
    call.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: EtcdTLS | None = None,
        observe: Observe = lambda _operation, _seconds: None,
        patience: float = 10.0,
    ) -> None:
        credentials = tls.credentials() if tls else None
        self._endpoints = [_Endpoint(_host_port(address), credentials) for address in endpoints]
        self._current = 0
        self._observe = observe
        self._patience = patience

    @property
    def addresses(self) -> list[str]:
        return [endpoint.address for endpoint in self._endpoints]

    async def close(self) -> None:
        for endpoint in self._endpoints:
            await endpoint.channel.close(None)

    async def call(self, operation: str, request: Any, *, timeout: float = 5.0) -> Reply[Any]:
        """One unary call. Raises StorageError; StorageUnavailable after ``patience`` seconds of trying.

        An error that may have happened after etcd carried the call out is retried too: see ``Reply.retried``.
        """
        started = time.monotonic()
        delay = 0.02
        retried = False
        while True:
            index = self._current
            endpoint = self._endpoints[index]
            try:
                response = await endpoint.calls[operation](request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                now = time.monotonic()
                if error.code() not in RETRYABLE or now + delay - started > self._patience:
                    self._observe(operation, now - started)
                    raise translate(error) from error
                if index == self._current:
                    self._current = (index + 1) % len(self._endpoints)
                retried = retried or not never_sent(error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, 0.5)
            else:
                self._observe(operation, time.monotonic() - started)
                return Reply(response, retried)

    async def call_member(self, address: str, operation: str, request: Any, *, timeout: float = 30.0) -> Any:
        """One call to one member, never to another. Raises StorageError."""
        endpoint = next(endpoint for endpoint in self._endpoints if endpoint.address == address)
        try:
            return await endpoint.calls[operation](request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error

    def open_watch(self) -> Any:
        """A new watch stream to the endpoint that answers; grpc.aio.AioRpcError surfaces from its reads."""
        return self._endpoints[self._current].watch()

    def fail_over(self) -> None:
        """Sends the calls from now on to the next endpoint."""
        self._current = (self._current + 1) % len(self._endpoints)

    # -- typed calls ---------------------------------------------------------------------------------------------

    async def range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        response: rpc_pb2.RangeResponse = (await self.call("range", request)).response
        return response

    async def txn(self, request: bytes) -> Reply[rpc_pb2.TxnResponse]:
        """``request``: a TxnRequest's bytes."""
        return await self.call("txn", request)

    async def lease_grant(self, ttl_seconds: int) -> int:
        """The id of a new lease."""
        reply = await self.call("leaseGrant", rpc_pb2.LeaseGrantRequest(TTL=ttl_seconds))
        if reply.response.error:
            raise StorageError(f"etcd granted no lease: {reply.response.error}")
        return int(reply.response.ID)

    async def compact(self, revision: int) -> None:
        await self.call("compact", rpc_pb2.CompactionRequest(revision=revision), timeout=60.0)


def never_sent(error: grpc.aio.AioRpcError) -> bool:
    """Whether the call surely did not reach etcd: there was no connection to send it on."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and "failed to connect to all addresses" in (
        error.details() or ""
    )


def _host_port(address: str) -> str:
    return address.removeprefix("https://").removeprefix("http://").rstrip("/")
