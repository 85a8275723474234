"""The gRPC service ControllerManager: what runs, what is queued, and a way to look at a key again."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from services.controller.framework import Controller
from services.controller.manager import Manager
from tillerman.pb.api import controller_pb2 as pb
from tillerman.pb.api import controller_pb2_grpc

# The work queue's words, and the contract's.
_STATES = {"active": "queued"}


class ControllerManagerService(controller_pb2_grpc.ControllerManagerServicer):
    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    async def ListControllers(
        self, request: pb.ListControllersRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListControllersResponse:
        return pb.ListControllersResponse(
            leader=self._manager.is_leader,
            holder=self._manager.holder,
            controllers=[_described(name, controller) for name, controller in self._manager.controllers.items()],
        )

    async def Queue(
        self, request: pb.ControllerQueueRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ControllerQueueResponse:
        controller = await self._controller(request.controller, context)
        return pb.ControllerQueueResponse(
            items=[
                pb.ControllerQueueResponse.Item(
                    key=item.key,
                    state=_STATES.get(item.state, item.state),
                    retries=item.retries,
                    seconds=item.seconds,
                )
                for item in controller.queue.snapshot()
            ]
        )

    async def Resync(self, request: pb.ResyncRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.ResyncResponse:
        controller = await self._controller(request.controller, context)
        keys = [request.key] if request.key else controller.known_keys()
        for key in keys:
            controller.queue.add(key)
        return pb.ResyncResponse(queued=len(keys))

    async def _controller(self, name: str, context: grpc.aio.ServicerContext[Any, Any]) -> Controller:
        controller = self._manager.controllers.get(name)
        if controller is None:
            known = ", ".join(self._manager.controllers)
            await context.abort(grpc.StatusCode.NOT_FOUND, f'there is no controller "{name}"; there are: {known}')
        return controller


def _described(name: str, controller: Controller) -> pb.ListControllersResponse.Controller:
    states = [item.state for item in controller.queue.snapshot()]
    return pb.ListControllersResponse.Controller(
        name=name,
        running=controller.running,
        queued=states.count("active") + states.count("delayed"),
        processing=states.count("processing"),
        reconciles=controller.stats.reconciles,
        failures=controller.stats.failures,
        last_error=controller.stats.last_error,
    )
