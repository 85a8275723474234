"""Completion indexes of Jobs: as numbers, and as they are written."""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.pb.k8s import batch_v1_pb2 as batch
from tillerman.pb.k8s import core_v1_pb2 as core

INDEX = "batch.kubernetes.io/job-completion-index"


def is_indexed(job: batch.Job) -> bool:
    return job.spec.completionMode == "Indexed"


def index_of(pod: core.Pod) -> int:
    """-1 for a pod without one."""
    text = pod.metadata.annotations.get(INDEX, "")
    return int(text) if text.isdigit() else -1


def parse_indexes(text: str) -> set[int]:
    """ "0-2,5" as numbers."""
    result: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        result.update(range(int(first), int(last or first) + 1))
    return result


def format_indexes(indexes: Sequence[int] | set[int]) -> str:
    parts: list[list[int]] = []
    for index in sorted(indexes):
        if parts and index == parts[-1][1] + 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
