"""tiller-apiserver: construct, fill the caches, serve."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.apiserver.auth.authenticate import Authenticator
from services.apiserver.bootstrap import bootstrap
from services.apiserver.fronts.instrument import Instrument
from services.apiserver.fronts.objects import SERVICE, ObjectsFront
from services.apiserver.options import ApiserverOptions
from services.apiserver.server import assemble, first_service_ip
from tillerman.service import Component, ServiceRuntime, run

COMPONENT = Component("kube-apiserver", default_port=6450, default_metrics_port=6451)


async def start(runtime: ServiceRuntime[ApiserverOptions]) -> None:
    options = runtime.options
    server = assemble(options, Instrument(runtime.registry))
    runtime.on_shutdown(server.store.close)
    runtime.task_group.create_task(server.feed.run(), name="feed")
    authenticate = Authenticator(
        identity=runtime.peer_identity, bearer=runtime.bearer_token, tokens=None, insecure=options.insecure
    )
    front = ObjectsFront(server.registry, authenticate=authenticate, instrument=server.instrument, log=runtime.log)
    runtime.add_generic_handlers(SERVICE, front.handlers())
    await server.feed.synced.wait()
    await bootstrap(
        server.registry,
        first_ip=first_service_ip(options.service_cluster_ip_range),
        advertise=options.advertise_address or options.bind_address,
        https_port=options.secure_port,
    )


def main(argv: Sequence[str] | None = None) -> int:
    return run(COMPONENT, options_cls=ApiserverOptions, start=start, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
