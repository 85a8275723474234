"""When two objects mean the same."""

from typing import Any

import pytest

from services.apiserver.strategy.equality import semantically_equal
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import intstr_pb2

EMPTY_RESOURCES, NO_RESOURCES = core.Container(name="c"), core.Container(name="c")
EMPTY_RESOURCES.resources.SetInParent()
EMPTY_CONTEXT = core.Container(name="c")
EMPTY_CONTEXT.securityContext.SetInParent()


def limits(cpu: str) -> Any:
    resources = core.ResourceRequirements()
    resources.limits["cpu"].string = cpu
    return resources


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (EMPTY_RESOURCES, NO_RESOURCES, True),
        (EMPTY_CONTEXT, NO_RESOURCES, False),
        (limits("1"), limits("1000m"), True),
        (limits("1"), limits("2"), False),
        (core.ResourceRequirements(), limits("2"), False),
        (intstr_pb2.IntOrString(type=1, strVal="25%"), intstr_pb2.IntOrString(type=1, intVal=0, strVal="25%"), True),
        (apps.DeploymentSpec(replicas=0), apps.DeploymentSpec(), False),
        (apps.DeploymentSpec(paused=False), apps.DeploymentSpec(), True),
        (core.PodSpec(containers=[EMPTY_RESOURCES]), core.PodSpec(containers=[NO_RESOURCES]), True),
        (core.PodSpec(containers=[NO_RESOURCES]), core.PodSpec(), False),
        (core.PodSpec(nodeSelector={"a": "1"}), core.PodSpec(nodeSelector={"b": "1"}), False),
        (core.Container(args=["a"]), core.Container(args=["b"]), False),
    ],
)
def test_equality(first: Any, second: Any, same: bool) -> None:
    assert semantically_equal(first, second) is same
    assert semantically_equal(second, first) is same
