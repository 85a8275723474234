"""The scrape configuration of a local cluster."""

from pathlib import Path
from typing import Any

from tillerman.cluster.layout import Plan


def scrape_config(plan: Plan, pki: Path) -> str:
    """A Prometheus configuration (YAML) that scrapes every process of the cluster."""
    import yaml

    jobs: list[dict[str, Any]] = []
    kubelets: list[dict[str, Any]] = []
    for process in plan.processes:
        target = f"127.0.0.1:{process.metrics_port}"
        if process.name in plan.nodes:
            kubelets.append({"targets": [target], "labels": {"node": process.name}})
        elif process.name == "etcd":
            tls = {
                "ca_file": f"{pki}/ca.crt",
                "cert_file": f"{pki}/prometheus.crt",
                "key_file": f"{pki}/prometheus.key",
            }
            jobs.append(
                {"job_name": "etcd", "scheme": "https", "tls_config": tls, "static_configs": [{"targets": [target]}]}
            )
        else:
            jobs.append({"job_name": process.name, "static_configs": [{"targets": [target]}]})
    jobs.append({"job_name": "kubelet", "static_configs": kubelets})
    document = {"global": {"scrape_interval": "5s", "scrape_timeout": "4s"}, "scrape_configs": jobs}
    return str(yaml.safe_dump(document, sort_keys=False))
