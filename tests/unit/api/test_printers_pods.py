"""The STATUS, READY and RESTARTS columns of pods, state by state."""

from typing import Any

import pytest

from tillerman.api import codec, printers


def cells(status: dict[str, Any], *, init: int = 0, deleted: bool = False, sidecar: bool = False) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "c"}]}
    spec["initContainers"] = [{"name": f"i{n}"} for n in range(init)]
    if sidecar:
        spec["initContainers"].append({"name": "side", "restartPolicy": "Always"})
    metadata = {"name": "p", **({"deletionTimestamp": "1970-01-01T00:16:40Z"} if deleted else {})}
    pod = codec.from_dict({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
    names = ("name", "ready", "status", "restarts", "age", "ip", "node", "nominated", "gates")
    return dict(zip(names, printers.cells(pod, 1000.0), strict=True))


def main(state: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return [{"name": "c", "state": state, "restartCount": 0, **more}]


@pytest.mark.parametrize(
    ("status", "ready", "word"),
    [
        ({"phase": "Pending"}, "0/1", "Pending"),
        ({"phase": "Running", "containerStatuses": main({"running": {}}, ready=True)}, "1/1", "Running"),
        ({"phase": "Running", "containerStatuses": main({"running": {}}, ready=False)}, "0/1", "Running"),
        (
            {"phase": "Pending", "containerStatuses": main({"waiting": {"reason": "ContainerCreating"}})},
            "0/1",
            "ContainerCreating",
        ),
        (
            {"phase": "Running", "containerStatuses": main({"waiting": {"reason": "CrashLoopBackOff"}})},
            "0/1",
            "CrashLoopBackOff",
        ),
        (
            {"phase": "Pending", "containerStatuses": main({"waiting": {"reason": "ImagePullBackOff"}})},
            "0/1",
            "ImagePullBackOff",
        ),
        ({"phase": "Failed", "containerStatuses": main({"terminated": {"reason": "Error"}})}, "0/1", "Error"),
        ({"phase": "Failed", "containerStatuses": main({"terminated": {"exitCode": 3}})}, "0/1", "ExitCode:3"),
        ({"phase": "Failed", "containerStatuses": main({"terminated": {"signal": 9}})}, "0/1", "Signal:9"),
        (
            {"phase": "Succeeded", "containerStatuses": main({"terminated": {"reason": "Completed"}})},
            "0/1",
            "Completed",
        ),
        ({"phase": "Failed", "reason": "Evicted"}, "0/1", "Evicted"),
        (
            {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]},
            "0/1",
            "SchedulingGated",
        ),
    ],
)
def test_states(status: dict[str, Any], ready: str, word: str) -> None:
    row = cells(status)
    assert (row["ready"], row["status"]) == (ready, word)


def init(name: str, state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "restartCount": 0, **more}


@pytest.mark.parametrize(
    ("statuses", "word"),
    [
        ([init("i0", {"running": {}})], "Init:0/2"),
        ([init("i0", {"terminated": {"exitCode": 0}}), init("i1", {"running": {}})], "Init:1/2"),
        ([init("i0", {"terminated": {"exitCode": 1, "reason": "Error"}})], "Init:Error"),
        ([init("i0", {"terminated": {"exitCode": 2}})], "Init:ExitCode:2"),
        ([init("i0", {"waiting": {"reason": "CrashLoopBackOff"}})], "Init:CrashLoopBackOff"),
        ([init("i0", {"waiting": {"reason": "PodInitializing"}})], "Init:0/2"),
    ],
)
def test_init_containers(statuses: list[dict[str, Any]], word: str) -> None:
    assert cells({"phase": "Pending", "initContainerStatuses": statuses}, init=2)["status"] == word


def test_sidecars_count_as_containers() -> None:
    status = {
        "phase": "Running",
        "initContainerStatuses": [init("side", {"running": {}}, started=True, ready=True)],
        "containerStatuses": main({"running": {}}, ready=True),
    }
    assert cells(status, sidecar=True)["ready"] == "2/2"


def test_restarts_say_when_the_last_one_was() -> None:
    ended = {"terminated": {"finishedAt": "1970-01-01T00:16:35Z"}}
    status = {
        "phase": "Running",
        "containerStatuses": [
            {"name": "c", "state": {"running": {}}, "ready": True, "restartCount": 2, "lastState": ended}
        ],
    }
    assert cells(status)["restarts"] == "2 (5s ago)"


def test_deleted_pods_terminate() -> None:
    status = {"phase": "Running", "containerStatuses": main({"running": {}}, ready=True)}
    assert cells(status, deleted=True)["status"] == "Terminating"
    assert cells({"phase": "Failed"}, deleted=True)["status"] == "Failed"
    assert cells({"phase": "Running", "reason": "NodeLost"}, deleted=True)["status"] == "Unknown"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (600, "10m"), (10800, "3h"), (27000, "7h30m"),
     (28800, "8h"), (172800, "2d"), (180000, "2d2h"), (691200, "8d"), (63072000, "2y"), (94700000, "3y1d"),
     (-5, "<invalid>")],
)  # fmt: skip
def test_durations_for_people(seconds: int, text: str) -> None:
    from tillerman.api.printers.ages import human_duration

    assert human_duration(seconds) == text
