"""Node health, taints, eviction times and pod networks."""

import pytest

from services.controller.nodes.cidrs import CIDRExhausted, CIDRSet
from services.controller.nodes.health import (
    FULL_DISRUPTION,
    NORMAL,
    PARTIAL_DISRUPTION,
    EvictionRates,
    silenced_conditions,
    tolerated_seconds,
    wanted_taints,
    zone_state,
)
from services.controller.nodes.ipam import awaits_cidr
from tillerman.pb.k8s import core_v1_pb2 as core

NOW = 1_700_000_000.0


def node(**conditions: str) -> core.Node:
    result = core.Node()
    result.metadata.name = "n1"
    for type, status in conditions.items():
        result.status.conditions.add(type=type, status=status, reason="KubeletReady")
    return result


def taints(wanted: list[core.Taint] | None) -> list[tuple[str, str]] | None:
    if wanted is None:
        return None
    return [(taint.key.removeprefix("node.kubernetes.io/"), taint.effect) for taint in wanted]


@pytest.mark.parametrize(
    "conditions, expected",
    [
        ({"Ready": "True"}, None),
        ({}, None),
        ({"Ready": "False"}, [("not-ready", "NoSchedule"), ("not-ready", "NoExecute")]),
        ({"Ready": "Unknown"}, [("unreachable", "NoSchedule"), ("unreachable", "NoExecute")]),
        ({"Ready": "True", "MemoryPressure": "True"}, [("memory-pressure", "NoSchedule")]),
        ({"Ready": "True", "DiskPressure": "True"}, [("disk-pressure", "NoSchedule")]),
        ({"Ready": "True", "NetworkUnavailable": "True"}, [("network-unavailable", "NoSchedule")]),
    ],
)
def test_conditions_become_taints(conditions, expected) -> None:
    assert taints(wanted_taints(node(**conditions), NOW, evict=True)) == expected


def test_taints_of_others_stay_and_ours_go() -> None:
    ready = node(Ready="True")
    ready.spec.taints.add(key="dedicated", value="x", effect="NoExecute")
    ready.spec.taints.add(key="node.kubernetes.io/not-ready", effect="NoSchedule")
    ready.spec.taints.add(key="node.kubernetes.io/unreachable", effect="NoExecute")
    assert taints(wanted_taints(ready, NOW, evict=True)) == [("dedicated", "NoExecute")]


def test_a_cordoned_node_is_tainted() -> None:
    cordoned = node(Ready="True")
    cordoned.spec.unschedulable = True
    assert taints(wanted_taints(cordoned, NOW, evict=True)) == [("unschedulable", "NoSchedule")]


def test_eviction_waits_for_its_turn_and_keeps_its_time() -> None:
    down = node(Ready="Unknown")
    assert taints(wanted_taints(down, NOW, evict=False)) == [("unreachable", "NoSchedule")]
    down.spec.taints.add(key="node.kubernetes.io/unreachable", effect="NoSchedule")
    old = down.spec.taints.add(key="node.kubernetes.io/unreachable", effect="NoExecute")
    old.timeAdded.seconds = 5
    assert wanted_taints(down, NOW, evict=False) is None


def test_a_silent_node_turns_unknown_once() -> None:
    silent = node(Ready="True", MemoryPressure="False")
    changed = {condition.type: condition for condition in silenced_conditions(silent, NOW)}
    assert {type: (c.status, c.reason) for type, c in changed.items()} == {
        "Ready": ("Unknown", "NodeStatusUnknown"),
        "MemoryPressure": ("Unknown", "NodeStatusUnknown"),
        "DiskPressure": ("Unknown", "NodeStatusNeverUpdated"),
        "PIDPressure": ("Unknown", "NodeStatusNeverUpdated"),
    }
    unknown = node(Ready="Unknown", MemoryPressure="Unknown", DiskPressure="Unknown", PIDPressure="Unknown")
    assert silenced_conditions(unknown, NOW) == []


@pytest.mark.parametrize(
    "statuses, expected",
    [
        (["True", "Unknown"], NORMAL),
        (["Unknown"], FULL_DISRUPTION),
        (["True"] * 3 + ["False"] * 4, PARTIAL_DISRUPTION),
        (["True"] * 10 + ["False"] * 4, NORMAL),
        ([], NORMAL),
    ],
)
def test_zone_state(statuses, expected) -> None:
    assert zone_state(statuses, 0.55) == expected


def test_eviction_rates() -> None:
    rates = EvictionRates(0.1, 0.01, 50)
    assert rates.of(NORMAL, 3, everything_down=False) == 0.1
    assert rates.of(PARTIAL_DISRUPTION, 10, everything_down=False) == 0
    assert rates.of(PARTIAL_DISRUPTION, 100, everything_down=False) == 0.01
    assert rates.of(FULL_DISRUPTION, 3, everything_down=True) == 0
    assert rates.of(FULL_DISRUPTION, 3, everything_down=False) == 0.1


def toleration(seconds: int | None = None, **fields: str) -> core.Toleration:
    result = core.Toleration(**fields)
    if seconds is not None:
        result.tolerationSeconds = seconds
    return result


@pytest.mark.parametrize(
    "tolerations, expected",
    [
        ([], (False, 0.0)),
        ([toleration(operator="Exists")], (True, None)),
        ([toleration(300, key="k", operator="Exists", effect="NoExecute")], (True, 300.0)),
        ([toleration(300, key="k", operator="Exists"), toleration(20, key="k", value="v")], (True, 20.0)),
        ([toleration(key="k", operator="Exists", effect="NoSchedule")], (False, 0.0)),
        ([toleration(key="k", value="other")], (False, 0.0)),
        ([toleration(-5, key="k", operator="Exists")], (True, 0.0)),
    ],
)
def test_tolerated_seconds(tolerations, expected) -> None:
    assert tolerated_seconds([core.Taint(key="k", value="v", effect="NoExecute")], tolerations) == expected


def test_cidrs_are_given_once_and_freed_ones_last() -> None:
    cidrs = CIDRSet("10.244.0.0/22", 24)
    assert cidrs.occupy("10.244.1.0/24")
    assert not cidrs.occupy("10.244.1.0/24")
    first = [cidrs.allocate(), cidrs.allocate()]
    assert first == ["10.244.0.0/24", "10.244.2.0/24"]
    cidrs.release("10.244.0.0/24")
    assert cidrs.allocate() == "10.244.3.0/24"
    assert cidrs.allocate() == "10.244.0.0/24"
    with pytest.raises(CIDRExhausted):
        cidrs.allocate()
    assert (cidrs.used, cidrs.capacity) == (4, 4)


def test_foreign_and_larger_networks() -> None:
    cidrs = CIDRSet("10.244.0.0/22", 24)
    assert cidrs.occupy("192.168.0.0/24")
    assert cidrs.occupy("10.244.0.0/23")
    assert cidrs.allocate() == "10.244.2.0/24"
    with pytest.raises(ValueError, match="does not fit"):
        CIDRSet("10.244.0.0/24", 16)


def test_a_pod_network_is_for_nodes_whose_kubelet_has_reported() -> None:
    assert awaits_cidr(node(Ready="False")) and awaits_cidr(node(MemoryPressure="False"))
    assert not awaits_cidr(node())
    served = node(Ready="True")
    served.spec.podCIDR = "10.244.0.0/24"
    leaving = node(Ready="True")
    leaving.metadata.deletionTimestamp.seconds = 1
    assert not awaits_cidr(served) and not awaits_cidr(leaving)
