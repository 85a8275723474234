"""tiller-controller-manager: the entry point."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

from services.controller.manager import Manager
from services.controller.options import ControllerManagerOptions
from services.controller.registry import available, choose, load
from services.controller.service import ControllerManagerService
from tillerman.pb.api import controller_pb2_grpc
from tillerman.service import Component, ServiceRuntime, run

COMPONENT = Component("kube-controller-manager", default_port=10357, default_metrics_port=10257)


async def start(runtime: ServiceRuntime[ControllerManagerOptions]) -> None:
    options = runtime.options
    classes = available()
    chosen = choose(options.controllers, classes)
    if not options.allocate_node_cidrs and "nodeipam" in chosen:
        chosen.remove("nodeipam")
    # The port can be held by one process only: who has it knows that an earlier holder of the name is gone.
    identity = options.leader_elect_identity or f"{socket.gethostname()}_{options.bind_address}:{runtime.port}"
    manager = Manager(
        client=runtime.client(),
        clock=runtime.clock,
        options=options,
        log=runtime.log,
        classes={name: load(classes[name]) for name in chosen},
        identity=identity,
    )
    runtime.add_servicer(controller_pb2_grpc.add_ControllerManagerServicer_to_server, ControllerManagerService(manager))
    runtime.on_shutdown(manager.stop)
    await manager.start(runtime.task_group)


def main(argv: Sequence[str] | None = None) -> int:
    return run(COMPONENT, options_cls=ControllerManagerOptions, start=start, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
