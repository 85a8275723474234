"""Where the files of a local cluster lie, and what `tiller up` decided for it.

Everything of a cluster is under one folder, `$TILLERMAN_HOME/<name>` (TILLERMAN_HOME defaults to ~/.tillerman), so
that `tiller down` can remove it whole:

    cluster.json      the Plan: ports, networks, and the command line of every process
    kubeconfig        the administrator's client configuration
    prometheus.yml    scrapes every process of this cluster
    pki/              the CA, and a certificate and client configuration per component
    run/              one <process>.pid per running process
    logs/             one <process>.log per process
    etcd/             etcd's data
    kubelet/<node>/   a kubelet's root directory
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DEFAULT_NAME = "default"


def home() -> Path:
    """The folder that holds a folder per local cluster."""
    return Path(os.environ.get("TILLERMAN_HOME") or Path.home() / ".tillerman").absolute()


def default_name() -> str:
    """The local cluster that is meant when none is named."""
    return os.environ.get("TILLER_CLUSTER") or DEFAULT_NAME


def state_dir(name: str) -> Path:
    return home() / name


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """One process: its name, its command line and what it adds to the environment."""

    name: str
    argv: list[str]
    metrics_port: int
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided for a cluster when it first came up; `tiller up` after `down --keep-data` reads it again."""

    name: str
    runtime: str
    nodes: list[str]
    proxy_mode: str
    cluster_cidr: str
    service_cidr: str
    cluster_dns: str
    network_slot: int
    grpc_endpoint: str
    https_endpoint: str
    etcd_endpoint: str
    node_ip: str
    pod_network: str
    table: str
    ports: dict[str, int]
    processes: list[ProcessPlan]

    def write(self, folder: Path) -> None:
        """Writes cluster.json whole or not at all."""
        path = folder / "cluster.json"
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n")
        draft.replace(path)

    @classmethod
    def read(cls, folder: Path) -> "Plan":
        """Raises FileNotFoundError when there is no cluster in the folder."""
        data: dict[str, Any] = json.loads((folder / "cluster.json").read_text())
        data["processes"] = [ProcessPlan(**p) for p in data["processes"]]
        return cls(**data)
