"""tiller-proxy: the entry point.

Tasks: the informers; the sync loop (`ServiceWatch.run`); DNS with its publisher; with nftables the bridge's keeper.
"""

import asyncio
import errno
import sys
from collections.abc import Callable, Sequence

from services.proxy.bridge import BridgeKeeper, remove_forward_rules
from services.proxy.cluster_dns import ClusterDns
from services.proxy.dns.publish import Publisher
from services.proxy.model import PortKey, ServicePort
from services.proxy.nft.backend import NftablesBackend, is_usable, remove_table
from services.proxy.nft.layout import TableOptions
from services.proxy.options import ProxyOptions
from services.proxy.service import ProxyService
from services.proxy.userspace.backend import UserspaceBackend
from services.proxy.watch import Backend, ServiceWatch
from tillerman.client.events import EventRecorder
from tillerman.client.informer import InformerFactory
from tillerman.pb.api import proxy_pb2_grpc
from tillerman.service import Component, ServiceRuntime, run
from tillerman.service.options import OptionsError, parse

COMPONENT = Component("kube-proxy", default_port=10248, default_metrics_port=10249)
PROG = "tiller-proxy"

Report = Callable[[PortKey, str, str], object]


def choose_mode(wanted: str) -> str:
    """Raises OptionsError when nftables is asked for and cannot be had."""
    if wanted == "userspace":
        return wanted
    if is_usable():
        return "nftables"
    if wanted == "nftables":
        raise OptionsError("--mode=nftables needs CAP_NET_ADMIN (root) and a kernel with nf_tables and NAT")
    return "userspace"


async def start(runtime: ServiceRuntime[ProxyOptions]) -> None:
    options, client = runtime.options, runtime.client()
    mode = choose_mode(options.mode)
    factory = InformerFactory(client, clock=runtime.clock)
    recorder = EventRecorder(client, COMPONENT.name, clock=runtime.clock)
    dns: ClusterDns | None = None

    def is_own_dns(port: ServicePort) -> bool:
        """DNS listens on the Service's very address: nothing is left to do for the proxy."""
        return (
            dns is not None
            and (options.cluster_dns, port.port) == dns.where()
            and options.cluster_dns in port.addresses
        )

    watch = ServiceWatch(
        factory,
        on_service=lambda key: dns.resolver.forget(key) if dns is not None else None,
        skip=is_own_dns,
        own_address=lambda: dns.where()[0] if dns is not None else "",
    )
    dns = ClusterDns(options, mode, watch)

    def report(key: PortKey, reason: str, message: str) -> None:
        service = watch.services.get(f"{key.namespace}/{key.service}")
        if service is not None:
            recorder.event(service, "Warning", reason, message)

    backend = make_backend(options, mode, watch, report, runtime.task_group)
    runtime.log.info("service proxy", mode=mode, table=options.table if mode == "nftables" else None)
    runtime.add_servicer(
        proxy_pb2_grpc.add_ProxyServicer_to_server, ProxyService(mode=mode, watch=watch, resolver=dns.resolver)
    )
    group = runtime.task_group
    await factory.start(group)
    group.create_task(recorder.run(), name="events")
    if options.cluster_dns:
        await dns.start()
        runtime.on_shutdown(dns.stop)
        group.create_task(dns.run(), name="dns-address")
        publisher = Publisher(client, watch, cluster_ip=options.cluster_dns, where=dns.where)
        group.create_task(publisher.run(), name="dns-publisher")
    runtime.on_shutdown(backend.close)
    group.create_task(watch.run(backend), name="sync")
    await watch.synced.wait()


def make_backend(
    options: ProxyOptions, mode: str, watch: ServiceWatch, report: Report, group: asyncio.TaskGroup
) -> Backend:
    if mode == "userspace":
        return UserspaceBackend(node_addresses=watch.node_addresses, report=report)
    network = options.pod_network
    backend = NftablesBackend(table_options(options, masquerade_pods=False))
    if network is not None:
        keeper = BridgeKeeper(
            network,
            comment=options.table,
            cluster_dns=options.cluster_dns,
            external_ips=lambda: [ip for port in watch.ports.values() for ip in port.external_ips],
            on_change=lambda netfilter: backend.configure(table_options(options, masquerade_pods=not netfilter)),
        )
        group.create_task(keeper.run(), name="bridge")
    return backend


def table_options(options: ProxyOptions, *, masquerade_pods: bool) -> TableOptions:
    return TableOptions(
        table=options.table,
        cluster_cidr=options.pod_network,
        node_port_networks=options.node_port_networks,
        masquerade_pods=masquerade_pods,
    )


def clean_up(options: ProxyOptions) -> int:
    """Removes what outlives the process. The exit code."""
    try:
        if remove_table(options.table):
            print(f"removed nftables table {options.table}")
        if options.pod_network is not None:
            remove_forward_rules(options.pod_network, options.table)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.EPROTONOSUPPORT):
            return 0  # who may not program the kernel has not done so either
        print(f"{PROG}: cannot remove table {options.table}: {error}", file=sys.stderr)
        return 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else list(argv)
    if any(a.startswith("--cleanup") for a in arguments):
        try:
            options = parse(ProxyOptions, arguments, prog=PROG, defaults=COMPONENT.option_defaults())
        except OptionsError as error:
            print(f"{PROG}: {error}", file=sys.stderr)
            return 2
        if options.cleanup:
            return clean_up(options)
    return run(COMPONENT, options_cls=ProxyOptions, start=start, argv=arguments)


if __name__ == "__main__":
    sys.exit(main())
