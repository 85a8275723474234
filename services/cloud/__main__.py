"""tiller-cloud-controller-manager: the entry point."""

import sys
from collections.abc import Sequence

from services.cloud.manager import Manager
from services.cloud.options import CloudOptions
from services.cloud.servicer import CloudServicer
from tillerman.pb.api import cloud_pb2_grpc
from tillerman.service import Component, ServiceRuntime, run

COMPONENT = Component("cloud-controller-manager")


def main(argv: Sequence[str] | None = None) -> int:
    return run(COMPONENT, options_cls=CloudOptions, start=start, argv=argv)


async def start(runtime: ServiceRuntime[CloudOptions]) -> None:
    options = runtime.options
    manager = Manager(client=runtime.client(), clock=runtime.clock, options=options, identity=runtime.identity)
    servicer = CloudServicer(manager.context, manager.balanced_nodes)
    runtime.add_servicer(cloud_pb2_grpc.add_CloudControllerManagerServicer_to_server, servicer)
    runtime.on_shutdown(manager.recorder.flush)
    await manager.start(runtime.task_group)


if __name__ == "__main__":
    sys.exit(main())
