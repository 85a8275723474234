"""Quantities of protobuf bodies."""

import pytest
from google.protobuf.message import Message

from tillerman.api import codec
from tillerman.api.quantity_fields import check_quantities
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import autoscaling_v2_pb2 as autoscaling
from tillerman.pb.k8s import core_v1_pb2 as core


def check(message: Message) -> str:
    return check_quantities(message, message.SerializeToString())


def pod(**limits: str) -> core.Pod:
    made = core.Pod()
    container = made.spec.containers.add(name="c")
    for name, text in limits.items():
        container.resources.limits[name].string = text
    return made


def test_good_ones_are_put_into_the_form_that_is_stored() -> None:
    made = pod(cpu="1500m", memory="1024Mi", other="0.5")
    made.spec.containers[0].resources.limits["none"].SetInParent()
    assert not check(made)
    found = {name: one.string for name, one in made.spec.containers[0].resources.limits.items()}
    assert found == {"cpu": "1500m", "memory": "1Gi", "other": "500m", "none": "0"}


@pytest.mark.parametrize("text", ["256Li", "x", "1..2", " 1"])
def test_bad_ones_are_told_with_their_path(text: str) -> None:
    deployment = apps.Deployment()
    deployment.spec.template.spec.CopyFrom(pod(cpu=text).spec)
    fault = check(deployment)
    assert fault.startswith("spec.template.spec.containers[0].resources.limits[cpu]: ")
    with pytest.raises(codec.DecodeError, match=r"containers\[0\].resources.limits\[cpu\]: "):
        codec.from_protobuf(deployment.SerializeToString(), apps.Deployment)


def test_single_ones_are_found_too() -> None:
    scaler = autoscaling.HorizontalPodAutoscaler()
    metric = scaler.spec.metrics.add(type="Resource")
    metric.resource.target.averageValue.string = "1Q"
    assert check(scaler).startswith("spec.metrics[0].resource.target.averageValue: ")
    assert not check(core.ConfigMap())


def test_what_was_in_order_once_is_so_under_another_name_and_no_other_is() -> None:
    for name, cpu in (("a", "1"), ("b", "1"), ("a", "1000m"), ("b", "1000m"), ("a", "x"), ("b", "x")):
        made = pod(cpu=cpu)
        made.metadata.name = name
        fault = check(made)
        assert bool(fault) == (cpu == "x")
        assert made.spec.containers[0].resources.limits["cpu"].string == ("x" if fault else "1")
