"""ClusterRoles that are the sum of others."""

from services.apiserver.auth.policy import cluster_roles
from services.controller.clusterrole_aggregation import aggregated
from tillerman.pb.k8s import rbac_v1_pb2 as rbac


def role(name: str, *verbs: str, **labels: str) -> rbac.ClusterRole:
    result = rbac.ClusterRole()
    result.metadata.name = name
    result.metadata.labels.update(labels)
    for verb in verbs:
        result.rules.add(verbs=[verb], apiGroups=[""], resources=["pods"])
    return result


def test_the_rules_of_all_selected_roles_each_once_in_the_order_of_names() -> None:
    whole = role("whole", "stale", part="yes")
    whole.aggregationRule.clusterRoleSelectors.add().matchLabels["part"] = "yes"
    whole.aggregationRule.clusterRoleSelectors.add().matchExpressions.add(key="also", operator="Exists")
    others = [whole, role("c", "list", "get", part="yes"), role("b", "get", also=""), role("a", "delete", part="no")]
    assert [rule.verbs[0] for rule in aggregated(whole, others)] == ["get", "list"]


def test_the_roles_of_a_new_cluster_are_summed_up_already() -> None:
    roles = cluster_roles()
    sums = [one for one in roles if one.HasField("aggregationRule")]
    assert {one.metadata.name for one in sums} == {"admin", "edit", "view"}
    for one in sums:
        assert aggregated(one, roles) == list(one.rules)
