"""tiller-kubelet: runs the pods that are bound to its node.

Root tasks: the informers, the event recorder, the status manager, the volume refresher, the pod manager, the node's
status and Lease, and the stats sampler. A kubelet that is killed loses nothing: containers keep running, and the next
one takes them over.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.kubelet.addresses import AddressPool
from services.kubelet.images import ImageManager
from services.kubelet.machine import read_machine
from services.kubelet.metrics import NODE_NAME
from services.kubelet.node_agent import NodeAgent
from services.kubelet.node_pages import NodePages
from services.kubelet.node_status import allocatable
from services.kubelet.options import KubeletOptions
from services.kubelet.pod_actions import NodeFacts, Tools
from services.kubelet.pod_files import ClusterDns
from services.kubelet.pod_manager import PodManager
from services.kubelet.references import References
from services.kubelet.runtime.interface import Runtime, RuntimeFailure, RuntimeInfo
from services.kubelet.servicer import KubeletServicer
from services.kubelet.stats import StatsCollector
from services.kubelet.status_manager import StatusManager
from services.kubelet.volumes.manager import VolumeManager
from tillerman.client.clock import Clock
from tillerman.client.events import EventRecorder
from tillerman.client.informer import InformerFactory
from tillerman.pb.api import kubelet_pb2_grpc
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.service import Component, ServiceRuntime, run
from tillerman.service.options import OptionsError, parse

COMPONENT = Component("kubelet")
_RUNTIME_RETRY_SECONDS = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(a.startswith("--cleanup") for a in arguments):
        return clean_up_from(arguments)
    return run(COMPONENT, options_cls=KubeletOptions, start=start, argv=arguments)


def clean_up_from(arguments: list[str]) -> int:
    from services.kubelet.cleanup import clean_up

    try:
        options = parse(KubeletOptions, arguments, prog="tiller-kubelet")
    except OptionsError as error:
        print(f"tiller-kubelet: {error}", file=sys.stderr)
        return 2
    return clean_up(options, make_runtime)


async def start(runtime: ServiceRuntime[KubeletOptions]) -> None:
    options, clock, client, log = runtime.options, runtime.clock, runtime.client(), runtime.log
    pods_dir = options.root_dir / "pods"
    pods_dir.mkdir(parents=True, exist_ok=True)
    machine = read_machine(options.root_dir, cpus=options.node_cpus, memory=options.node_memory)
    given = allocatable(machine, max_pods=options.max_pods, reserved=options.system_reserved)
    NODE_NAME.labels(options.node_name).set(1)

    containers = make_runtime(options, clock)
    informers = InformerFactory(client, clock=clock)
    on_node = f"spec.nodeName={options.node_name}"
    pods = informers.informer(core.Pod, field_selector=on_node)
    nodes = informers.informer(core.Node, field_selector=f"metadata.name={options.node_name}")
    services = informers.informer(core.Service)
    recorder = EventRecorder(client, "kubelet", options.node_name, clock)
    references = References(client, clock=clock)
    statuses = StatusManager(client, clock=clock)
    node = NodeFacts(
        name=options.node_name,
        ip=options.node_ip,
        memory=machine.memory,
        allocatable=given,
        dns=ClusterDns(tuple(options.cluster_dns), options.cluster_domain, _text(options.resolv_conf)),
        etc_hosts=_text(Path("/etc/hosts")),
    )
    tools = Tools(
        runtime=containers,
        images=ImageManager(containers, references),
        volumes=VolumeManager(client, references, pods_dir=pods_dir, clock=clock, allocatable=given),
        references=references,
        node=node,
        clock=clock,
        record=lambda pod, kind, reason, message, path: recorder.event(pod, kind, reason, message, field_path=path),
        services=services.list,
    )
    group = runtime.task_group
    await informers.start(group)
    group.create_task(recorder.run(), name="events")
    info = await start_containers(containers, clock, log)

    def use_pod_cidr(cidr: str) -> None:
        if node.addresses is None and cidr:
            node.addresses = AddressPool(containers.pod_cidr(cidr))
            manager.network_changed()

    agent = NodeAgent(
        client,
        nodes,
        name=options.node_name,
        ip=options.node_ip,
        port=runtime.port,
        labels=options.node_labels,
        taints=options.register_with_taints,
        machine=machine,
        allocatable=given,
        runtime=containers,
        runtime_info=info,
        root_dir=options.root_dir,
        clock=clock,
        on_pod_cidr=use_pod_cidr,
        record=recorder.event,
        update_every=options.node_status_update_frequency,
        report_every=options.node_status_report_frequency,
        lease_seconds=options.node_lease_duration_seconds,
    )
    manager = PodManager(
        tools=tools,
        statuses=statuses,
        client=client,
        informer=pods,
        node_labels=agent.labels,
        pods_dir_uids=lambda: (entry.name for entry in pods_dir.iterdir()),
    )
    stats = StatsCollector(containers, machine=machine, pods=manager.pods, clock=clock)
    manager.on_pod_gone = stats.forget
    use_pod_cidr(options.pod_cidr)
    servicer = KubeletServicer(
        manager,
        stats,
        containers,
        NodePages(manager, stats, node=options.node_name, others=runtime.pages.answer),
        node=options.node_name,
        clock=clock,
        identify=runtime.peer_identity,
        insecure=options.insecure,
    )
    runtime.add_servicer(kubelet_pb2_grpc.add_KubeletServicer_to_server, servicer)

    async def close() -> None:
        await manager.close()
        await references.close()
        await tools.images.close()
        await containers.close()

    runtime.on_shutdown(close)
    group.create_task(statuses.run(), name="pod-statuses")
    group.create_task(tools.volumes.run(), name="volumes")
    group.create_task(manager.run(), name="pods")
    group.create_task(stats.run(), name="stats")
    await agent.register()
    group.create_task(agent.run_status(), name="node-status")
    group.create_task(agent.run_lease(), name="node-lease")


def make_runtime(options: KubeletOptions, clock: Clock) -> Runtime:
    if options.runtime == "hollow":
        from services.kubelet.runtime.hollow import HollowRuntime

        return HollowRuntime(clock=clock, start_delay=options.hollow_start_delay, stop_delay=options.hollow_stop_delay)
    if options.runtime == "process":
        from services.kubelet.runtime.process import ProcessRuntime

        return ProcessRuntime(
            root_dir=options.root_dir,
            image_path=[Path(folder) for folder in options.process_image_path],
            clock=clock,
        )
    from services.kubelet.runtime.docker import DockerRuntime

    return DockerRuntime(
        cluster=options.cluster_name,
        node=options.node_name,
        network=options.pod_network,
        cluster_cidr=options.cluster_cidr,
    )


async def start_containers(containers: Runtime, clock: Clock, log: Any) -> RuntimeInfo:
    """Waits for the runtime; says what it does not do."""
    while True:
        try:
            info = await containers.start()
            break
        except RuntimeFailure as error:
            log.error("runtime_not_ready", runtime=containers.name, error=str(error))
            await clock.sleep(_RUNTIME_RETRY_SECONDS)
    for caveat in info.caveats:
        log.warning(caveat, runtime=containers.name)
    return info


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
