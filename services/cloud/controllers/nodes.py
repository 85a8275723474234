"""The node controller: tells the cluster what the cloud knows of a node, and drops nodes whose machine is gone.

Reconciles one node: labels, providerID and addresses from its instance, and the "uninitialized" taint off; and when the
node is not Ready: deleted if the cloud has no such machine, tainted while the machine is shut down.
"""

from typing import Any

from services.cloud.controllers.context import Context
from services.cloud.provider import Instance
from tillerman.api.meta import get_condition
from tillerman.api.status import is_not_found
from tillerman.client.workqueue import WorkQueue
from tillerman.pb.k8s import core_v1_pb2 as core

UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
SHUTDOWN = "node.cloudprovider.kubernetes.io/shutdown"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
ZONE = "topology.kubernetes.io/zone"
REGION = "topology.kubernetes.io/region"

# Seconds between looks at a node that is not Ready, and at one that is (its addresses may change).
MONITOR_PERIOD = 5.0
STATUS_PERIOD = 300.0


class NodeController:
    name = "cloud-node"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._nodes = context.client.resource(core.Node)
        self.queue = WorkQueue(self.name, clock=context.clock)
        context.nodes.add_handler(on_add=self._changed, on_update=self._updated)

    def _changed(self, node: core.Node) -> None:
        self.queue.add(node.metadata.name)

    def _updated(self, old: core.Node, new: core.Node) -> None:
        """A heartbeat is no reason to ask the cloud."""
        if _aspects(old) != _aspects(new):
            self.queue.add(new.metadata.name)

    async def reconcile(self, key: str) -> float | None:
        """Raises ProviderError, StatusError; returns the seconds until the next look."""
        node = self._context.nodes.get(key)
        if node is None or node.metadata.HasField("deletionTimestamp"):
            return None
        provider = self._context.provider
        new = any(taint.key == UNINITIALIZED for taint in node.spec.taints)
        known = bool(node.spec.providerID)
        # A node that no kubelet has registered is none of a provider's.
        adopted = provider.adopts_all_nodes and node.status.nodeInfo.kubeletVersion
        if not new and not known and not adopted:
            return None
        ready = is_ready(node)
        instance = await provider.instances.find(node)
        if instance is None:
            if known and not ready:
                await self._delete(node)
                return None
            return MONITOR_PERIOD
        patch = patch_of(node, instance, shut_down=instance.shutdown and not ready)
        if patch:
            node = await self._nodes.patch(key, None, patch, type="merge")
        if addresses := changed_addresses(node, instance):
            await self._nodes.patch(key, None, {"status": {"addresses": addresses}}, type="merge", subresource="status")
        return STATUS_PERIOD if ready else MONITOR_PERIOD

    async def _delete(self, node: core.Node) -> None:
        name = node.metadata.name
        message = f"Deleting node {name} because it does not exist in the cloud provider"
        self._context.recorder.event(node, "Normal", "DeletingNode", message)
        try:
            await self._nodes.delete(name, uid=node.metadata.uid)
        except Exception as error:
            if not is_not_found(error):
                raise


def is_ready(node: core.Node) -> bool:
    condition = get_condition(node.status.conditions, "Ready")
    return condition is not None and condition.status == "True"


def patch_of(node: core.Node, instance: Instance, *, shut_down: bool) -> dict[str, Any]:
    """A merge patch of labels, providerID and taints; empty when all is as it should be. A list of taints replaces the
    whole list, so it goes with the resourceVersion it was made from."""
    wanted = {INSTANCE_TYPE: instance.type, ZONE: instance.zone, REGION: instance.region, **instance.labels}
    labels = {key: value for key, value in wanted.items() if value and node.metadata.labels.get(key) != value}
    patch: dict[str, Any] = {}
    if labels:
        patch["metadata"] = {"labels": labels}
    spec: dict[str, Any] = {}
    if not node.spec.providerID and instance.provider_id:
        spec["providerID"] = instance.provider_id
    taints = [taint for taint in node.spec.taints if taint.key not in (UNINITIALIZED, SHUTDOWN)]
    tainted = [_plain(taint) for taint in taints] + ([{"key": SHUTDOWN, "effect": "NoSchedule"}] if shut_down else [])
    if {t["key"] for t in tainted} != {taint.key for taint in node.spec.taints}:
        spec["taints"] = tainted
        patch.setdefault("metadata", {})["resourceVersion"] = node.metadata.resourceVersion
    if spec:
        patch["spec"] = spec
    return patch


def changed_addresses(node: core.Node, instance: Instance) -> list[dict[str, str]] | None:
    """The addresses to write, None when the node has them; in whatever order it has them."""
    wanted = list(dict.fromkeys(instance.addresses))
    present = [(a.type, a.address) for a in node.status.addresses]
    if not wanted or set(wanted) <= set(present):
        return None
    return [{"type": kind, "address": address} for kind, address in wanted]


def _plain(taint: core.Taint) -> dict[str, Any]:
    from tillerman.api.codec import to_dict

    return to_dict(taint)


def _aspects(node: core.Node) -> tuple[object, ...]:
    return (
        is_ready(node),
        node.status.nodeInfo.kubeletVersion,
        node.spec.providerID,
        tuple(taint.key for taint in node.spec.taints),
        node.metadata.labels.get(ZONE),
        tuple((a.type, a.address) for a in node.status.addresses),
    )
