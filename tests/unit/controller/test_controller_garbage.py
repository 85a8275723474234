"""What the ownership graph asks for."""

from services.controller.garbage.graph import FOREGROUND, ORPHAN, Action, Graph, Kind, Node, Owner, plan

RS = Kind("apps/v1", "replicasets", "ReplicaSet", True)
POD = Kind("v1", "pods", "Pod", True)


def node(uid: str, *owners: str, kind: Kind = POD, blocks=True, deleting=False, finalizers=()) -> Node:
    return Node(
        kind=kind,
        namespace="default",
        name=uid,
        uid=uid,
        resource_version="1",
        owners=tuple(Owner(owner, "apps/v1", "ReplicaSet", owner, blocks) for owner in owners),
        deleting=deleting,
        finalizers=tuple(finalizers),
    )


def test_a_dependent_goes_with_its_last_owner() -> None:
    graph = Graph()
    graph.put(node("rs", kind=RS))
    assert graph.put(node("pod", "rs")) == []
    assert plan(graph, graph.nodes["pod"], []) == Action("none")
    assert graph.remove("rs") == ["pod"]
    assert plan(graph, graph.nodes["pod"], ["rs"]) == Action("delete", policy="Background")


def test_with_another_owner_left_it_is_only_disowned() -> None:
    graph = Graph()
    graph.put(node("rs2", kind=RS))
    child = node("pod", "rs1", "rs2")
    assert graph.put(child) == ["pod"]
    assert plan(graph, child, ["rs1"]) == Action("disown", owners=("rs1",))


def test_foreground_waits_for_blocking_dependents_only() -> None:
    graph = Graph()
    owner = node("rs", kind=RS, deleting=True, finalizers=[FOREGROUND])
    graph.put(node("pod", "rs"))
    graph.put(node("loose", "rs", blocks=False))
    due = graph.put(owner)
    assert set(due) == {"rs", "pod", "loose"}
    assert plan(graph, owner, []) == Action("none")
    assert plan(graph, graph.nodes["pod"], []) == Action("delete", policy="Background")
    assert graph.remove("pod") == ["rs"]
    assert plan(graph, owner, []) == Action("finish")


def test_foreground_goes_down_the_tree_and_breaks_cycles() -> None:
    graph = Graph()
    graph.put(node("deployment", kind=RS, deleting=True, finalizers=[FOREGROUND]))
    middle = node("rs", "deployment", kind=RS)
    graph.put(middle)
    graph.put(node("pod", "rs"))
    assert plan(graph, middle, []) == Action("delete", policy="Foreground")
    graph.put(node("pod", "rs", deleting=True, finalizers=[FOREGROUND]))
    assert plan(graph, middle, []) == Action("unblock-and-delete", policy="Foreground")


def test_orphaning_and_objects_that_go_already() -> None:
    graph = Graph()
    owner = node("rs", kind=RS, deleting=True, finalizers=[ORPHAN])
    assert graph.put(owner) == ["rs"]
    assert plan(graph, owner, []) == Action("orphan")
    assert plan(graph, node("pod", "gone", deleting=True), ["gone"]) == Action("none")


def test_a_new_owner_list_moves_the_edges() -> None:
    graph = Graph()
    graph.put(node("pod", "rs1"))
    graph.put(node("pod", "rs2"))
    assert graph.remove("rs1") == []
    assert [child.uid for child in graph.dependents("rs2")] == ["pod"]
