"""A minimal valid manifest of every stored kind, what its status may say, and a change of its spec."""

from __future__ import annotations

import json
from typing import Any

from tillerman.api.scheme import SCHEME, ResourceInfo

POD: dict[str, Any] = {"containers": [{"name": "c", "image": "i"}]}
TEMPLATE = {"metadata": {"labels": {"app": "a"}}, "spec": POD}
SELECTOR = {"matchLabels": {"app": "a"}}
HOOKS = [
    {
        "name": "a.example.com",
        "clientConfig": {"url": "https://127.0.0.1:9/"},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Ignore",
    }
]
ROLE = {"apiGroup": "rbac.authorization.k8s.io", "name": "r"}
TIME = "2026-01-01T00:00:00Z"
CONDITION = {"type": "a.b/C", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": TIME}

# By kind; NAME stands for the object's name.
NAME = "<name>"
MINIMAL: dict[str, dict[str, Any]] = {
    "ConfigMap": {"data": {"a": "1"}},
    "Endpoints": {},
    "Event": {"involvedObject": {"kind": "Pod", "name": "p", "namespace": "conformance"}, "reason": "R"},
    "LimitRange": {"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}},
    "Namespace": {},
    "Node": {},
    "PersistentVolumeClaim": {
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    },
    "PersistentVolume": {
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/a"}}
    },
    "Pod": {"spec": POD},
    "PodTemplate": {"template": TEMPLATE},
    "ReplicationController": {"spec": {"replicas": 1, "selector": {"app": "a"}, "template": TEMPLATE}},
    "ResourceQuota": {"spec": {"hard": {"pods": "1000"}}},
    "Secret": {"stringData": {"a": "b"}},
    "ServiceAccount": {},
    "Service": {"spec": {"ports": [{"port": 80}]}},
    "MutatingWebhookConfiguration": {"webhooks": HOOKS},
    "ValidatingWebhookConfiguration": {"webhooks": HOOKS},
    "CustomResourceDefinition": {
        "spec": {
            "group": "conformance.example.com",
            "names": {"plural": NAME, "kind": "K" + NAME},
            "scope": "Namespaced",
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        }
    },
    "APIService": {
        "spec": {
            "group": "conformance.example.com",
            "version": NAME,
            "groupPriorityMinimum": 100,
            "versionPriority": 10,
            "insecureSkipTLSVerify": True,
            "service": {"name": "s", "namespace": "conformance"},
        }
    },
    "ControllerRevision": {"revision": 1, "data": {"a": 1}},
    "DaemonSet": {"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    "Deployment": {"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    "ReplicaSet": {"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    "StatefulSet": {"spec": {"serviceName": "s", "selector": SELECTOR, "template": TEMPLATE}},
    "HorizontalPodAutoscaler": {
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}
    },
    "CronJob": {
        "spec": {
            "schedule": "* * * * *",
            "jobTemplate": {"spec": {"template": {"spec": {**POD, "restartPolicy": "Never"}}}},
        }
    },
    "Job": {"spec": {"template": {"spec": {**POD, "restartPolicy": "Never"}}}},
    "Lease": {"spec": {"holderIdentity": "h"}},
    "EndpointSlice": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}]},
    "IngressClass": {"spec": {"controller": "example.com/c"}},
    "Ingress": {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}},
    "NetworkPolicy": {"spec": {"podSelector": {}}},
    "RuntimeClass": {"handler": "h"},
    "PodDisruptionBudget": {"spec": {"minAvailable": 1, "selector": SELECTOR}},
    "ClusterRoleBinding": {"roleRef": {**ROLE, "kind": "ClusterRole"}},
    "ClusterRole": {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    "RoleBinding": {"roleRef": {**ROLE, "kind": "Role"}},
    "Role": {"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]},
    "PriorityClass": {"value": 5},
    "CSIDriver": {"spec": {}},
    "CSINode": {"spec": {"drivers": []}},
    "StorageClass": {"provisioner": "example.com/p"},
    "VolumeAttachment": {
        "spec": {"attacher": "a.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}
    },
}
# Events of events.k8s.io have other required fields.
EVENTS = {
    "eventTime": "2026-01-01T00:00:00.000000Z",
    "reportingController": "example.com/c",
    "reportingInstance": "i",
    "action": "A",
    "reason": "R",
    "type": "Normal",
    "regarding": {"kind": "Pod", "name": "p", "namespace": "conformance"},
}

# What a status can be set to, by kind.
STATUS: dict[str, dict[str, Any]] = {
    "Namespace": {"conditions": [{"type": "C", "status": "True"}]},
    "Node": {"conditions": [{"type": "Ready", "status": "True"}]},
    "PersistentVolumeClaim": {"phase": "Bound"},
    "PersistentVolume": {"phase": "Bound"},
    "Pod": {"phase": "Running"},
    "ReplicationController": {"replicas": 1},
    "ResourceQuota": {"hard": {"pods": "1k"}, "used": {"pods": "1"}},
    "Service": {"conditions": [CONDITION]},
    "CustomResourceDefinition": {"storedVersions": ["v1"]},
    "APIService": {"conditions": [{"type": "Available", "status": "False"}]},
    "DaemonSet": {"numberReady": 1},
    "Deployment": {"replicas": 2},
    "ReplicaSet": {"replicas": 2},
    "StatefulSet": {"replicas": 2},
    "HorizontalPodAutoscaler": {"currentReplicas": 1, "desiredReplicas": 2},
    "CronJob": {"lastScheduleTime": TIME},
    "Job": {"active": 1, "startTime": TIME},
    "CertificateSigningRequest": {"conditions": [{"type": "Failed", "status": "True", "reason": "R"}]},
    "Ingress": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    "PodDisruptionBudget": {"currentHealthy": 1},
    "VolumeAttachment": {"attached": True},
}
# A change of the spec (a merge patch), of the kinds that count them in metadata.generation.
GENERATIONS: dict[str, dict[str, Any]] = {
    "ReplicationController": {"spec": {"replicas": 2}},
    "MutatingWebhookConfiguration": {"webhooks": [{**HOOKS[0], "timeoutSeconds": 7}]},
    "ValidatingWebhookConfiguration": {"webhooks": [{**HOOKS[0], "timeoutSeconds": 7}]},
    "CustomResourceDefinition": {"spec": {"names": {"shortNames": ["kk"]}}},
    "DaemonSet": {"spec": {"minReadySeconds": 3}},
    "Deployment": {"spec": {"replicas": 2}},
    "ReplicaSet": {"spec": {"replicas": 2}},
    "StatefulSet": {"spec": {"replicas": 2}},
    "CronJob": {"spec": {"suspend": True}},
    "EndpointSlice": {"endpoints": [{"addresses": ["10.1.2.4"]}]},
    "Ingress": {"spec": {"defaultBackend": {"service": {"name": "t"}}}},
    "NetworkPolicy": {"spec": {"podSelector": {"matchLabels": {"a": "b"}}}},
    "PodDisruptionBudget": {"spec": {"minAvailable": 2}},
}


def stored_kinds() -> list[ResourceInfo]:
    """Every resource that is stored, each version of it."""
    return [info for info in SCHEME.resources(also_served=True) if info.etcd_prefix]


def manifest(info: ResourceInfo, name: str, **labels: str) -> dict[str, Any]:
    """A valid object of the kind. Its labels end in those given."""
    if info.kind == "CertificateSigningRequest":
        body: dict[str, Any] = {
            "spec": {"request": certificate_request(), "signerName": "example.com/s", "usages": ["client auth"]}
        }
    else:
        body = EVENTS if info.api_version == "events.k8s.io/v1" else MINIMAL[info.kind]
    name = real_name(info, name)
    text = json.dumps(body).replace(NAME, name.partition(".")[0])
    meta: dict[str, Any] = {"name": name, "labels": labels}
    return {"apiVersion": info.api_version, "kind": info.kind, "metadata": meta, **json.loads(text)}


def real_name(info: ResourceInfo, name: str) -> str:
    """Some kinds have names that follow from what they hold."""
    return f"{name}.conformance.example.com" if info.kind in ("CustomResourceDefinition", "APIService") else name


def certificate_request() -> str:
    """A PEM request in base64."""
    import base64

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()
