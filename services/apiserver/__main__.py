"""tiller-apiserver: construct, fill the caches, serve."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Sequence

from services.apiserver.auth.authenticate import Authenticator
from services.apiserver.bootstrap import bootstrap
from services.apiserver.fronts import objects, pods
from services.apiserver.fronts.instrument import Instrument
from services.apiserver.options import ApiserverOptions
from services.apiserver.server import Apiserver, assemble, first_service_ip
from services.apiserver.storage.maintenance import look_after_forever, warn_of_broken_version
from tillerman.service import Component, ServiceRuntime, run
from tillerman.service.options import OptionsError

COMPONENT = Component("kube-apiserver", default_port=6450, default_metrics_port=6451, acceptors=32)


async def start(runtime: ServiceRuntime[ApiserverOptions]) -> None:
    options = runtime.options
    server = assemble(options, Instrument(runtime.registry))
    runtime.on_shutdown(server.close)
    runtime.task_group.create_task(server.feed.run(), name="feed")
    kubelets = pods.Kubelets(server.registry, kubelet_tls(options))
    runtime.on_shutdown(kubelets.close)
    add_fronts(runtime, server, kubelets)
    https = https_sockets(options)
    await server.feed.synced.wait()
    services = server.catalog.get("v1", "services")
    await bootstrap(
        server.registry,
        first_ip=first_service_ip(options.service_cluster_ip_range),
        advertise=options.advertise_address or options.bind_address,
        https_port=options.secure_port,
        repair=lambda: server.services.repair(services),
    )
    runtime.task_group.create_task(server.definitions.run(), name="definitions")
    runtime.task_group.create_task(server.services.repair_forever(services), name="repair-services")
    upkeep = look_after_forever(server.store, options.etcd_compaction_interval)
    runtime.task_group.create_task(upkeep, name="look-after-etcd")
    runtime.spawn(warn_of_broken_version(server.store.client), name="check-etcd-version")
    if https:
        runtime.spawn(serve_https(runtime, server, kubelets, https), name="start-https")


def https_sockets(options: ApiserverOptions) -> list[socket.socket]:
    """Where the HTTPS front listens: the bind address, and the one to which the Service `kubernetes` leads pods.

    The latter may be a load balancer's, which is not this machine's to listen at.
    """
    if not options.secure_port:
        return []
    found = [bind(options.bind_address, options.secure_port)]
    advertised = options.advertise_address
    if advertised and advertised != options.bind_address and options.bind_address not in ("0.0.0.0", "::"):
        with contextlib.suppress(OptionsError):
            found.append(bind(advertised, options.secure_port))
    return found


def bind(address: str, port: int) -> socket.socket:
    """Listens at once, so that callers queue up. Raises OptionsError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=1024)
    except OSError as error:
        raise OptionsError(f"--secure-port: cannot listen on {address}:{port}: {error.strerror or error}") from error


async def serve_https(
    runtime: ServiceRuntime[ApiserverOptions], server: Apiserver, kubelets: pods.Kubelets, https: list[socket.socket]
) -> None:
    """Its libraries are imported now, while the gRPC front already answers."""
    await runtime.serve()
    from services.apiserver.fronts.http.server import HttpFront, bearer_token, listen, peer_identity, tls_context

    options = runtime.options
    front = HttpFront(
        server.registry,
        authenticate=Authenticator(
            identity=peer_identity, bearer=bearer_token, tokens=server.tokens, insecure=options.insecure
        ),
        authorizer=server.authorizer,
        instrument=server.instrument,
        log=runtime.log,
        issuer=server.tokens.keys,
        kubelets=kubelets,
        limits=server.limits,
    )
    tls = None
    if not options.insecure and options.tls_cert_file and options.tls_key_file:
        tls = tls_context(options.tls_cert_file, options.tls_key_file, options.client_ca_file)
    for bound in https:
        runtime.on_shutdown(await listen(front, bound, tls))


def add_fronts(runtime: ServiceRuntime[ApiserverOptions], server: Apiserver, kubelets: pods.Kubelets) -> None:
    options = runtime.options
    authenticate = Authenticator(
        identity=runtime.peer_identity, bearer=runtime.bearer_token, tokens=server.tokens, insecure=options.insecure
    )
    front = objects.ObjectsFront(
        server.registry,
        authenticate=authenticate,
        instrument=server.instrument,
        log=runtime.log,
        limits=server.limits,
    )
    runtime.add_generic_handlers(objects.SERVICE, front.handlers())
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
