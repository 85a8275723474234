"""What surrounds every gRPC method of a service: metrics, trace context, errors, logs.

Methods are wrapped once, when they are registered, instead of by an interceptor on every call. A StatusError raised by
a method becomes its gRPC code with the Status attached; any other exception is logged with its traceback and becomes
INTERNAL. Cancellation passes through untouched.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from time import perf_counter
from typing import Any, TypeAlias

import grpc
import grpc.aio

from tillerman.client.trace import HEADER, TRACEPARENT
from tillerman.service.acceptors import Acceptors
from tillerman.service.tally import Counts, Durations

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

STARTED = Counts("grpc_server_started", "RPCs started on the server.", ["grpc_type", "grpc_service", "grpc_method"])
HANDLED = Counts(
    "grpc_server_handled",
    "RPCs completed on the server, regardless of success or failure.",
    ["grpc_type", "grpc_service", "grpc_method", "grpc_code"],
)
HANDLING = Durations(
    "grpc_server_handling_seconds",
    "Response latency of unary RPCs until the response is made; of streams, how long they were open.",
    ["grpc_type", "grpc_service", "grpc_method"],
)

_CODE_NAMES = {code.value[0]: "".join(part.title() for part in code.name.split("_")) for code in grpc.StatusCode}
_CODE_NAMES[0] = "OK"


class Registrar:
    """Stands in for the gRPC server in `add_XServicer_to_server`, wrapping what is registered."""

    def __init__(self, server: Acceptors, log: Any) -> None:
        self._methods = _Methods()
        server.add_generic_rpc_handlers((self._methods,))
        self._log = log
        self.services: list[str] = []
        self._streams = Streams()

    def end_streams(self) -> None:
        """Ends every open stream of answers with UNAVAILABLE: a watch has no end of its own, and resumes elsewhere."""
        self._streams.end()

    def add_generic_rpc_handlers(self, handlers: tuple[Any, ...]) -> None:
        """Nothing: generated code gives each method a second time below."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """A method that is added again takes the place of the first."""
        self.services.append(service)
        for name, handler in handlers.items():
            self._methods.handlers[f"/{service}/{name}"] = self.wrap(service, name, handler)

    def wrap(self, service: str, method: str, handler: Handler) -> Handler:
        inner = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        assert inner is not None
        generates = inspect.isasyncgenfunction(inner)
        if not generates and not inspect.iscoroutinefunction(inner):
            # A synchronous method runs on gRPC's thread pool, where nothing here belongs.
            return handler
        observed = _Observed(service, method, handler, self._log, self._streams)
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[(handler.request_streaming, handler.response_streaming)]
        return make(
            observed.stream(inner) if generates else observed.call(inner),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


class _Methods(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Finds handlers by "/service/method"."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}

    def service(self, handler_call_details: Any) -> "Handler | None":
        return self.handlers.get(handler_call_details.method)


class Streams:
    """The tasks that serve streams of answers."""

    def __init__(self) -> None:
        self.ending = False
        self.tasks: set[asyncio.Task[Any]] = set()

    def end(self) -> None:
        self.ending = True
        for task in self.tasks:
            task.cancel()


class _Observed:
    """One method's metrics, and the wrapper around it."""

    def __init__(self, service: str, method: str, handler: Handler, log: Any, streams: Streams) -> None:
        kind = {
            (False, False): "unary",
            (False, True): "server_stream",
            (True, False): "client_stream",
            (True, True): "bidi_stream",
        }[(handler.request_streaming, handler.response_streaming)]
        self._labels = (kind, service, method)
        self._streams = streams if handler.response_streaming else None
        self._name = f"/{service}/{method}"
        self._log = log
        self._started = STARTED.cell(*self._labels)
        self._seconds = HANDLING.series(*self._labels)
        self._handled = {"OK": HANDLED.cell(*self._labels, "OK")}

    def call(self, inner: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """For coroutine methods: unary answers, and streams that write through the context."""

        async def observed(request: Any, context: Any) -> Any:
            began = self._begin(context)
            code = "OK"
            try:
                answer = await inner(request, context)
                if raw := context.code():
                    code = _code_name(raw)
                return answer
            except BaseException as error:
                code, refusal = self._judge(error, context)
                if refusal is None:
                    raise
                return await context.abort(*refusal)
            finally:
                self._end(began, code)

        return observed

    def stream(self, inner: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """For methods that are asynchronous generators."""

        async def observed(request: Any, context: Any) -> AsyncIterator[Any]:
            began = self._begin(context)
            code = "OK"
            answers = inner(request, context)
            try:
                async for answer in answers:
                    yield answer
                if raw := context.code():
                    code = _code_name(raw)
            except BaseException as error:
                code, refusal = self._judge(error, context)
                if refusal is None:
                    raise
                await context.abort(*refusal)
            finally:
                self._end(began, code)
                await answers.aclose()

        return observed

    def _begin(self, context: Any) -> float:
        if self._streams is not None:
            task = asyncio.current_task()
            assert task is not None
            self._streams.tasks.add(task)
            task.add_done_callback(self._streams.tasks.discard)
        self._started.value += 1
        for key, value in context.invocation_metadata() or ():
            if key == HEADER:
                TRACEPARENT.set(value)
        return perf_counter()

    def _end(self, began: float, code: str) -> None:
        self._seconds.observe(perf_counter() - began)
        handled = self._handled.get(code)
        if handled is None:
            handled = self._handled[code] = HANDLED.cell(*self._labels, code)
        handled.value += 1

    def _judge(self, error: BaseException, context: Any) -> tuple[str, tuple[Any, ...] | None]:
        """The code's name, and what to abort the call with; None when it has ended already."""
        if isinstance(error, asyncio.CancelledError) and self._streams is not None and self._streams.ending:
            return "Unavailable", (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            return "Canceled", None
        if isinstance(error, grpc.aio.AbortError):
            return _code_name(context.code()), None
        from tillerman.api.status import StatusError

        if isinstance(error, StatusError):
            from tillerman.api.rpcstatus import to_rpc

            refusal = to_rpc(error)
            return _code_name(refusal[0]), refusal
        self._log.error("call failed", method=self._name, exc_info=error)
        return "Internal", (grpc.StatusCode.INTERNAL, f"internal error in {self._name}: see the server's log")


def _code_name(code: Any) -> str:
    return _CODE_NAMES.get(code if isinstance(code, int) else code.value[0], "Unknown")
