"""Answers of cluster DNS, after the DNS-based service discovery specification."""

import ipaddress

import pytest

from services.proxy.dns.records import Answer, Source, Zone
from services.proxy.dns.upstream import parse_resolv_conf
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery


def service(name: str, cluster_ip: str, *ports, namespace="default", **spec) -> core.Service:
    made = core.Service()
    made.metadata.namespace, made.metadata.name = namespace, name
    made.spec.CopyFrom(core.ServiceSpec(type="ClusterIP", clusterIP=cluster_ip))
    made.spec.MergeFrom(core.ServiceSpec(**spec))
    for port_name, protocol, number in ports:
        made.spec.ports.add(name=port_name, protocol=protocol, port=number)
    return made


def endpoints(*members, port=("http", "TCP", 8080)) -> discovery.EndpointSlice:
    made = discovery.EndpointSlice(addressType="IPv4")
    made.ports.add(name=port[0], protocol=port[1], port=port[2])
    for address, hostname, ready in members:
        endpoint = made.endpoints.add(addresses=[address], hostname=hostname)
        endpoint.conditions.ready = ready
    return made


SERVICES = {
    "default/web": service("web", "10.96.0.5", ("http", "TCP", 80), ("", "UDP", 81)),
    "data/db": service("db", "None", ("http", "TCP", 80), namespace="data"),
    "data/all": service("all", "None", ("http", "TCP", 80), namespace="data", publishNotReadyAddresses=True),
    "data/empty": service("empty", "None", namespace="data"),
    "default/out": service("out", "", type="ExternalName", externalName="example.com"),
}
MEMBERS = endpoints(("10.244.0.2", "db-0", True), ("10.244.0.3", "", True), ("10.244.0.4", "db-2", False))


def labelled(slice_: discovery.EndpointSlice, key: str) -> discovery.EndpointSlice:
    made = discovery.EndpointSlice()
    made.CopyFrom(slice_)
    made.metadata.namespace, made.metadata.labels["kubernetes.io/service-name"] = key.split("/")
    return made


SLICES = {key: [labelled(MEMBERS, key)] for key in ("data/db", "data/all")}
ZONE = Zone(
    "cluster.local",
    Source(
        SERVICES.get,
        SERVICES.values,
        lambda key: SLICES.get(key, []),
        lambda ip: [s for s in SERVICES.values() if s.spec.clusterIP == ip],
        lambda ip: [s for slices in SLICES.values() for s in slices if any(ip in e.addresses for e in s.endpoints)],
    ),
    networks=[ipaddress.IPv4Network("10.244.0.0/16")],
)


def ask(name: str, kind: str = "A") -> Answer:
    labels = tuple(name.split("."))
    assert ZONE.owns(labels)
    return ZONE.answer(labels, kind)


def data(name: str, kind: str = "A") -> list[str]:
    return [r.data for r in ask(name, kind).records]


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("web.default.svc.cluster.local", "A", ["10.96.0.5"]),
        ("db.data.svc.cluster.local", "A", ["10.244.0.2", "10.244.0.3"]),
        ("all.data.svc.cluster.local", "A", ["10.244.0.2", "10.244.0.3", "10.244.0.4"]),
        ("db-0.db.data.svc.cluster.local", "A", ["10.244.0.2"]),
        ("10-244-0-3.db.data.svc.cluster.local", "A", ["10.244.0.3"]),
        ("10-244-1-2.default.pod.cluster.local", "A", ["10.244.1.2"]),
        ("out.default.svc.cluster.local", "A", ["example.com."]),
        ("_http._tcp.web.default.svc.cluster.local", "SRV", ["0 100 80 web.default.svc.cluster.local."]),
        (
            "_http._tcp.db.data.svc.cluster.local",
            "SRV",
            ["0 100 8080 db-0.db.data.svc.cluster.local.", "0 100 8080 10-244-0-3.db.data.svc.cluster.local."],
        ),
        ("5.0.96.10.in-addr.arpa", "PTR", ["web.default.svc.cluster.local."]),
        ("dns-version.cluster.local", "TXT", ['"1.1.0"']),
    ],
)
def test_answers(name, kind, expected):
    answer = ask(name, kind)
    assert answer.code == "NOERROR"
    assert [r.data for r in answer.records] == expected


def test_reverse_names_of_headless_pods():
    assert "db-0.db.data.svc.cluster.local." in data("2.0.244.10.in-addr.arpa", "PTR")


@pytest.mark.parametrize(
    "name",
    [
        "nope.default.svc.cluster.local",
        "web.nowhere.svc.cluster.local",
        "nowhere.svc.cluster.local",
        "db-2.db.data.svc.cluster.local",
        "empty.data.svc.cluster.local",
        "_ftp._tcp.web.default.svc.cluster.local",
        "x.y.web.default.svc.cluster.local",
        "300-1-1-1.default.pod.cluster.local",
        "9.9.244.10.in-addr.arpa",
        "else.cluster.local",
    ],
)
def test_names_that_do_not_exist(name):
    assert ask(name).code == "NXDOMAIN"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("web.default.svc.cluster.local", "AAAA"),
        ("default.svc.cluster.local", "A"),
        ("svc.cluster.local", "A"),
        ("cluster.local", "A"),
        ("_tcp.web.default.svc.cluster.local", "A"),
    ],
)
def test_names_that_exist_without_such_records(name, kind):
    answer = ask(name, kind)
    assert (answer.code, answer.records) == ("NOERROR", [])


def test_srv_answers_bring_the_addresses_along():
    assert [r.data for r in ask("_http._tcp.db.data.svc.cluster.local", "SRV").additional] == [
        "10.244.0.2",
        "10.244.0.3",
    ]


def test_answers_name_the_service_that_they_depend_on():
    assert ask("web.default.svc.cluster.local").service == "default/web"
    assert ask("nope.default.svc.cluster.local").service == "default/nope"


def test_other_names_belong_to_upstream():
    assert not ZONE.owns(("example", "com"))
    assert not ZONE.owns(("8", "8", "8", "8", "in-addr", "arpa"))


def test_resolv_conf():
    content = "# a comment\nnameserver 10.0.0.1\nnameserver fd00::1\nsearch x\nnameserver 10.0.0.2 # two\n"
    assert parse_resolv_conf(content) == ["10.0.0.1", "10.0.0.2"]
