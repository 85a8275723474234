"""The roles and bindings that every cluster starts with. What people changed since is left alone."""

from __future__ import annotations

from typing import Any

from tillerman.pb.k8s import rbac_v1_pb2

GROUP = "rbac.authorization.k8s.io"
READ = ["get", "list", "watch"]
WRITE = ["create", "delete", "deletecollection", "patch", "update"]
ALL = ["*"]
LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
AGGREGATE_TO = f"{GROUP}/aggregate-to-"

# (verbs, api groups, resources)
Rule = tuple[list[str], list[str], list[str]]

EVENTS: Rule = (["create", "patch", "update"], ["", "events.k8s.io"], ["events"])
LEASES: Rule = (["create", "delete", "get", "list", "patch", "update", "watch"], ["coordination.k8s.io"], ["leases"])

_WORKLOADS = ["daemonsets", "deployments", "deployments/scale", "replicasets", "replicasets/scale", "statefulsets"]
_WORKLOADS += ["statefulsets/scale", "controllerrevisions"]
_CORE_VISIBLE = ["configmaps", "endpoints", "persistentvolumeclaims", "pods", "replicationcontrollers"]
_CORE_VISIBLE += ["replicationcontrollers/scale", "serviceaccounts", "services"]
_VIEW: list[Rule] = [
    (READ, [""], [*_CORE_VISIBLE, "pods/log", "pods/status", "services/status", "bindings", "events", "limitranges"]),
    (READ, [""], ["namespaces", "namespaces/status", "resourcequotas", "resourcequotas/status"]),
    (READ, ["apps"], [*_WORKLOADS, "deployments/status", "replicasets/status", "statefulsets/status"]),
    (READ, ["autoscaling"], ["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
    (READ, ["batch"], ["cronjobs", "cronjobs/status", "jobs", "jobs/status"]),
    (READ, ["policy"], ["poddisruptionbudgets", "poddisruptionbudgets/status"]),
    (READ, ["networking.k8s.io"], ["ingresses", "ingresses/status", "networkpolicies"]),
    (READ, ["discovery.k8s.io"], ["endpointslices"]),
]
_EDIT: list[Rule] = [
    (READ, [""], ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"]),
    (WRITE, [""], [*_CORE_VISIBLE, "pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets"]),
    (["create"], [""], ["pods/eviction", "serviceaccounts/token"]),
    (["impersonate"], [""], ["serviceaccounts"]),
    (WRITE, ["apps"], _WORKLOADS),
    (WRITE, ["autoscaling"], ["horizontalpodautoscalers"]),
    (WRITE, ["batch"], ["cronjobs", "jobs"]),
    (WRITE, ["policy"], ["poddisruptionbudgets"]),
    (WRITE, ["networking.k8s.io"], ["ingresses", "networkpolicies"]),
    (WRITE + READ, ["coordination.k8s.io"], ["leases"]),
]
_ADMIN: list[Rule] = [
    (["create"], ["authorization.k8s.io"], ["localsubjectaccessreviews"]),
    (WRITE + READ, [GROUP], ["rolebindings", "roles"]),
]
# Roles that are the sum of all roles with their label: an extension adds what its kinds need. The controller
# clusterrole-aggregation keeps the sum, in the order of the names, as it stands here.
AGGREGATED = {"admin": AGGREGATE_TO + "admin", "edit": AGGREGATE_TO + "edit", "view": AGGREGATE_TO + "view"}
_PARTS = {
    "system:aggregate-to-admin": AGGREGATED["admin"],
    "edit": AGGREGATED["admin"],
    "system:aggregate-to-edit": AGGREGATED["edit"],
    "view": AGGREGATED["edit"],
    "system:aggregate-to-view": AGGREGATED["view"],
}
ROLES: dict[str, list[Rule]] = {
    "cluster-admin": [(ALL, ALL, ALL)],
    "system:aggregate-to-admin": _ADMIN,
    "system:aggregate-to-edit": _EDIT,
    "system:aggregate-to-view": _VIEW,
    "admin": [*_EDIT, *_VIEW, *_ADMIN],
    "edit": [*_EDIT, *_VIEW],
    "view": _VIEW,
    "system:basic-user": [
        (["create"], ["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
        (["create"], ["authentication.k8s.io"], ["selfsubjectreviews"]),
    ],
    "system:kube-scheduler": [
        EVENTS,
        LEASES,
        (["create"], ["authentication.k8s.io"], ["tokenreviews"]),
        (["create"], ["authorization.k8s.io"], ["subjectaccessreviews"]),
        (["create"], [""], ["bindings", "pods/binding"]),
        (["delete", *READ], [""], ["pods"]),
        (["patch", "update"], [""], ["pods/status"]),
        (READ, [""], ["namespaces", "nodes", "persistentvolumeclaims", "persistentvolumes", "replicationcontrollers"]),
        (READ, [""], ["services"]),
        (["patch", "update"], [""], ["persistentvolumeclaims", "persistentvolumes"]),
        (READ, ["apps"], ["replicasets", "statefulsets"]),
        (READ, ["policy"], ["poddisruptionbudgets"]),
        (READ, ["scheduling.k8s.io"], ["priorityclasses"]),
        (READ, ["storage.k8s.io"], ["csidrivers", "csinodes", "storageclasses"]),
    ],
    # One process runs all controllers, the garbage collector and the namespace controller among them.
    "system:kube-controller-manager": [
        (
            ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch", "approve", "sign"],
            ALL,
            ALL,
        ),
        # To sum up roles that hold what it may not do itself.
        (["escalate"], [GROUP], ["clusterroles"]),
    ],
    "system:cloud-controller-manager": [
        EVENTS,
        LEASES,
        ([*READ, "create", "delete", "patch", "update"], [""], ["nodes", "nodes/status"]),
        ([*READ, "patch", "update"], [""], ["services", "services/status"]),
        (READ, [""], ["endpoints", "pods", "configmaps", "secrets", "serviceaccounts"]),
        (READ, ["discovery.k8s.io"], ["endpointslices"]),
    ],
    "system:node-proxier": [
        EVENTS,
        (READ, [""], ["endpoints", "namespaces", "nodes", "pods", "services"]),
        (READ, ["discovery.k8s.io"], ["endpointslices"]),
    ],
    "system:node-bootstrapper": [
        (["create", "get", "list", "watch"], ["certificates.k8s.io"], ["certificatesigningrequests"])
    ],
    "system:service-account-issuer-discovery": [],
}
PATHS: dict[str, list[str]] = {
    "cluster-admin": ["*"],
    "system:discovery": [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
    ],
    "system:public-info-viewer": ["/healthz", "/livez", "/readyz", "/version", "/version/"],
    "system:monitoring": ["/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/readyz", "/readyz/*"],
    "system:service-account-issuer-discovery": ["/.well-known/openid-configuration", "/openid/v1/jwks"],
}
# (role, kind of subject, its name)
BINDINGS = (
    ("cluster-admin", "Group", "system:masters"),
    ("system:basic-user", "Group", "system:authenticated"),
    ("system:discovery", "Group", "system:authenticated"),
    ("system:public-info-viewer", "Group", "system:authenticated"),
    ("system:monitoring", "Group", "system:monitoring"),
    ("system:kube-scheduler", "User", "system:kube-scheduler"),
    ("system:kube-controller-manager", "User", "system:kube-controller-manager"),
    ("system:cloud-controller-manager", "User", "system:cloud-controller-manager"),
    ("system:node-proxier", "User", "system:kube-proxy"),
    ("system:node-bootstrapper", "Group", "system:bootstrappers"),
    ("system:service-account-issuer-discovery", "Group", "system:serviceaccounts"),
)


# In kube-system: the proxy publishes the cluster's DNS server.
DNS_ROLE = "tillerman:cluster-dns"
_DNS: list[Rule] = [
    (["create", "patch", "update"], [""], ["endpoints", "services"]),
    (["create", "delete", "patch", "update"], ["discovery.k8s.io"], ["endpointslices"]),
]


def dns_role() -> Any:
    role = rbac_v1_pb2.Role()
    role.metadata.name, role.metadata.namespace = DNS_ROLE, "kube-system"
    role.metadata.labels.update(LABELS)
    for verbs, groups, resources in _DNS:
        role.rules.add(verbs=verbs, apiGroups=groups, resources=resources)
    return role


def dns_role_binding() -> Any:
    binding = rbac_v1_pb2.RoleBinding()
    binding.metadata.name, binding.metadata.namespace = DNS_ROLE, "kube-system"
    binding.metadata.labels.update(LABELS)
    binding.roleRef.apiGroup, binding.roleRef.kind, binding.roleRef.name = GROUP, "Role", DNS_ROLE
    binding.subjects.add(kind="User", apiGroup=GROUP, name="system:kube-proxy")
    return binding


def cluster_roles() -> list[Any]:
    roles = []
    for name in dict.fromkeys((*ROLES, *PATHS)):
        role = rbac_v1_pb2.ClusterRole()
        role.metadata.name = name
        role.metadata.labels.update(LABELS)
        role.metadata.annotations["rbac.authorization.kubernetes.io/autoupdate"] = "true"
        for verbs, groups, resources in ROLES.get(name, []):
            role.rules.add(verbs=verbs, apiGroups=groups, resources=resources)
        if name in AGGREGATED:
            role.aggregationRule.clusterRoleSelectors.add().matchLabels[AGGREGATED[name]] = "true"
        if name in _PARTS:
            role.metadata.labels[_PARTS[name]] = "true"
        if name in PATHS:
            role.rules.add(verbs=ALL if name == "cluster-admin" else ["get"], nonResourceURLs=PATHS[name])
        roles.append(role)
    return roles


def cluster_role_bindings() -> list[Any]:
    bindings = []
    for role, kind, subject in BINDINGS:
        binding = rbac_v1_pb2.ClusterRoleBinding()
        binding.metadata.name = role
        binding.metadata.labels.update(LABELS)
        binding.metadata.annotations["rbac.authorization.kubernetes.io/autoupdate"] = "true"
        binding.roleRef.apiGroup = GROUP
        binding.roleRef.kind = "ClusterRole"
        binding.roleRef.name = role
        binding.subjects.add(kind=kind, apiGroup=GROUP, name=subject)
        bindings.append(binding)
    return bindings
