"""The containers of a pod's spec: which there are, and of which sort each is. Pure functions."""

from collections.abc import Iterator

from tillerman.pb.k8s import core_v1_pb2 as core


def is_sidecar(container: core.Container) -> bool:
    return container.restartPolicy == "Always"


def ephemeral_containers(pod: core.Pod) -> Iterator[core.Container]:
    """As ordinary containers: theirs is a message of its own, whose fields have the same numbers."""
    for ephemeral in pod.spec.ephemeralContainers:
        yield core.Container.FromString(ephemeral.ephemeralContainerCommon.SerializeToString())


def all_containers(pod: core.Pod) -> Iterator[core.Container]:
    yield from pod.spec.initContainers
    yield from pod.spec.containers
    yield from ephemeral_containers(pod)


def is_ephemeral(pod: core.Pod, name: str) -> bool:
    return any(ephemeral.ephemeralContainerCommon.name == name for ephemeral in pod.spec.ephemeralContainers)


def target_of(pod: core.Pod, name: str) -> str:
    """The container whose processes an ephemeral container sees; empty for none."""
    for ephemeral in pod.spec.ephemeralContainers:
        if ephemeral.ephemeralContainerCommon.name == name:
            return ephemeral.targetContainerName
    return ""
