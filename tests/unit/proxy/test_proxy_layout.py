"""What a Service port puts into the table, and the difference between two wishes."""

from hypothesis import given
from hypothesis import strategies as st

from services.proxy.model import PortKey, ServicePort
from services.proxy.nft import expressions as nf
from services.proxy.nft import layout
from services.proxy.nft.claims import Claims
from services.proxy.nft.conntrack import Flow, StaleFlows, packed

KEY = PortKey("default", "web", "", "TCP")


def port(*targets: str, key: PortKey = KEY, **fields) -> ServicePort:
    pairs = tuple((t, 8080) for t in targets)
    return ServicePort(**{"key": key, "cluster_ips": ("10.96.0.5",), "port": 80, "targets": pairs,
                          "outside_targets": pairs, **fields})  # fmt: skip


def where(address: str, number: int) -> bytes:
    return nf.address(address) + nf.protocol(6) + nf.port(number)


def test_a_service_takes_one_verdict_and_one_element_per_endpoint():
    plan = layout.plan(port("10.0.0.2", "10.0.0.3"))
    (chain,) = plan.chains
    assert plan.elements["services", where("10.96.0.5", 80)] == nf.Verdict(chain.name)
    for slot, address in enumerate(("10.0.0.2", "10.0.0.3")):
        key = nf.number(slot) + where("10.96.0.5", 80)
        assert plan.elements["endpoints", key] == nf.address(address) + nf.port(8080)
        assert ("hairpin", nf.address(address) * 2) in plan.elements
    assert len(plan.elements) == 1 + 2 + 2 + 1


def test_services_with_equally_many_endpoints_share_their_chains():
    chains = set()
    for i in range(500):
        chains |= layout.plan(port("10.0.0.2", "10.0.0.3", key=PortKey("default", f"s{i}", "", "TCP"))).chains
    assert len(chains) == layout.LANES


def test_without_endpoints_traffic_is_refused():
    plan = layout.plan(port(node_port=30080))
    assert plan.elements["services", where("10.96.0.5", 80)] == layout.NO_ENDPOINTS
    assert plan.elements["node_ports", nf.protocol(6) + nf.port(30080)] == layout.NO_ENDPOINTS
    assert not plan.chains


def test_local_policy_drops_outside_traffic_when_endpoints_are_elsewhere_only():
    plan = layout.plan(port("10.0.0.2", outside_targets=(), remote=frozenset({"10.0.0.2"}), node_port=30080))
    key = nf.protocol(6) + nf.port(30080)
    assert plan.elements["node_ports_outside", key] == layout.DROP
    assert plan.elements["node_ports", key] not in (layout.DROP, layout.NO_ENDPOINTS)


def test_cluster_ips_have_no_outside_rules():
    plan = layout.plan(port("10.0.0.2", outside_targets=(), external_ips=("192.0.2.1",)))
    assert ("services_outside", where("192.0.2.1", 80)) in plan.elements
    assert ("services_outside", where("10.96.0.5", 80)) not in plan.elements


def test_sticky_services_record_their_clients():
    plan = layout.plan(port("10.0.0.2", affinity_seconds=60))
    assert {c.name.partition("-")[0] for c in plan.chains} == {"sticky", "record"}
    assert plan.elements["sticky", where("10.96.0.5", 80)] == nf.Verdict("record-60")


def test_elements_are_split_into_messages_that_fit():
    items = [(nf.number(i), nf.number(i)) for i in range(1000)]
    messages = nf.elements("t", "m", items)
    assert len(messages) == 3
    assert all(len(m.payload) < 65536 for m in messages)


def test_the_first_claim_holds_an_element_and_the_next_takes_over():
    claims = Claims()
    claims.set("a", {"k": 1})
    claims.set("b", {"k": 2})
    assert claims.finish().add == {"k": 1}
    assert claims.contested("b") == {"k": "a"}
    claims.set("a", {})
    difference = claims.finish()
    assert difference.remove == {"k": 1} and difference.add == {"k": 2}


def test_equal_claims_are_counted():
    claims = Claims()
    claims.set("a", {"k": None})
    claims.finish()
    claims.set("b", {"k": None})
    claims.set("a", {})
    assert not claims.finish()
    claims.set("b", {})
    assert claims.finish().remove == {"k": None}


wishes = st.dictionaries(st.sampled_from("klmn"), st.integers(0, 2))


@given(st.lists(st.tuples(st.sampled_from("abc"), wishes, st.booleans())))
def test_differences_applied_one_after_another_give_the_whole(steps):
    claims, kernel = Claims(), {}
    for owner, wanted, send in [*steps, ("a", {}, True)]:
        claims.set(owner, wanted)
        if not send:
            continue
        difference = claims.finish()
        for key, value in difference.remove.items():
            assert kernel.pop(key) == value
        for key, value in difference.add.items():
            assert key not in kernel
            kernel[key] = value
    assert kernel == claims.all()


def flow(destination: str, backend: str, *, number: int = 80, protocol: int = 17) -> Flow:
    return Flow(protocol, packed(destination), number, packed(backend), 8080, b"", b"")


def test_udp_flows_to_a_lost_endpoint_are_stale():
    key = PortKey("default", "dns", "", "UDP")
    before, after = port("10.0.0.2", "10.0.0.3", key=key), port("10.0.0.3", key=key)
    stale = StaleFlows.between(before, after)
    assert stale is not None
    assert stale.covers(flow("10.96.0.5", "10.0.0.2"))
    assert not stale.covers(flow("10.96.0.5", "10.0.0.3"))
    assert not stale.covers(flow("10.96.0.5", "10.0.0.2", protocol=6))
    assert not stale.covers(flow("10.96.0.6", "10.0.0.2"))


def test_more_endpoints_make_no_flow_stale_but_the_first_one_does():
    key = PortKey("default", "dns", "", "UDP")
    assert StaleFlows.between(port("10.0.0.2", key=key), port("10.0.0.2", "10.0.0.3", key=key)) is None
    assert StaleFlows.between(port(key=key), port("10.0.0.2", key=key)) is not None
    assert StaleFlows.between(None, port("10.0.0.2")) is None
