"""The scale subresource of the built-in workloads, which all have spec.replicas and spec.selector."""

from __future__ import annotations

from typing import Any

from tillerman.api import selectors
from tillerman.pb.k8s import autoscaling_v1_pb2, meta_v1_pb2


def scale_of(obj: Any) -> autoscaling_v1_pb2.Scale:
    """The Scale of a workload."""
    scale = autoscaling_v1_pb2.Scale()
    meta = obj.metadata
    for field in ("name", "namespace", "uid", "resourceVersion"):
        setattr(scale.metadata, field, getattr(meta, field))
    scale.metadata.creationTimestamp.CopyFrom(meta.creationTimestamp)
    scale.spec.replicas = obj.spec.replicas
    scale.status.replicas = obj.status.replicas
    selector = obj.spec.selector
    if isinstance(selector, meta_v1_pb2.LabelSelector):
        scale.status.selector = str(selectors.from_message(selector))
    else:
        scale.status.selector = ",".join(f"{name}={value}" for name, value in sorted(selector.items()))
    return scale
