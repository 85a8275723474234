"""How calls to the API server are made: deadlines, trace context, errors as StatusError, an observer."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import grpc
import grpc.aio

from tillerman.client import trace
from tillerman.pb.api import objects_pb2_grpc

# Told of every unary call: method ("Get"), resource ("pods"), gRPC code name or "OK", seconds.
Observer = Callable[[str, str, str, float], None]

# Seconds; a call that takes longer ends with reason Timeout.
UNARY_TIMEOUT = 60.0


class Caller:
    """The stub of a channel, and how its calls are made.

    With wait_for_ready, a call made while the API server is away waits for it (unary ones for UNARY_TIMEOUT at most)
    instead of failing at once: what a service wants, and a person at a terminal doesn't.
    """

    def __init__(self, channel: grpc.aio.Channel, *, field_manager: str = "", wait_for_ready: bool = False) -> None:
        self.stub = objects_pb2_grpc.ObjectsStub(channel)
        self.field_manager = field_manager
        self.wait_for_ready = wait_for_ready
        self.observer: Observer | None = None

    async def unary(self, method: str, resource: str, request: Any) -> Any:
        """Raises StatusError."""
        began = perf_counter()
        code = "OK"
        try:
            return await getattr(self.stub, method)(
                request, timeout=UNARY_TIMEOUT, metadata=trace.metadata(), wait_for_ready=self.wait_for_ready or None
            )
        except grpc.aio.AioRpcError as error:
            from tillerman.api.rpcstatus import from_rpc

            code = error.code().name
            raise from_rpc(error) from error
        finally:
            if self.observer is not None:
                self.observer(method, resource, code, perf_counter() - began)


class _TranslatedErrors:
    """gRPC errors as StatusError, chained."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, grpc.aio.AioRpcError):
            from tillerman.api.rpcstatus import from_rpc

            raise from_rpc(error) from error


translated_errors = _TranslatedErrors()
