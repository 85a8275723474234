"""Keys, owners, conditions, pods' resources, times, names, envelopes."""

import pytest

from tillerman.api import envelope, json_forms, meta, pods, times, validation
from tillerman.api.scheme import SCHEME
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import meta_v1_pb2
from tillerman.pb.k8s.resource_pb2 import Quantity


def container(restart: str = "", **requests: str) -> core.Container:
    found = core.Container(name="c")
    if restart:
        found.restartPolicy = restart
    for name, amount in requests.items():
        found.resources.requests[name].CopyFrom(Quantity(string=amount))
    return found


def test_keys() -> None:
    pod = core.Pod(metadata=meta_v1_pb2.ObjectMeta(name="p", namespace="n"))
    assert meta.key_of(pod) == "n/p"
    assert meta.split_key("n/p") == ("n", "p")
    assert meta.split_key("p") == ("", "p")


def test_owners() -> None:
    owner = apps.ReplicaSet(metadata=meta_v1_pb2.ObjectMeta(name="r", uid="u"))
    pod = core.Pod()
    assert meta.controller_of(pod) is None
    pod.metadata.ownerReferences.append(meta.owner_reference(owner))
    reference = meta.controller_of(pod)
    assert reference is not None
    assert (reference.apiVersion, reference.kind, reference.name) == ("apps/v1", "ReplicaSet", "r")
    assert reference.blockOwnerDeletion
    assert meta.is_controlled_by(pod, owner)


def test_conditions_keep_their_transition_time() -> None:
    pod = core.Pod()
    first = core.PodCondition(type="Ready", status="True", lastTransitionTime=times.from_seconds(1))
    assert meta.set_condition(pod.status.conditions, first)
    second = core.PodCondition(type="Ready", status="True", reason="R", lastTransitionTime=times.from_seconds(2))
    assert meta.set_condition(pod.status.conditions, second)
    assert pod.status.conditions[0].lastTransitionTime.seconds == 1
    third = core.PodCondition(type="Ready", status="False", lastTransitionTime=times.from_seconds(3))
    assert meta.set_condition(pod.status.conditions, third)
    assert pod.status.conditions[0].lastTransitionTime.seconds == 3
    assert not meta.set_condition(pod.status.conditions, third)
    assert meta.remove_condition(pod.status.conditions, "Ready")
    assert not pod.status.conditions


def test_any() -> None:
    pod = core.Pod(metadata=meta_v1_pb2.ObjectMeta(name="p"))
    packed = meta.pack_any(pod)
    assert packed.type_url == "type.googleapis.com/k8s.io.api.core.v1.Pod"
    assert meta.unpack_any(packed) == pod


def test_resource_requests_count_init_containers_and_sidecars() -> None:
    pod = core.Pod()
    pod.spec.containers.extend([container(cpu="500m", memory="1Gi"), container(cpu="1")])
    assert pods.resource_requests(pod) == {"cpu": 1500, "memory": 2**30, "pods": 1}
    pod.spec.initContainers.append(container(cpu="2"))
    assert pods.resource_requests(pod)["cpu"] == 2000
    pod.spec.initContainers.insert(0, container("Always", cpu="250m"))
    assert pods.resource_requests(pod)["cpu"] == 2250
    pod.spec.overhead["cpu"].string = "100m"
    assert pods.resource_requests(pod)["cpu"] == 2350


def test_quality_of_service() -> None:
    pod = core.Pod(spec=core.PodSpec(containers=[core.Container(name="c")]))
    assert pods.qos_class(pod) == "BestEffort"
    pod.spec.containers[0].resources.requests["cpu"].string = "1"
    assert pods.qos_class(pod) == "Burstable"
    pod.spec.containers[0].resources.limits["cpu"].string = "1"
    pod.spec.containers[0].resources.limits["memory"].string = "1Gi"
    assert pods.qos_class(pod) == "Guaranteed"
    pod.spec.containers[0].resources.requests["cpu"].string = "500m"
    assert pods.qos_class(pod) == "Burstable"


def test_pod_states() -> None:
    pod = core.Pod(status=core.PodStatus(phase="Running", conditions=[core.PodCondition(type="Ready", status="True")]))
    assert pods.is_ready(pod)
    assert pods.is_active(pod)
    pod.metadata.deletionTimestamp.seconds = 1
    assert not pods.is_active(pod)
    assert pods.is_terminal(core.Pod(status=core.PodStatus(phase="Failed")))


def test_times() -> None:
    moment = times.parse_rfc3339("2026-11-23T08:05:47.5+01:00")
    assert times.rfc3339(moment) == "2026-11-23T07:05:47Z"
    assert times.rfc3339(times.micro_from_seconds(1.25)) == "1970-01-01T00:00:01.250000Z"
    assert times.to_datetime(moment).isoformat() == "2026-11-23T07:05:47+00:00"
    assert times.is_zero(meta_v1_pb2.Time())
    assert not times.is_zero(times.from_seconds(0))
    assert times.from_seconds(-0.5).seconds == -1
    for text in ("2026-11-23", "2026-13-01T00:00:00Z", "now", "2026-11-23T07:05:47"):
        with pytest.raises(ValueError, match="parsing time"):
            times.parse_rfc3339(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0s"), (30 * 10**9, "30s"), (90 * 10**9, "1m30s"), (3600 * 10**9, "1h0m0s"), (1_500_000_000, "1.5s"),
     (250 * 10**6, "250ms"), (-5 * 10**9, "-5s")],
)  # fmt: skip
def test_durations(nanoseconds: int, text: str) -> None:
    assert json_forms.format_duration(nanoseconds) == text
    assert json_forms.parse_duration(text) == nanoseconds


def test_envelopes() -> None:
    found = envelope.unwrap(envelope.wrap("apps/v1", "Deployment", b"\x0a\x00"))
    assert (found.api_version, found.kind, found.raw) == ("apps/v1", "Deployment", b"\x0a\x00")
    assert envelope.unwrap(b'{"kind":"Gadget"}').content_type == envelope.JSON
    with pytest.raises(ValueError, match="neither"):
        envelope.unwrap(b"garbage")


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (validation.is_dns1123_label, ["a", "a-1", "1a"], ["", "A", "-a", "a.b", "a" * 64]),
        (validation.is_dns1123_subdomain, ["a", "a.b-c"], ["", "A", "a..b", "a_b", "a" * 254]),
        (validation.is_dns1035_label, ["a1"], ["1a", "a.b"]),
        (validation.is_qualified_name, ["a", "example.com/a_B.c"], ["", "/a", "a/", "a/b/c", "-a", "EX.com/a"]),
        (validation.is_label_value, ["", "A_b.c"], ["-", "a b", "a" * 64]),
        (validation.is_config_key, ["a.b", "KEY_1"], ["", "a/b", ".", "..", "..a"]),
        (validation.is_env_name, ["A_B", "a.b-c"], ["", "1A", "a=b"]),
        (validation.is_port_name, ["http", "a-1"], ["1", "a--b", "-a", "a" * 16]),
    ],
)
def test_names(check, good: list[str], bad: list[str]) -> None:  # type: ignore[no-untyped-def]
    assert {text: check(text) for text in good} == {text: [] for text in good}
    assert all(check(text) for text in bad)


@pytest.mark.parametrize("word", ["po", "pod", "pods", "Pod", "pods.v1."[:-1]])
def test_lookup_of_pods(word: str) -> None:
    assert SCHEME.lookup(word).resource == "pods"


def test_lookup() -> None:
    assert SCHEME.lookup("deployments.apps").api_version == "apps/v1"
    assert SCHEME.lookup("deployments.v1.apps").kind == "Deployment"
    assert SCHEME.lookup("events").api_version == "v1"
    assert SCHEME.lookup("events.events.k8s.io").api_version == "events.k8s.io/v1"
    assert SCHEME.lookup("hpa.v1.autoscaling").api_version == "autoscaling/v1"
    assert SCHEME.by_kind("autoscaling/v1", "HorizontalPodAutoscaler").also_served == ()
    with pytest.raises(LookupError, match="the server doesn't have a resource type"):
        SCHEME.lookup("gadgets")
    assert {i.resource for i in SCHEME.category("all")} >= {"pods", "services", "deployments"}
