"""tiller-apiserver: construct, fill the caches, serve."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.apiserver.auth.authenticate import Authenticator
from services.apiserver.bootstrap import bootstrap
from services.apiserver.fronts import objects, pods
from services.apiserver.fronts.instrument import Instrument
from services.apiserver.options import ApiserverOptions
from services.apiserver.server import Apiserver, assemble, first_service_ip
from services.apiserver.storage.maintenance import compact_forever, warn_of_broken_version
from tillerman.service import Component, ServiceRuntime, run

COMPONENT = Component("kube-apiserver", default_port=6450, default_metrics_port=6451)


async def start(runtime: ServiceRuntime[ApiserverOptions]) -> None:
    options = runtime.options
    server = assemble(options, Instrument(runtime.registry))
    runtime.on_shutdown(server.store.close)
    runtime.task_group.create_task(server.feed.run(), name="feed")
    add_fronts(runtime, server)
    await server.feed.synced.wait()
    await bootstrap(
        server.registry,
        first_ip=first_service_ip(options.service_cluster_ip_range),
        advertise=options.advertise_address or options.bind_address,
        https_port=options.secure_port,
    )
    services = server.catalog.get("v1", "services")
    runtime.task_group.create_task(server.services.repair_forever(services), name="repair-services")
    if options.etcd_compaction_interval:
        compaction = compact_forever(server.store, options.etcd_compaction_interval)
        runtime.task_group.create_task(compaction, name="compact")
    runtime.spawn(warn_of_broken_version(server.store.client), name="check-etcd-version")


def add_fronts(runtime: ServiceRuntime[ApiserverOptions], server: Apiserver) -> None:
    options = runtime.options
    authenticate = Authenticator(
        identity=runtime.peer_identity, bearer=runtime.bearer_token, tokens=server.tokens, insecure=options.insecure
    )
    front = objects.ObjectsFront(
        server.registry,
        authenticate=authenticate,
        instrument=server.instrument,
        log=runtime.log,
        max_reads=options.max_requests_inflight,
        max_writes=options.max_mutating_requests_inflight,
    )
    runtime.add_generic_handlers(objects.SERVICE, front.handlers())
    kubelets = pods.Kubelets(server.registry, kubelet_tls(options))
    runtime.on_shutdown(kubelets.close)
    streams = pods.PodsFront(
        server.registry, kubelets, authenticate=authenticate, instrument=server.instrument, log=runtime.log
    )
    runtime.add_generic_handlers(pods.SERVICE, streams.handlers())


def kubelet_tls(options: ApiserverOptions) -> pods.KubeletTLS | None:
    ca = options.kubelet_certificate_authority or options.client_ca_file
    if ca is None or options.kubelet_client_certificate is None or options.kubelet_client_key is None:
        return None
    return pods.KubeletTLS(ca, options.kubelet_client_certificate, options.kubelet_client_key)


def main(argv: Sequence[str] | None = None) -> int:
    return run(COMPONENT, options_cls=ApiserverOptions, start=start, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
