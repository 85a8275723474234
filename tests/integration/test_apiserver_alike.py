"""Objects that are created like others, without being decoded, come out as if each had gone the whole way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from real_apiserver import RunningApiserver

from services.apiserver.admission.quotas import Quotas
from services.apiserver.cache.entry import revision_fragment
from tillerman.api import codec, rpcstatus
from tillerman.api.envelope import length_delimited, split_metadata
from tillerman.api.status import StatusError
from tillerman.client import Client
from tillerman.pb.api import objects_pb2
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import scheduling_v1_pb2 as scheduling

OWN = ("name", "uid", "resourceVersion", "creationTimestamp")
Create = Callable[..., Any]


@pytest.fixture
async def space(client: Client) -> str:
    namespace = core.Namespace()
    namespace.metadata.generateName = "alike-"
    made = await client.resource(core.Namespace).create(namespace)
    name: str = made.metadata.name
    return name


@pytest.fixture
async def channel(apiserver: RunningApiserver) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(apiserver.address) as channel:
        yield channel


@pytest.fixture
def create(channel: grpc.aio.Channel, space: str) -> Create:
    """Sends a pod as it is, or bytes in its place; returns what was created. Raises StatusError."""

    async def create(pod: core.Pod | bytes, *, into: str = space, manager: str = "") -> core.Pod:
        request = objects_pb2.CreateRequest(field_manager=manager)
        request.target.api_version, request.target.resource, request.target.namespace = "v1", "pods", into
        request.object.type_url = "type.googleapis.com/k8s.io.api.core.v1.Pod"
        request.object.value = pod if isinstance(pod, bytes) else pod.SerializeToString()
        method = channel.unary_unary("/tillerman.v1.Objects/Create", response_deserializer=lambda raw: raw)
        try:
            answer = objects_pb2.ObjectResponse.FromString(await method(request.SerializeToString()))
        except grpc.aio.AioRpcError as error:
            raise rpcstatus.from_rpc(error) from error
        return core.Pod.FromString(answer.object.value)

    return create


@pytest.fixture
def whole_way(monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Whether a pod has gone the whole way since it was last asked."""
    went: list[str] = []
    validate = Quotas.validate

    async def noted(self: Quotas, attributes: Any) -> None:
        went.append(attributes.shown_name)
        await validate(self, attributes)

    monkeypatch.setattr(Quotas, "validate", noted)

    def asked() -> bool:
        answer = bool(went)
        went.clear()
        return answer

    return asked


def pod(name: str = "", image: str = "web:1", **metadata: Any) -> core.Pod:
    made = core.Pod()
    made.metadata.name = name
    made.metadata.labels["app"] = "web"
    made.metadata.annotations["note"] = "hübsch" if metadata.pop("accented", False) else "plain"
    for field, value in metadata.items():
        setattr(made.metadata, field, value)
    container = made.spec.containers.add(name="web", image=image)
    container.resources.requests["cpu"].string = "100m"
    return made


def shared(found: core.Pod) -> dict[str, Any]:
    """What alike pods have in common."""
    content = codec.to_dict(found)
    metadata = content["metadata"]
    for field in OWN:
        metadata.pop(field, None)
    for entry in metadata.get("managedFields", ()):
        del entry["time"]
    return content


async def test_the_second_of_its_kind_is_like_the_first_but_for_what_is_its_own(
    create: Create, whole_way: Callable[[], bool], client: Client, space: str
) -> None:
    first = await create(pod("first"), manager="m")
    assert whole_way()
    second = await create(pod("second"), manager="m")
    assert not whole_way()
    assert shared(second) == shared(first)
    assert second.metadata.name == "second"
    assert second.metadata.uid != first.metadata.uid
    assert second.metadata.creationTimestamp.seconds >= first.metadata.creationTimestamp.seconds
    assert second.metadata.managedFields[0].time.seconds == second.metadata.creationTimestamp.seconds
    assert int(second.metadata.resourceVersion) > int(first.metadata.resourceVersion)
    stored = await client.resource(core.Pod).get("second", space)
    assert stored == second
    assert shared(stored)["spec"]["tolerations"][0]["tolerationSeconds"] == 300


async def test_the_stored_bytes_are_those_of_the_whole_way(
    create: Create, apiserver: RunningApiserver, space: str
) -> None:
    for name in ("a", "b"):
        await create(pod(name), manager="m")
    registry = apiserver.server.registry
    pods = registry.catalog.get("v1", "pods")
    rests = []
    for name in ("a", "b"):
        entry = await registry.reader.fresh(pods, pods.key(space, name))
        assert entry is not None
        raw = entry.value.removesuffix(revision_fragment(entry.revision))
        assert raw == core.Pod.FromString(raw).SerializeToString(deterministic=True)
        parts = split_metadata(raw)
        assert parts is not None
        rests.append(parts[1])
    assert rests[0] == rests[1]


async def test_what_differs_goes_the_whole_way(create: Create, whole_way: Callable[[], bool], client: Client) -> None:
    other = core.Namespace()
    other.metadata.generateName = "alike-"
    other = await client.resource(core.Namespace).create(other)
    await create(pod("one"))
    whole_way()
    for index, (body, more) in enumerate(
        [
            (pod("x0", "web:2"), {}),
            (pod("x1", generateName="x"), {}),
            (pod("x2", accented=True), {}),
            (pod("x3"), {"manager": "m"}),
            (pod("x4"), {"into": other.metadata.name}),
        ]
    ):
        made = await create(body, **more)
        assert whole_way(), index
        assert made.metadata.name == f"x{index}"


async def test_refusals_are_those_of_the_object_at_hand(create: Create, whole_way: Callable[[], bool]) -> None:
    await create(pod("one"))
    whole_way()
    with pytest.raises(StatusError) as taken:
        await create(pod("one"))
    assert (taken.value.reason, taken.value.message) == ("AlreadyExists", 'pods "one" already exists')
    with pytest.raises(StatusError) as wrong:
        await create(pod("Not_A_Name"))
    assert wrong.value.message.startswith('Pod "Not_A_Name" is invalid: metadata.name: Invalid value: "Not_A_Name": ')
    with pytest.raises(StatusError) as nameless:
        await create(pod())
    assert [cause.field for cause in nameless.value.status.details.causes] == ["metadata.name"]
    for fault, body in (
        ("resourceVersion should not be set", pod("two", resourceVersion="1")),
        ("the namespace of the provided object does not match", pod("two", namespace="elsewhere")),
    ):
        with pytest.raises(StatusError, match=fault):
            await create(body)


async def test_names_are_generated_for_each(create: Create) -> None:
    names = {(await create(pod(generateName="web-"))).metadata.name for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("web-") and len(name) == 9 for name in names)


async def test_a_later_field_that_names_the_object_is_heeded(create: Create) -> None:
    body = pod("said-first").SerializeToString()

    def renamed(name: str) -> bytes:
        return body + length_delimited(1, core.Pod(metadata={"name": name}).metadata.SerializeToString())

    assert (await create(renamed("one"))).metadata.name == "one"
    assert (await create(renamed("two"))).metadata.name == "two"
    with pytest.raises(StatusError, match="already exists"):
        await create(renamed("two"))


async def test_bytes_that_are_no_text_or_no_message_are_refused(create: Create) -> None:
    await create(pod("one"))
    good = pod("two").SerializeToString()
    for bad in (good.replace(b"two", b"t\xff\xff"), good.replace(b"plain", b"pl\xff\xffn"), good[:-3]):
        with pytest.raises(StatusError) as refused:
            await create(bad)
        assert refused.value.reason == "BadRequest"


async def test_a_change_of_what_admission_goes_by_is_heeded_at_once(create: Create, client: Client, space: str) -> None:
    await create(pod("before"))
    limits = core.LimitRange()
    limits.metadata.name, limits.metadata.namespace = "limits", space
    item = limits.spec.limits.add(type="Container")
    item.default["memory"].string = "64Mi"
    await client.resource(core.LimitRange).create(limits)
    limited = await create(pod("limited"))
    assert limited.spec.containers[0].resources.limits["memory"].string == "64Mi"
    again = await create(pod("again"))
    assert again.spec.containers[0].resources.limits["memory"].string == "64Mi"
    assert "LimitRanger plugin set" in again.metadata.annotations["kubernetes.io/limit-ranger"]
    await client.resource(core.LimitRange).delete("limits", space)
    assert "memory" not in (await create(pod("after"))).spec.containers[0].resources.limits

    urgent = scheduling.PriorityClass(value=1000, globalDefault=True)
    urgent.metadata.name = "urgent"
    await client.resource(scheduling.PriorityClass).create(urgent)
    try:
        assert (await create(pod("urgent"))).spec.priority == 1000
    finally:
        await client.resource(scheduling.PriorityClass).delete("urgent")
    assert (await create(pod("calm"))).spec.priority == 0

    await client.resource(core.Namespace).delete(space)
    with pytest.raises(StatusError, match="because it is being terminated"):
        await create(pod("late"))


async def test_every_pod_is_charged_to_a_quota(create: Create, client: Client, space: str) -> None:
    await create(pod("before"))
    quota = core.ResourceQuota()
    quota.metadata.name, quota.metadata.namespace = "two", space
    quota.spec.hard["pods"].string = "2"
    made = await client.resource(core.ResourceQuota).create(quota)
    made.status.hard["pods"].string, made.status.used["pods"].string = "2", "0"
    await client.resource(core.ResourceQuota).update_status(made)
    await create(pod("one"))
    await create(pod("two"))
    with pytest.raises(StatusError, match="exceeded quota: two, requested: pods=1, used: pods=2, limited: pods=2"):
        await create(pod("three"))


async def test_no_more_than_so_many_are_kept(
    create: Create, apiserver: RunningApiserver, monkeypatch: pytest.MonkeyPatch, whole_way: Callable[[], bool]
) -> None:
    monkeypatch.setattr("services.apiserver.registry.creations.KEPT", 2)
    for number in range(4):
        await create(pod(f"a{number}", f"web:{number}"))
    whole_way()
    await create(pod("b3", "web:3"))
    assert not whole_way()
    await create(pod("b0", "web:0"))
    assert whole_way()


async def test_one_plugin_that_does_not_tell_what_it_reads_turns_it_off(
    create: Create, apiserver: RunningApiserver, monkeypatch: pytest.MonkeyPatch, whole_way: Callable[[], bool]
) -> None:
    monkeypatch.setattr(Quotas, "reads", None)
    for name in ("one", "two"):
        await create(pod(name))
        assert whole_way()
