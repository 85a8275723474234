"""Which controllers there are: those of this package, and those that other packages bring as entry points.

An extension adds a subclass of `services.controller.framework.Controller` in its package metadata:

    [project.entry-points."tillerman.controllers"]
    my-controller = "my_package.module:MyController"
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.metadata import entry_points

from services.controller.framework import Controller

ENTRY_POINT_GROUP = "tillerman.controllers"

# In the order in which they are constructed; what a starting node needs comes first.
BUILT_IN = {
    "nodeipam": "services.controller.nodes.ipam:NodeIPAMController",
    "serviceaccount": "services.controller.serviceaccount:ServiceAccountController",
    "root-ca-certificate-publisher": "services.controller.root_ca:RootCAPublisher",
    "nodelifecycle": "services.controller.nodes.lifecycle:NodeLifecycleController",
    "taint-eviction": "services.controller.nodes.eviction:TaintEvictionController",
    "deployment": "services.controller.deployment.controller:DeploymentController",
    "replicaset": "services.controller.replicaset.controller:ReplicaSetController",
    "replicationcontroller": "services.controller.replicaset.controller:ReplicationControllerController",
    "endpointslice": "services.controller.endpoints.controller:EndpointSliceController",
    "endpoints": "services.controller.endpoints.controller:EndpointsController",
    "namespace": "services.controller.namespace:NamespaceController",
    "garbagecollector": "services.controller.garbage.controller:GarbageCollector",
    "job": "services.controller.job.controller:JobController",
    "ttl-after-finished": "services.controller.job.controller:TTLAfterFinishedController",
    "cronjob": "services.controller.job.cronjob:CronJobController",
    "daemonset": "services.controller.daemonset.controller:DaemonSetController",
    "statefulset": "services.controller.statefulset.controller:StatefulSetController",
    "disruption": "services.controller.disruption:DisruptionController",
    "clusterrole-aggregation": "services.controller.clusterrole_aggregation:ClusterRoleAggregation",
    "certificatesigningrequest-approving": "services.controller.certificates:CSRApprovingController",
    "certificatesigningrequest-signing": "services.controller.certificates:CSRSigningController",
    "resourcequota": "services.controller.resourcequota:ResourceQuotaController",
    "pvc-protection": "services.controller.storage_protection:ClaimProtection",
    "pv-protection": "services.controller.storage_protection:VolumeProtection",
    "podgc": "services.controller.podgc:PodGCController",
    "horizontalpodautoscaling": "services.controller.autoscaling.controller:HorizontalPodAutoscalerController",
}


class UnknownController(ValueError):
    """--controllers names one that does not exist."""


def available() -> dict[str, str]:
    """Name -> "module:class"; an installed extension may replace a built-in one of the same name."""
    extensions = {entry.name: entry.value for entry in entry_points(group=ENTRY_POINT_GROUP)}
    return {**BUILT_IN, **extensions}


def choose(wanted: Sequence[str], names: Iterable[str]) -> list[str]:
    """The controllers that --controllers asks for: "*" is all, "-x" leaves one out. Raises UnknownController."""
    known = list(names)
    for name in wanted:
        if name != "*" and name.removeprefix("-") not in known:
            raise UnknownController(f'--controllers: there is no controller "{name.removeprefix("-")}"')
    everything = "*" in wanted
    return [name for name in known if f"-{name}" not in wanted and (everything or name in wanted)]


def load(reference: str) -> type[Controller]:
    """The class that "module:class" names; TypeError when it is no Controller."""
    module, _, attribute = reference.partition(":")
    loaded = getattr(import_module(module), attribute)
    if not (isinstance(loaded, type) and issubclass(loaded, Controller)):
        raise TypeError(f"{reference} is not a Controller")
    return loaded
