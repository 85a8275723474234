"""Bad input is refused, naming object and field, with exit code 1, and nothing is stored."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tiller import Cluster


@pytest.fixture(scope="module")
def cluster(new_cluster: Callable[..., Cluster]) -> Iterator[Cluster]:
    cluster = new_cluster("refuse", "--runtime=hollow", "--nodes=1")
    cluster.up()
    yield cluster
    cluster.down()


def deployment(**changes: Any) -> dict[str, Any]:
    container = {"name": "app", "image": "first-app:1", **changes.pop("container", {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "bad", **changes.pop("metadata", {})},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "bad"}},
            "template": {"metadata": {"labels": {"app": "bad"}}, "spec": {"containers": [container]}},
            **changes,
        },
    }


CASES = {
    "an unknown field": (deployment(replica=3), ["bad", 'unknown field "spec.replica"']),
    "a wrong type": (deployment(replicas="three"), ["bad", "spec.replicas", "int32"]),
    "a missing image": (
        deployment(container={"image": ""}),
        ["bad", "spec.template.spec.containers[0].image: Required value"],
    ),
    "a bad quantity": (
        deployment(container={"resources": {"limits": {"cpu": "lots"}}}),
        ["bad", "quantities must match the regular expression"],
    ),
    "an invalid label": (
        deployment(metadata={"labels": {"team": "not valid!"}}),
        ["bad", "metadata.labels: Invalid value"],
    ),
    "an unknown kind": (
        {"apiVersion": "apps/v1", "kind": "Deploymint", "metadata": {"name": "bad"}},
        ['no matches for kind "Deploymint" in version "apps/v1"'],
    ),
    "a missing namespace": (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bad", "namespace": "nowhere"}},
        ['namespaces "nowhere" not found'],
    ),
    "5 MB": (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bad"}, "data": {"k": "x" * 5_000_000}},
        ['ConfigMap "bad"', "Too long: must have at most 1048576 bytes"],
    ),
}


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("verb", ["create", "apply"])
def test_a_bad_manifest_is_refused(cluster: Cluster, verb: str, case: str) -> None:
    manifest, words = CASES[case]
    done = cluster.run(verb, "-f", "-", stdin=json.dumps(manifest), check=False)
    assert done.returncode == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr[:2000]
    assert cluster("get", "deployments,configmaps", "-A", "--field-selector=metadata.name=bad", "-o", "name") == ""


def test_a_duplicate_name_is_refused(cluster: Cluster) -> None:
    cluster("create", "configmap", "twice", "--from-literal=a=1")
    done = cluster.run("create", "configmap", "twice", "--from-literal=a=2", check=False)
    assert done.returncode == 1
    assert 'configmaps "twice" already exists' in done.stderr
    assert cluster("get", "configmap", "twice", "-o", "jsonpath={.data.a}") == "1"


def test_a_stale_resource_version_is_refused(cluster: Cluster) -> None:
    cluster("create", "configmap", "stale", "--from-literal=a=1")
    old = cluster.json("get", "configmap", "stale")
    cluster("patch", "configmap", "stale", "--type=merge", "-p", '{"data":{"a":"2"}}')
    old["data"]["a"] = "3"
    done = cluster.run("replace", "-f", "-", stdin=json.dumps(old), check=False)
    assert done.returncode == 1
    assert "the object has been modified; please apply your changes to the latest version" in done.stderr
    assert cluster("get", "configmap", "stale", "-o", "jsonpath={.data.a}") == "2"


def test_what_does_not_exist_is_named(cluster: Cluster) -> None:
    for args, words in (
        (("get", "pod", "nobody"), 'Error from server (NotFound): pods "nobody" not found'),
        (("get", "gadgets"), 'error: the server doesn\'t have a resource type "gadgets"'),
        (("delete", "deployment", "nobody"), 'deployments.apps "nobody" not found'),
        (("logs", "nobody"), 'pods "nobody" not found'),
    ):
        done = cluster.run(*args, check=False)
        assert done.returncode == 1
        assert words in done.stderr
