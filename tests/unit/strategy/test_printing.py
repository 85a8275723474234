"""Values in refusals, as Kubernetes prints them."""

from __future__ import annotations

from typing import Any

import pytest

from services.apiserver.strategy.causes import invalid
from tillerman.pb.k8s import apps_v1_pb2 as apps
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import intstr_pb2
from tillerman.pb.k8s import meta_v1_pb2 as meta
from tillerman.pb.k8s import rbac_v1_pb2 as rbac

ROLLING = apps.StatefulSetUpdateStrategy(type="Odd")
ROLLING.rollingUpdate.partition = 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", '"a"'),
        (7, "7"),
        (["a", 'b"'], '[]string{"a", "b\\""}'),
        (core.PodDNSConfig(nameservers=["a"]).nameservers, '[]string{"a"}'),
        (meta.ObjectMeta(labels={"b": "2", "a": "1"}).labels, 'map[string]string{"a":"1", "b":"2"}'),
        (meta.ObjectMeta().labels, "map[string]string(nil)"),
        (intstr_pb2.IntOrString(type=1, strVal="0%"), 'intstr.IntOrString{Type:1, IntVal:0, StrVal:"0%"}'),
        (
            meta.LabelSelector(matchExpressions=[meta.LabelSelectorRequirement(key="a", operator="In", values=["b"])]),
            "v1.LabelSelector{MatchLabels:map[string]string(nil), MatchExpressions:[]v1.LabelSelectorRequirement{"
            'v1.LabelSelectorRequirement{Key:"a", Operator:"In", Values:[]string{"b"}}}}',
        ),
        (
            apps.DeploymentStrategy(type="Odd"),
            'apps.DeploymentStrategy{Type:"Odd", RollingUpdate:(*apps.RollingUpdateDeployment)(nil)}',
        ),
        # What points to something says more in JSON than with an address.
        (ROLLING, '{"type":"Odd","rollingUpdate":{"partition":1}}'),
        (core.Toleration(key="a", tolerationSeconds=1), '{"key":"a","tolerationSeconds":1}'),
        (
            core.Toleration(key="a"),
            'core.Toleration{Key:"a", Operator:"", Value:"", Effect:"", TolerationSeconds:(*int64)(nil)}',
        ),
        (rbac.RoleRef(apiGroup="g", kind="Role"), 'rbac.RoleRef{APIGroup:"g", Kind:"Role", Name:""}'),
    ],
)
def test_values(value: Any, text: str) -> None:
    assert invalid("f", value, "d").message == f"Invalid value: {text}: d"
