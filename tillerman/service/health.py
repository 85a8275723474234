"""gRPC health (grpc.health.v1) and reflection, both loaded only when someone asks."""

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

_STATES = {
    "serving": health_pb2.HealthCheckResponse.SERVING,
    "not_serving": health_pb2.HealthCheckResponse.NOT_SERVING,
}


class Health:
    """`set("serving")` or `set("not_serving")`: for the whole server and for each of its services."""

    def __init__(self, services: Callable[[], list[str]]) -> None:
        self._services = services
        self._servicer = HealthServicer()
        self._state = "not_serving"

    @property
    def state(self) -> str:
        return self._state

    async def set(self, state: str) -> None:
        self._state = state
        for name in ("", *self._services()):
            await self._servicer.set(name, _STATES[state])

    def register(self, server: Any) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)


class LazyReflection(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Serves grpc.reflection.v1alpha; imports it on the first call."""

    def __init__(self, services: Callable[[], list[str]]) -> None:
        self._services = services
        self._handlers: dict[str, Any] | None = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if not handler_call_details.method.startswith("/grpc.reflection.v1alpha.ServerReflection/"):
            return None
        if self._handlers is None:
            self._handlers = _reflection(self._services())
        return self._handlers.get(handler_call_details.method)


def _reflection(services: list[str]) -> dict[str, Any]:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
    from grpc_reflection.v1alpha._async import ReflectionServicer

    names = [*services, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"]
    servicer = ReflectionServicer(service_names=names)
    collected: dict[str, Any] = {}

    class Collector:
        def add_generic_rpc_handlers(self, handlers: Any) -> None: ...

        def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
            collected.update({f"/{service}/{method}": handler for method, handler in handlers.items()})

    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, Collector())
    assert reflection_pb2
    return collected
