"""Storage classes, CSI objects and volume attachments."""

from typing import Any

from tillerman.api.printers.ages import age

DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


def storage_class(obj: Any, now: float) -> list[Any]:
    default = any(obj.metadata.annotations.get(key) == "true" for key in DEFAULT_CLASS)
    return [
        f"{obj.metadata.name} (default)" if default else obj.metadata.name,
        obj.provisioner,
        obj.reclaimPolicy or "Delete",
        obj.volumeBindingMode or "Immediate",
        obj.allowVolumeExpansion,
        age(obj.metadata.creationTimestamp, now),
    ]


def csi_driver(obj: Any, now: float) -> list[Any]:
    spec = obj.spec
    attach = spec.attachRequired if spec.HasField("attachRequired") else True
    modes = ",".join(spec.volumeLifecycleModes) or "<none>"
    return [obj.metadata.name, attach, spec.podInfoOnMount, modes, age(obj.metadata.creationTimestamp, now)]


def csi_node(obj: Any, now: float) -> list[Any]:
    return [obj.metadata.name, len(obj.spec.drivers), age(obj.metadata.creationTimestamp, now)]


def volume_attachment(obj: Any, now: float) -> list[Any]:
    return [
        obj.metadata.name,
        obj.spec.attacher,
        obj.spec.source.persistentVolumeName,
        obj.spec.nodeName,
        obj.status.attached,
        age(obj.metadata.creationTimestamp, now),
    ]


PRINTERS = {
    "StorageClass": storage_class,
    "CSIDriver": csi_driver,
    "CSINode": csi_node,
    "VolumeAttachment": volume_attachment,
}
