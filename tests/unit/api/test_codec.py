"""What the codec refuses, and in which words."""

import pytest

from tillerman.api import codec
from tillerman.api.codec import DecodeError
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import meta_v1_pb2 as meta


def deployment(**spec: object) -> dict[str, object]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


def faults(data: object, **options: bool) -> str:
    with pytest.raises(DecodeError) as caught:
        codec.from_dict(data, **options)
    return str(caught.value)


def test_unknown_fields_are_named_with_their_path() -> None:
    data = deployment(replica=3, template={"spec": {"containers": [{"name": "a", "imag": "x"}]}})
    assert faults(data, strict=True) == (
        'strict decoding error: unknown field "spec.replica", unknown field "spec.template.spec.containers[0].imag"'
    )


def test_unknown_fields_are_ignored_or_reported_when_not_strict() -> None:
    warnings: list[str] = []
    message = codec.from_dict(deployment(replica=3, replicas=2), unknown=warnings)
    assert isinstance(message, apps.Deployment)
    assert message.spec.replicas == 2
    assert warnings == ['unknown field "spec.replica"']
    assert codec.from_dict(deployment(replica=3)).ListFields()


def test_field_names_are_case_sensitive() -> None:
    assert faults(deployment(Replicas=1), strict=True) == 'strict decoding error: unknown field "spec.Replicas"'


def test_duplicate_fields_are_named_with_their_path() -> None:
    text = b'{"apiVersion":"apps/v1","kind":"Deployment","spec":{"replicas":1,"replicas":2,"x":1}}'
    with pytest.raises(DecodeError) as caught:
        codec.from_json(text, strict=True)
    assert caught.value.errors == ['unknown field "spec.x"', 'duplicate field "spec.replicas"']
    message = codec.from_json(text)
    assert isinstance(message, apps.Deployment)
    assert message.spec.replicas == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"replicas": "3"},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"replicas": 1.5},
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"replicas": 2**31},
            "json: cannot unmarshal number 2147483648 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"paused": "no"},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.paused of type bool",
        ),
        (
            {"template": {"spec": {"containers": [{"name": 5}]}}},
            "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.name of type "
            "string",
        ),
        (
            {"template": {"spec": {"containers": {}}}},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type "
            "[]v1.Container",
        ),
        (
            {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "lots"}}}]}}},
            "spec.template.spec.containers[0].resources.limits[cpu]: quantities must match the regular expression "
            "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            {"template": {"metadata": {"labels": {"a": 1}}}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.spec.template.metadata.labels of type "
            "string",
        ),
    ],
)
def test_wrong_types(spec: dict[str, object], message: str) -> None:
    assert faults(deployment(**spec)) == message


def test_objects_without_a_type() -> None:
    assert faults({"kind": "Pod"}).startswith("Object 'apiVersion' is missing")
    assert faults({"apiVersion": "v1"}).startswith("Object 'Kind' is missing")
    assert faults({"apiVersion": "apps/v1", "kind": "Pod"}) == 'no kind "Pod" is registered for version "apps/v1"'
    assert faults([]) == "json: cannot unmarshal array into Go value of type runtime.TypeMeta"


def test_nulls_are_absent() -> None:
    message = codec.from_dict({"apiVersion": "v1", "kind": "ConfigMap", "metadata": None, "data": {"a": None}})
    assert isinstance(message, core.ConfigMap)
    assert not message.HasField("metadata")
    assert dict(message.data) == {"a": ""}


def test_pointers_keep_their_zero_and_plain_fields_do_not() -> None:
    message = codec.from_dict(deployment(replicas=0, minReadySeconds=0))
    assert isinstance(message, apps.Deployment)
    assert message.spec.HasField("replicas")
    assert not message.spec.HasField("minReadySeconds")
    assert codec.to_dict(message)["spec"]["replicas"] == 0


def test_quantities_are_canonical() -> None:
    data = {"capacity": {"cpu": 0.5, "memory": "1024Mi", "pods": 2000}}
    message = codec.from_dict({"apiVersion": "v1", "kind": "Node", "status": data})
    assert codec.to_dict(message)["status"]["capacity"] == {"cpu": "500m", "memory": "1Gi", "pods": "2k"}


def test_lists_show_empty_items_and_status_its_metadata() -> None:
    assert codec.to_dict(core.PodList()) == {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": []}
    assert codec.to_dict(meta.Status(code=404, reason="NotFound"))["metadata"] == {}


def test_messages_that_are_no_kind_have_no_envelope() -> None:
    assert codec.to_dict(core.ContainerPort(containerPort=80)) == {"containerPort": 80}
    assert codec.from_dict({"containerPort": 80}, core.ContainerPort) == core.ContainerPort(containerPort=80)


def test_bad_base64_names_the_field() -> None:
    data = {"apiVersion": "v1", "kind": "Secret", "data": {"k": "%%"}}
    assert faults(data) == "data[k]: illegal base64 data"


def test_bad_time_names_the_field() -> None:
    data = {"apiVersion": "v1", "kind": "Pod", "metadata": {"deletionTimestamp": "soon"}}
    assert faults(data).startswith('metadata.deletionTimestamp: parsing time "soon"')
