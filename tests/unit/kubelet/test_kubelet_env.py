"""Environment, downward API, resolver and hosts files, pull policy, admission, addresses: pure parts."""

import base64
import json

import pytest

from services.kubelet.addresses import AddressesExhausted, AddressPool
from services.kubelet.admission import admit
from services.kubelet.container_spec import oom_score
from services.kubelet.downward import pod_field
from services.kubelet.env import EnvError, EnvSources, build_env, expand, referenced, service_variables
from services.kubelet.images import default_policy, registry_auths, registry_of
from services.kubelet.pod_files import ClusterDns, etc_hosts, hostname_of, resolv_conf
from services.kubelet.runtime.references import is_reference, split_reference
from tillerman.api.codec import from_dict
from tillerman.pb.k8s import core_v1_pb2 as core

DNS = ClusterDns(("10.96.0.10",), "cluster.local", "nameserver 192.0.2.53\nsearch example.org\noptions edns0\n")


def make_pod(**spec: object) -> core.Pod:
    meta = {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"b": "2", "a": '1"'}}
    data = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [{"name": "c"}], **spec}}
    found = from_dict(data)
    assert isinstance(found, core.Pod)
    return found


def container(**fields: object) -> core.Container:
    return make_pod(containers=[{"name": "c", **fields}]).spec.containers[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)-$(B)", "1-$(B)"), ("$$(A)", "$(A)"), ("$A $(A)$(A)", "$A 11"), ("$(", "$(")],
)
def test_expansion(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


def test_later_variables_see_earlier_ones_and_win_over_sources() -> None:
    web = container(
        envFrom=[{"prefix": "P_", "configMapRef": {"name": "cm"}}],
        env=[
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)$(P_K)"},
            {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        ],
        resources={"limits": {"cpu": "1500m"}},
    )
    assert referenced(web) == ({"cm"}, {"s"})
    sources = EnvSources(
        config_maps={"cm": core.ConfigMap(data={"K": "v", "bad name": "x"})},
        secrets={"s": core.Secret(data={"k": b"secret"})},
        pod_ip="10.0.0.9",
    )
    expected = {"P_K": "v", "A": "1", "B": "1v", "S": "secret", "IP": "10.0.0.9", "CPU": "2"}
    assert build_env(make_pod(), web, sources) == expected


def test_missing_references_say_what_is_missing() -> None:
    one = container(env=[{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}])
    with pytest.raises(EnvError, match='configmap "cm" not found'):
        build_env(make_pod(), one, EnvSources())
    with pytest.raises(EnvError, match="couldn't find key k in ConfigMap shop/cm"):
        build_env(make_pod(), one, EnvSources(config_maps={"cm": core.ConfigMap()}))
    one.env[0].valueFrom.configMapKeyRef.optional = True
    assert build_env(make_pod(), one, EnvSources()) == {}


def test_service_variables() -> None:
    service = core.Service()
    service.metadata.name, service.metadata.namespace = "my-db", "shop"
    service.spec.clusterIP = "10.96.0.7"
    service.spec.ports.add(name="sql", port=5432, protocol="TCP")
    found = service_variables([service], make_pod())
    assert found["MY_DB_SERVICE_HOST"] == "10.96.0.7" and found["MY_DB_SERVICE_PORT_SQL"] == "5432"
    assert found["MY_DB_PORT"] == "tcp://10.96.0.7:5432" and found["MY_DB_PORT_5432_TCP_ADDR"] == "10.96.0.7"
    assert service_variables([service], make_pod(enableServiceLinks=False)) == {}


def test_labels_as_text() -> None:
    assert pod_field(make_pod(), "metadata.labels") == 'a="1\\""\nb="2"'
    assert pod_field(make_pod(), "metadata.labels['b']") == "2"


def test_resolver_files() -> None:
    assert resolv_conf(make_pod(), DNS) == (
        "search shop.svc.cluster.local svc.cluster.local cluster.local example.org\n"
        "nameserver 10.96.0.10\noptions ndots:5\n"
    )
    assert resolv_conf(make_pod(dnsPolicy="Default"), DNS).startswith("search example.org\nnameserver 192.0.2.53")
    assert resolv_conf(make_pod(hostNetwork=True), DNS).startswith("search example.org")
    config = {"nameservers": ["192.0.2.9"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}]}
    assert resolv_conf(make_pod(dnsPolicy="None", dnsConfig=config), DNS) == (
        "search x\nnameserver 192.0.2.9\noptions ndots:2\n"
    )


def test_hosts_file_and_hostname() -> None:
    aliased = make_pod(hostname="db-0", subdomain="db", hostAliases=[{"ip": "192.0.2.1", "hostnames": ["a", "b"]}])
    text = etc_hosts(aliased, ip="10.0.0.2", hostname="db-0", domain="cluster.local", host_file="")
    assert "10.0.0.2\tdb-0.db.shop.svc.cluster.local\tdb-0\n" in text and "192.0.2.1\ta\tb\n" in text
    assert hostname_of(aliased, "node") == "db-0"
    assert hostname_of(make_pod(hostNetwork=True), "node") == "node"


@pytest.mark.parametrize(
    ("image", "policy", "parts", "registry"),
    [
        ("app", "Always", ("app", "latest"), "docker.io"),
        ("app:1", "IfNotPresent", ("app", "1"), "docker.io"),
        ("localhost:5000/app", "Always", ("localhost:5000/app", "latest"), "localhost:5000"),
        ("r.example/team/app:2", "IfNotPresent", ("r.example/team/app", "2"), "r.example"),
    ],
)
def test_image_names(image: str, policy: str, parts: tuple[str, str], registry: str) -> None:
    assert is_reference(image) and default_policy(image) == policy
    assert split_reference(image) == parts and registry_of(image) == registry


@pytest.mark.parametrize("image", ["", "App:1", "a b", "app:", "-x", "http://x/y"])
def test_bad_image_names(image: str) -> None:
    assert not is_reference(image)


def test_pull_secrets_are_for_their_registry() -> None:
    auth = base64.b64encode(b"user:pass").decode()
    config = {"auths": {"https://r.example/v1/": {"auth": auth}, "other": {"username": "x"}}}
    secret = core.Secret(data={".dockerconfigjson": json.dumps(config).encode()})
    (found,) = registry_auths(secret, "r.example/app:1")
    assert (found.username, found.password) == ("user", "pass")
    assert list(registry_auths(core.Secret(data={".dockerconfigjson": b"no json"}), "r.example/app")) == []


def test_admission() -> None:
    big = make_pod(containers=[{"name": "c", "resources": {"requests": {"cpu": "1500m"}}}])
    node = {"cpu": 2000, "memory": 1 << 30, "pods": 2}

    def ask(pod: core.Pod, active: list[core.Pod]) -> str:
        found = admit(pod, active=active, allocatable=node, node_labels={"zone": "a"}, node_name="n1")
        return found.reason if found else ""

    assert ask(big, []) == ""
    assert ask(big, [big]) == "OutOfcpu"
    assert ask(make_pod(), [make_pod(), make_pod()]) == "OutOfpods"
    assert ask(make_pod(nodeSelector={"zone": "b"}), []) == "NodeAffinity"
    assert ask(make_pod(nodeSelector={"zone": "a"}), []) == ""


def test_addresses_are_not_used_again_at_once() -> None:
    pool = AddressPool("10.244.1.0/29")
    first = [pool.take() for _ in range(5)]
    assert first == [f"10.244.1.{n}" for n in range(2, 7)]
    with pytest.raises(AddressesExhausted):
        pool.take()
    pool.release("10.244.1.3")
    assert pool.take() == "10.244.1.3"
    restarted = AddressPool("10.244.1.0/24")
    restarted.reserve("10.244.1.9")
    assert restarted.take() == "10.244.1.10"


def test_oom_scores_are_never_negative() -> None:
    assert [oom_score("Guaranteed", 1, 1), oom_score("BestEffort", 0, 1), oom_score("Burstable", 1 << 29, 1 << 30)] == [
        0,
        1000,
        500,
    ]
