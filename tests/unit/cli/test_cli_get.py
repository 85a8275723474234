"""`tiller get`: what is asked of the server, and what is printed."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from click.testing import Result

from tillerman.pb.api import objects_pb2

Run = Callable[..., Result]
MakePod = Callable[..., dict[str, Any]]

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.9",
        "selector": {"app": "web"},
        "ports": [{"port": 80, "protocol": "TCP"}],
    },
}


def columns(result: Result) -> list[list[str]]:
    return [line.split() for line in result.stdout.splitlines()]


def test_a_table(run: Run, server: Any, make_pod: MakePod) -> None:
    server.add(make_pod("a"), make_pod("b"), make_pod("elsewhere", "other"))
    table = columns(run("get", "pods"))
    assert table[0] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [row[:4] for row in table[1:]] == [["a", "1/1", "Running", "0"], ["b", "1/1", "Running", "0"]]


def test_wide_columns_and_all_namespaces(run: Run, server: Any, make_pod: MakePod) -> None:
    server.add(make_pod("a"), make_pod("b", "other"))
    table = columns(run("get", "po", "-A", "-o", "wide"))
    assert table[0][:2] == ["NAMESPACE", "NAME"]
    assert table[2][0] == "other"
    assert table[1][6:8] == ["10.0.0.1", "node-1"]


def test_labels(run: Run, server: Any, make_pod: MakePod) -> None:
    server.add(make_pod("a", app="web"), make_pod("b"))
    table = columns(run("get", "pods", "-L", "app", "--show-labels"))
    assert table[0][-2:] == ["APP", "LABELS"]
    assert table[1][-2:] == ["web", "app=web"]
    assert table[2][-2:] == ["<none>", "<none>"]
    assert len(columns(run("get", "pods", "-l", "app=web", "--no-headers"))) == 1


def test_several_types_print_their_kind_with_the_name(run: Run, server: Any, make_pod: MakePod) -> None:
    server.add(make_pod("a"), SERVICE)
    first, second = run("get", "pods,svc").stdout.split("\n\n")
    assert "pod/a" in first
    assert "service/web" in second
    assert "10.96.0.9" in run("get", "all").stdout
    assert run("get", "pod/a", "svc/web", "-o", "name").stdout == "pod/a\nservice/web\n"


def test_one_object_as_json_and_several_as_a_list(run: Run, server: Any, make_pod: MakePod) -> None:
    server.add(make_pod("a"))
    single = json.loads(run("get", "pod", "a", "-o", "json").stdout)
    assert (single["kind"], single["metadata"]["name"]) == ("Pod", "a")
    assert "managedFields" not in single["metadata"]
    assert "managedFields" in run("get", "pod", "a", "-o", "json", "--show-managed-fields").stdout
    many = json.loads(run("get", "pods", "-o", "json").stdout)
    assert (many["kind"], [i["kind"] for i in many["items"]]) == ("List", ["Pod"])
    assert yaml.safe_load(run("get", "pods", "-o", "yaml").stdout) == many


def test_jsonpath_and_custom_columns(run: Run, server: Any, make_pod: MakePod) -> None:
    server.add(make_pod("a"), make_pod("b"))
    assert run("get", "pod", "a", "-o", "jsonpath={.status.podIP}").stdout == "10.0.0.1"
    assert run("get", "pods", "-o", "jsonpath={.items[*].metadata.name}").stdout == "a b"
    table = columns(run("get", "pods", "-o", "custom-columns=N:.metadata.name,X:.spec.nope"))
    assert table == [["N", "X"], ["a", "<none>"], ["b", "<none>"]]


def test_sorting(run: Run, server: Any, make_pod: MakePod) -> None:
    server.add(make_pod("b"), make_pod("a"))
    assert run("get", "pods", "-o", "name", "--sort-by", "{.metadata.name}").stdout == "pod/a\npod/b\n"


def test_pages_are_followed(run: Run, server: Any, make_pod: MakePod) -> None:
    server.add(*(make_pod(f"p{i}") for i in range(5)))
    assert len(run("get", "pods", "-o", "name", "--chunk-size", "2").stdout.split()) == 5
    assert [call[-1] for call in server.calls] == [0, 2, 4]


def test_nothing_found(run: Run) -> None:
    result = run("get", "pods")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No resources found in default namespace.\n")
    assert run("get", "nodes").stderr == "No resources found.\n"


def test_an_object_that_is_not_there(run: Run, server: Any, make_pod: MakePod) -> None:
    server.add(make_pod("a"))
    result = run("get", "pods", "a", "b")
    assert result.exit_code == 1
    assert "a" in result.stdout
    assert result.stderr == 'Error from server (NotFound): pods "b" not found\n'
    assert run("get", "pods", "b", "--ignore-not-found").exit_code == 0


def test_a_type_that_is_not_there(run: Run) -> None:
    result = run("get", "gadgets")
    assert result.exit_code == 1
    assert 'the server doesn\'t have a resource type "gadgets"' in result.output


def test_a_format_that_is_not_there(run: Run, server: Any, make_pod: MakePod) -> None:
    server.add(make_pod("a"))
    result = run("get", "pods", "-o", "xml")
    assert result.exit_code == 1
    assert "unable to match a printer" in result.output


def test_watch_prints_the_list_and_then_changes(run: Run, server: Any, make_pod: MakePod) -> None:
    server.add(make_pod("a"))
    gone = make_pod("a")
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:10Z"
    server.changes = [("MODIFIED", gone), ("ADDED", make_pod("b"))]
    table = columns(run("get", "pods", "-w"))
    assert [row[:3] for row in table] == [
        ["NAME", "READY", "STATUS"],
        ["a", "1/1", "Running"],
        ["a", "1/1", "Terminating"],
        ["b", "1/1", "Running"],
    ]
    events = columns(run("get", "pods", "--watch-only", "--output-watch-events"))
    assert [row[0] for row in events] == ["EVENT", "MODIFIED", "ADDED"]


def test_custom_resources_show_their_own_columns(run: Run, server: Any) -> None:
    gadget = objects_pb2.DiscoverResponse.Resource(
        api_version="ex.io/v1", resource="gadgets", singular="gadget", kind="Gadget", namespaced=True, custom=True
    )
    gadget.columns.add(name="Size", type="integer", json_path=".spec.size")
    gadget.columns.add(name="Secret", type="string", json_path=".spec.secret", priority=1)
    server.custom = [gadget]
    metadata = {"name": "g", "namespace": "default"}
    server.add({"apiVersion": "ex.io/v1", "kind": "Gadget", "metadata": metadata, "spec": {"size": 3}})
    assert columns(run("get", "gadgets")) == [["NAME", "SIZE"], ["g", "3"]]
    assert columns(run("get", "gadget.ex.io", "-o", "wide"))[0] == ["NAME", "SIZE", "SECRET"]
    assert "Size:  3" in run("describe", "gadget", "g").stdout


@pytest.mark.parametrize(
    "args", [("get",), ("get", "pods", "a", "-l", "x=y"), ("get", "pods", "a", "-A"), ("get", "pods", "svc/web")]
)
def test_arguments_that_contradict_each_other(run: Run, args: tuple[str, ...]) -> None:
    assert run(*args).exit_code != 0


def test_events_in_order_with_their_count(run: Run, server: Any) -> None:
    def event(name: str, last: str, count: int) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "a"},
            "type": "Normal",
            "reason": name,
            "message": f"message of {name}",
            "firstTimestamp": "2026-01-01T00:00:00Z",
            "lastTimestamp": last,
            "count": count,
        }

    server.add(event("Later", "2026-01-02T00:00:00Z", 3), event("Sooner", "2026-01-01T00:00:00Z", 1))
    lines = run("events", "--for", "pod/a").stdout.splitlines()
    assert "Sooner" in lines[1]
    assert "Later" in lines[2]
    assert "(x3 over" in lines[2]
