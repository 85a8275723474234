"""Which webhooks a request concerns: rules, scopes, conditions."""

from __future__ import annotations

from typing import Any

import pytest

from services.apiserver.webhooks import conditions
from services.apiserver.webhooks.rules import Kind, hooks_of
from tillerman.api import codec

PODS = Kind("", "v1", "pods", "", "v1", "Pod")
SCALERS = [
    Kind("autoscaling", version, "horizontalpodautoscalers", "autoscaling", version, "HorizontalPodAutoscaler")
    for version in ("v2", "v1")
]


def hook(rule: dict[str, Any], **more: Any) -> Any:
    content = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "c"},
        "webhooks": [{"name": "a.b.c", "clientConfig": {"url": "https://x/"}, "rules": [rule], **more}],
    }
    (found,) = hooks_of([codec.from_dict(content)])
    return found


def rule(**changes: Any) -> dict[str, Any]:
    return {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], **changes}


@pytest.mark.parametrize(
    ("changes", "operation", "subresource", "namespaced", "matches"),
    [
        ({}, "CREATE", "", True, True),
        ({}, "UPDATE", "", True, False),
        ({}, "CREATE", "exec", True, False),
        ({"operations": ["*"]}, "DELETE", "", True, True),
        ({"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}, "CREATE", "", True, True),
        ({"resources": ["*"]}, "CREATE", "status", True, False),
        ({"resources": ["pods/*"]}, "CREATE", "", True, True),
        ({"resources": ["pods/*"]}, "CREATE", "exec", True, True),
        ({"resources": ["*/status"]}, "CREATE", "status", True, True),
        ({"resources": ["*/status"]}, "CREATE", "", True, False),
        ({"resources": ["*/*"]}, "CREATE", "exec", True, True),
        ({"resources": ["services"]}, "CREATE", "", True, False),
        ({"apiGroups": ["apps"]}, "CREATE", "", True, False),
        ({"apiVersions": ["v2"]}, "CREATE", "", True, False),
        ({"scope": "Namespaced"}, "CREATE", "", True, True),
        ({"scope": "Namespaced"}, "CREATE", "", False, False),
        ({"scope": "Cluster"}, "CREATE", "", False, True),
        ({"scope": "Cluster"}, "CREATE", "", True, False),
    ],
)
def test_rules(changes: dict[str, Any], operation: str, subresource: str, namespaced: bool, matches: bool) -> None:
    found = hook(rule(**changes)).kind_for(operation, [PODS], subresource, namespaced)
    assert (found is PODS) is matches


def test_an_equivalent_version_is_found_unless_the_policy_is_exact() -> None:
    wanted = rule(apiGroups=["autoscaling"], resources=["horizontalpodautoscalers"])
    assert hook(wanted).kind_for("CREATE", SCALERS, "", True) is SCALERS[1]
    assert hook(wanted, matchPolicy="Exact").kind_for("CREATE", SCALERS, "", True) is None


REQUEST = {"object": {"spec": {"replicas": 3}}, "oldObject": None, "operation": "CREATE", "userInfo": {"groups": ["a"]}}


@pytest.mark.parametrize(
    ("expressions", "expected"),
    [
        (["object.spec.replicas > 2"], True),
        (["object.spec.replicas > 2", "'b' in request.userInfo.groups"], False),
        (["oldObject == null && request.operation == 'CREATE'"], True),
        (["object.spec.none > 2", "false"], False),
        (["object.spec.none > 2", "true"], "expression 'object.spec.none > 2' resulted in error: no such key"),
    ],
)
def test_conditions(expressions: list[str], expected: bool | str) -> None:
    if isinstance(expected, bool):
        assert conditions.hold(expressions, REQUEST) is expected
        return
    with pytest.raises(conditions.ConditionError) as failed:
        conditions.hold(expressions, REQUEST)
    assert expected in str(failed.value)


def test_conditions_are_checked_when_they_are_written() -> None:
    assert conditions.fault("object.kind == 'Pod'") is None
    assert "compilation failed" in str(conditions.fault("object.kind =="))
    assert conditions.fault("1 + 1") == "must evaluate to bool"
