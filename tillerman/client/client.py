"""Client: one channel to the API server, and a client per resource over it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc.aio
from google.protobuf.message import Message

from tillerman.client.batch import BatchOp
from tillerman.client.calls import Caller
from tillerman.client.channel import ClientConfig, open_channel
from tillerman.client.resource import ListResult, ResourceClient, WatchEvent
from tillerman.client.typed import TypedEncoding
from tillerman.pb.api import objects_pb2 as pb

if TYPE_CHECKING:
    from tillerman.api.status import StatusError
    from tillerman.client.dynamic import DynamicClient
    from tillerman.client.pods import PodStreams

__all__ = ["BatchOp", "Client", "ListResult", "ResourceClient", "WatchEvent"]

M = TypeVar("M", bound=Message)


class Client:
    """Made once per process and shared.

    `field_manager` names the writer of every write that names none. `wait_for_ready`: see Caller.
    """

    def __init__(self, channel: grpc.aio.Channel, *, field_manager: str = "", wait_for_ready: bool = False) -> None:
        self.channel = channel
        self.caller = Caller(channel, field_manager=field_manager, wait_for_ready=wait_for_ready)
        self._resources: dict[type[Message], ResourceClient[Any]] = {}
        self._pods: PodStreams | None = None

    @classmethod
    def from_config(cls, config: ClientConfig, *, field_manager: str = "", wait_for_ready: bool = False) -> "Client":
        return cls(open_channel(config), field_manager=field_manager, wait_for_ready=wait_for_ready)

    async def close(self) -> None:
        await self.channel.close(None)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def resource(self, message_type: type[M]) -> ResourceClient[M]:
        """Raises LookupError for a message that is no served kind."""
        found = self._resources.get(message_type)
        if found is None:
            from tillerman.api.scheme import SCHEME

            info = SCHEME.by_message(message_type)
            found = self._resources[message_type] = ResourceClient(
                self.caller,
                api_version=info.api_version,
                resource=info.resource,
                namespaced=info.namespaced,
                encoding=TypedEncoding(message_type),
            )
        return found

    def dynamic(self, api_version: str, resource: str, namespaced: bool) -> "DynamicClient":
        """Objects as dicts; `resource` is the plural name."""
        from tillerman.client.dynamic import DynamicClient, JsonEncoding

        return DynamicClient(
            self.caller,
            api_version=api_version,
            resource=resource,
            namespaced=namespaced,
            encoding=JsonEncoding(),
        )

    @property
    def pods(self) -> "PodStreams":
        """Logs, exec, attach and port-forward."""
        if self._pods is None:
            from tillerman.client.pods import PodStreams
            from tillerman.pb.api import pods_pb2_grpc

            self._pods = PodStreams(cast(Any, pods_pb2_grpc.PodsStub(self.channel)))
        return self._pods

    async def batch(self, operations: Sequence[BatchOp]) -> "list[Message | StatusError]":
        """Independent writes in one call. The outcomes are in the operations' order: the stored object (a Status where
        the server answers so) or the refusal. Raises StatusError only when the call as a whole fails."""
        from tillerman.api.meta import unpack_any
        from tillerman.api.status import StatusError

        if not operations:
            return []
        request = pb.BatchRequest(operations=[op.operation for op in operations])
        response = await self.caller.unary("Batch", "", request)
        return [
            StatusError(outcome.failure) if outcome.HasField("failure") else unpack_any(outcome.object)
            for outcome in response.outcomes
        ]

    async def discover(self) -> list[pb.DiscoverResponse.Resource]:
        """Every kind that is served, custom resources included."""
        response = await self.caller.unary("Discover", "", pb.DiscoverRequest())
        return list(response.resources)
