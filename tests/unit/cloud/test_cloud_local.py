"""The local provider, and what the controllers decide."""

import ipaddress

import pytest

from services.cloud.controllers.load_balancers import takes_traffic, wants_load_balancer
from services.cloud.controllers.nodes import SHUTDOWN, UNINITIALIZED, changed_addresses, patch_of
from services.cloud.controllers.routes import difference
from services.cloud.local import LocalInstances, LocalLoadBalancers, pool_beside
from services.cloud.provider import Instance, ProviderError, Route, load_balancer_name
from tillerman.pb.k8s import core_v1_pb2 as core


def make_service(name: str, *, ip: str = "", wanted: str = "", type: str = "LoadBalancer") -> core.Service:
    service = core.Service()
    service.metadata.name, service.metadata.namespace, service.metadata.uid = name, "default", f"uid-{name}"
    service.spec.type = type
    if wanted:
        service.spec.loadBalancerIP = wanted
    if ip:
        service.status.loadBalancer.ingress.add(ip=ip)
    return service


def make_node(name: str, *, ready: str = "True", cidr: str = "") -> core.Node:
    node = core.Node()
    node.metadata.name, node.metadata.resourceVersion = name, "7"
    node.status.conditions.add(type="Ready", status=ready)
    if cidr:
        node.spec.podCIDR = cidr
    return node


class Pool:
    def __init__(self, cidr: str = "10.120.0.0/30") -> None:
        self.services: list[core.Service] = []
        self.balancers = LocalLoadBalancers(services=lambda: self.services, pool=lambda: ipaddress.IPv4Network(cidr))

    async def address(self, service: core.Service) -> str:
        (ingress,) = await self.balancers.ensure(service, [])
        assert ingress.ip_mode == "VIP"
        return ingress.ip


@pytest.mark.parametrize(
    ("cluster_ip", "pool"),
    [("10.96.0.1", "10.120.0.0/24"), ("127.96.0.1", "127.120.0.0/24"), ("10.97.0.1", "10.121.0.0/24")],
)
def test_the_pool_lies_beside_the_service_range(cluster_ip: str, pool: str) -> None:
    assert str(pool_beside(cluster_ip)) == pool


@pytest.mark.parametrize("cluster_ip", ["10.240.0.1", "fd00::1", ""])
def test_no_pool(cluster_ip: str) -> None:
    with pytest.raises(ValueError):
        pool_beside(cluster_ip)


async def test_addresses_are_distinct_and_stay() -> None:
    pool = Pool()
    first, second = await pool.address(make_service("a")), await pool.address(make_service("b"))
    assert {first, second} == {"10.120.0.1", "10.120.0.2"}
    assert await pool.address(make_service("a")) == first
    with pytest.raises(ProviderError, match=r"no address is left in 10\.120\.0\.0/30"):
        await pool.address(make_service("c"))
    await pool.balancers.delete(make_service("a"))
    assert await pool.address(make_service("c")) == first


async def test_after_a_restart_the_status_tells_what_is_taken() -> None:
    pool = Pool()
    pool.services = [make_service("old", ip="10.120.0.1")]
    assert await pool.address(make_service("new")) == "10.120.0.2"
    assert await pool.address(pool.services[0]) == "10.120.0.1"


async def test_an_address_may_be_wished_for() -> None:
    pool = Pool("10.120.0.0/24")
    assert await pool.address(make_service("a", wanted="10.120.0.77")) == "10.120.0.77"
    with pytest.raises(ProviderError, match="belongs to another Service"):
        await pool.address(make_service("b", wanted="10.120.0.77"))
    with pytest.raises(ProviderError, match="not in the pool"):
        await pool.address(make_service("b", wanted="192.0.2.1"))


async def test_nodes_get_their_labels_and_lose_the_taint() -> None:
    node = make_node("n1")
    node.spec.taints.add(key=UNINITIALIZED, value="true", effect="NoSchedule")
    node.spec.taints.add(key="mine", value="x", effect="NoExecute")
    instance = await LocalInstances().find(node)
    assert instance is not None
    assert patch_of(node, instance, shut_down=False) == {
        "metadata": {
            "labels": {
                "node.kubernetes.io/instance-type": "local",
                "topology.kubernetes.io/zone": "local-a",
                "topology.kubernetes.io/region": "local",
            },
            "resourceVersion": "7",
        },
        "spec": {
            "providerID": "local://n1",
            "taints": [{"key": "mine", "value": "x", "effect": "NoExecute"}],
        },
    }
    assert changed_addresses(node, instance) == [
        {"type": "InternalIP", "address": "127.0.0.1"},
        {"type": "Hostname", "address": "n1"},
    ]


async def test_a_node_that_is_complete_is_left_alone() -> None:
    node = make_node("n1")
    node.spec.providerID = "local://n1"
    node.metadata.labels.update(
        {
            "node.kubernetes.io/instance-type": "local",
            "topology.kubernetes.io/zone": "local-a",
            "topology.kubernetes.io/region": "local",
        }
    )
    node.status.addresses.add(type="Hostname", address="n1")
    node.status.addresses.add(type="InternalIP", address="192.0.2.2")
    instance = await LocalInstances().find(node)
    assert instance is not None
    assert patch_of(node, instance, shut_down=False) == {}
    assert changed_addresses(node, instance) is None


def test_shut_down_machines_are_tainted_until_they_are_back() -> None:
    node = make_node("n1", ready="Unknown")
    node.spec.providerID = "x:///n1"
    instance = Instance("x:///n1", shutdown=True)
    assert patch_of(node, instance, shut_down=True)["spec"]["taints"] == [{"key": SHUTDOWN, "effect": "NoSchedule"}]
    node.spec.taints.add(key=SHUTDOWN, effect="NoSchedule")
    assert patch_of(node, instance, shut_down=True) == {}
    assert patch_of(node, instance, shut_down=False)["spec"]["taints"] == []


def test_which_services_and_nodes() -> None:
    assert wants_load_balancer(make_service("a"))
    assert not wants_load_balancer(make_service("a", type="ClusterIP"))
    other = make_service("a")
    other.spec.loadBalancerClass = "example.com/theirs"
    assert not wants_load_balancer(other)
    assert takes_traffic(make_node("n1"))
    assert not takes_traffic(make_node("n1", ready="Unknown"))
    excluded = make_node("n1")
    excluded.metadata.labels["node.kubernetes.io/exclude-from-external-load-balancers"] = ""
    assert not takes_traffic(excluded)


def test_routes_to_make_and_to_take_away() -> None:
    nodes = [make_node("n1", cidr="10.244.0.0/24"), make_node("n2", cidr="10.244.1.0/24"), make_node("n3")]
    present = [
        Route("r1", "n1", "10.244.0.0/24"),
        Route("r2", "", "10.244.7.0/24"),
        Route("r3", "", "192.168.0.0/16"),
        Route("r4", "", "0.0.0.0/0"),
    ]
    missing, stale = difference(nodes, present, ipaddress.ip_network("10.244.0.0/16"))
    assert [(node.metadata.name, cidr) for node, cidr in missing] == [("n2", "10.244.1.0/24")]
    assert [route.name for route in stale] == ["r2"]


def test_names() -> None:
    service = make_service("a")
    service.metadata.uid = "01234567-89ab-cdef-0123-456789abcdef"
    assert load_balancer_name(service) == "a0123456789abcdef0123456789abcde"
