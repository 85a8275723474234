"""Services to EndpointSlices and Endpoints."""

from services.controller.endpoints.backends import backends
from services.controller.endpoints.legacy import plan_endpoints
from services.controller.endpoints.slice_plan import MAX_ENDPOINTS, plan_slices
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import discovery_v1_pb2 as discovery


def service(*, target: int | str = 8080, headless=False, publish=False) -> core.Service:
    result = core.Service()
    result.metadata.name, result.metadata.namespace, result.metadata.uid = "web", "default", "svc"
    result.spec.clusterIP = "None" if headless else "10.96.0.1"
    result.spec.selector["app"] = "web"
    result.spec.publishNotReadyAddresses = publish
    port = result.spec.ports.add(name="http", port=80, protocol="TCP")
    if isinstance(target, int):
        port.targetPort.type, port.targetPort.intVal = 0, target
    else:
        port.targetPort.type, port.targetPort.strVal = 1, target
    return result


def pod(number: int, *, ready=True, phase="Running", port=8080, ip=True, **spec: str) -> core.Pod:
    result = core.Pod()
    result.metadata.name = result.metadata.uid = f"p{number:04}"
    result.metadata.namespace = "default"
    result.metadata.labels["app"] = "web"
    result.spec.nodeName = "n1"
    for name, value in spec.items():
        setattr(result.spec, name, value)
    result.spec.containers.add(name="c").ports.add(name="http", containerPort=port)
    result.status.phase = phase
    if ip:
        result.status.podIP = f"10.244.{number // 250}.{number % 250 + 1}"
    result.status.conditions.add(type="Ready", status="True" if ready else "False")
    return result


def packed(svc, pods, existing=()):
    return plan_slices(svc, backends(svc, pods, "IPv4", lambda _: "zone-a"), list(existing), "IPv4")


def stored(plan) -> list[discovery.EndpointSlice]:
    result = [*plan.create, *plan.update]
    for number, one in enumerate(result):
        one.metadata.name = one.metadata.name or f"web-{number}"
    return result


def test_one_slice_with_everything_a_reader_needs() -> None:
    going = pod(3)
    going.metadata.deletionTimestamp.seconds = 1
    plan = packed(service(), [pod(1), pod(2, ready=False), going, pod(4, phase="Failed"), pod(5, ip=False)])
    (only,) = plan.create
    assert dict(only.metadata.labels) == {
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert only.metadata.generateName == "web-"
    assert only.metadata.ownerReferences[0].uid == "svc"
    assert [(p.name, p.port, p.protocol) for p in only.ports] == [("http", 8080, "TCP")]
    states = [(e.conditions.ready, e.conditions.serving, e.conditions.terminating) for e in only.endpoints]
    assert states == [(True, True, False), (False, False, False), (False, True, True)]
    first = only.endpoints[0]
    assert (first.nodeName, first.zone, first.targetRef.kind, first.targetRef.name) == ("n1", "zone-a", "Pod", "p0001")


def test_nothing_to_write_when_nothing_changed() -> None:
    slices = stored(packed(service(), [pod(1), pod(2)]))
    assert packed(service(), [pod(1), pod(2)], slices).empty


def test_a_change_touches_only_its_slice() -> None:
    pods = [pod(number) for number in range(150)]
    slices = stored(packed(service(), pods))
    assert sorted(len(one.endpoints) for one in slices) == [50, MAX_ENDPOINTS]
    pods[3].status.conditions[0].status = "False"
    plan = packed(service(), pods, slices)
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 0)
    pods[3].status.conditions[0].status = "True"
    plan = packed(service(), [*pods[:100], pod(900)], slices)
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 0)


def test_named_ports_are_resolved_per_pod() -> None:
    plan = packed(service(target="http"), [pod(1, port=8080), pod(2, port=9090), pod(3, port=8080)])
    assert sorted((one.ports[0].port, len(one.endpoints)) for one in plan.create) == [(8080, 2), (9090, 1)]
    assert packed(service(target="none"), [pod(1)]).create[0].endpoints == []


def test_without_backends_one_empty_slice_stays() -> None:
    slices = stored(packed(service(), []))
    assert [len(one.endpoints) for one in slices] == [0]
    assert packed(service(), [], slices).empty
    plan = packed(service(), [pod(1)], slices)
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 0)
    assert len(plan.update[0].endpoints) == 1


def test_headless_hostnames_and_unready_addresses() -> None:
    svc = service(headless=True, publish=True)
    (only,) = packed(svc, [pod(1, ready=False, hostname="db-0", subdomain="web")]).create
    assert only.endpoints[0].hostname == "db-0"
    assert only.endpoints[0].conditions.ready
    assert not only.endpoints[0].conditions.serving
    assert only.metadata.labels["service.kubernetes.io/headless"] == ""


def test_legacy_endpoints() -> None:
    wanted = plan_endpoints(service(), [pod(1), pod(2, ready=False)], None, "IPv4")
    (subset,) = wanted.subsets
    assert [address.ip for address in subset.addresses] == ["10.244.0.2"]
    assert [address.ip for address in subset.notReadyAddresses] == ["10.244.0.3"]
    assert subset.ports[0].port == 8080
    assert plan_endpoints(service(), [pod(1), pod(2, ready=False)], wanted, "IPv4") == wanted
