"""From Services and EndpointSlices to ports with targets."""

import pytest

from services.proxy.model import Endpoint, PortKey, is_proxied, service_ports, usable
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery


def make_service(**spec) -> core.Service:
    service = core.Service()
    service.metadata.namespace, service.metadata.name = "default", "web"
    service.spec.CopyFrom(core.ServiceSpec(**{"type": "ClusterIP", "clusterIP": "10.96.0.5", **spec}))
    if not service.spec.ports:
        service.spec.ports.add(name="http", protocol="TCP", port=80)
    return service


def make_slice(
    *addresses, port=8080, name="http", protocol="TCP", node="node-1", **conditions
) -> discovery.EndpointSlice:
    made = discovery.EndpointSlice(addressType="IPv4")
    made.metadata.namespace = "default"
    made.metadata.labels["kubernetes.io/service-name"] = "web"
    made.ports.add(name=name, protocol=protocol, port=port)
    for address in addresses:
        endpoint = made.endpoints.add(addresses=[address], nodeName=node)
        endpoint.conditions.CopyFrom(discovery.EndpointConditions(**conditions))
    return made


def only(service, slices, *, local="node-1"):
    (port,) = service_ports(service, slices, is_local=lambda e: e.node == local).values()
    return port


def test_targets_are_the_ready_endpoints_of_all_slices_sorted_and_unique():
    slices = [make_slice("10.0.0.3", "10.0.0.2"), make_slice("10.0.0.3"), make_slice("10.0.0.9", ready=False)]
    assert only(make_service(), slices).targets == (("10.0.0.2", 8080), ("10.0.0.3", 8080))


def test_slices_of_one_service_may_differ_in_their_ports_number():
    slices = [make_slice("10.0.0.2", port=8080), make_slice("10.0.0.3", port=9090)]
    assert only(make_service(), slices).targets == (("10.0.0.2", 8080), ("10.0.0.3", 9090))


def test_ports_are_matched_by_name_and_protocol():
    service = make_service()
    service.spec.ports.add(name="dns", protocol="UDP", port=53)
    slices = [make_slice("10.0.0.2"), make_slice("10.0.0.3", name="dns", protocol="UDP", port=5353)]
    ports = service_ports(service, slices, is_local=lambda e: True)
    assert ports[PortKey("default", "web", "http", "TCP")].targets == (("10.0.0.2", 8080),)
    assert ports[PortKey("default", "web", "dns", "UDP")].targets == (("10.0.0.3", 5353),)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([(True, True, False), (False, True, True)], 1),
        ([(False, True, True), (False, False, True)], 1),
        ([(False, True, False)], 0),
        ([], 0),
    ],
    ids=["ready wins", "serving while terminating", "not ready is not used", "none"],
)
def test_terminating_endpoints_serve_only_when_nothing_is_ready(states, expected):
    endpoints = [
        Endpoint(f"10.0.0.{i}", 80, ready=ready, serving=serving, terminating=terminating)
        for i, (ready, serving, terminating) in enumerate(states)
    ]
    assert len(usable(endpoints)) == expected


def test_absent_conditions_mean_ready():
    assert only(make_service(), [make_slice("10.0.0.2")]).targets


def test_external_traffic_policy_local_keeps_outside_traffic_here():
    service = make_service(type="NodePort", externalTrafficPolicy="Local")
    port = only(service, [make_slice("10.0.0.2"), make_slice("10.0.0.3", node="node-2")])
    assert [t[0] for t in port.targets] == ["10.0.0.2", "10.0.0.3"]
    assert [t[0] for t in port.outside_targets] == ["10.0.0.2"]
    assert port.remote == {"10.0.0.3"}


def test_internal_traffic_policy_local():
    port = only(make_service(internalTrafficPolicy="Local"), [make_slice("10.0.0.2"), make_slice("10.0.0.3", node="x")])
    assert [t[0] for t in port.targets] == ["10.0.0.2"]


def test_affinity_has_kubernetes_default_timeout():
    assert only(make_service(sessionAffinity="ClientIP"), []).affinity_seconds == 10800
    config = core.SessionAffinityConfig(clientIP=core.ClientIPConfig(timeoutSeconds=7))
    assert only(make_service(sessionAffinity="ClientIP", sessionAffinityConfig=config), []).affinity_seconds == 7


def test_load_balancer_addresses_count_unless_the_balancer_proxies():
    service = make_service(type="LoadBalancer", externalIPs=["192.0.2.9"])
    service.status.loadBalancer.ingress.add(ip="192.0.2.7")
    service.status.loadBalancer.ingress.add(ip="192.0.2.8", ipMode="Proxy")
    service.status.loadBalancer.ingress.add(hostname="lb.example")
    assert only(service, []).external_ips == ("192.0.2.7", "192.0.2.9")


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"clusterIP": ""}, {"type": "ExternalName"}])
def test_headless_and_external_services_have_no_rules(spec):
    assert not is_proxied(make_service(**spec))


def test_another_proxys_services_are_left_alone():
    service = make_service()
    service.metadata.labels["service.kubernetes.io/service-proxy-name"] = "other"
    assert not is_proxied(service)


def test_ipv6_slices_are_ignored():
    six = make_slice("fd00::1")
    six.addressType = "IPv6"
    assert only(make_service(), [six]).targets == ()
