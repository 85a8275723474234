"""What the columns of tables mean, as Kubernetes describes them: mostly the description of the field that is shown."""

from typing import Final

NAME: Final = (
    "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a "
    "client to request the generation of an appropriate name automatically. Name is primarily intended for creation "
    "idempotence and configuration definition. Cannot be updated. More info: "
    "http://kubernetes.io/docs/user-guide/identifiers#names"
)
CREATED: Final = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed "
    "to be set in happens-before order across separate operations. Clients may not set this value. It is represented "
    "in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)
_COMMON: Final = {
    "Name": NAME,
    "Age": CREATED,
    "Created At": CREATED,
    "Containers": "Names of each container in the template.",
    "Images": "Images referenced by each container in the template.",
}
_OF_POD: Final = {
    "Ready": "The aggregate readiness state of this pod for accepting traffic.",
    "Status": "The aggregate status of the containers in this pod.",
    "Restarts": "The number of times the containers in this pod have been restarted.",
    "IP": "IP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.",
    "Node": (
        "NodeName is a request to schedule this pod onto a specific node. If it is non-empty, the scheduler simply "
        "schedules this pod onto that node, assuming that it fits resource requirements."
    ),
    "Nominated Node": (
        "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right "
        "away as preemption victims receive their graceful termination periods. This field does not guarantee that the "
        "pod will be scheduled on this node. Scheduler may decide to place the pod elsewhere if other nodes become "
        "available sooner. Scheduler may also decide to give the resources on this node to a higher priority pod that "
        "is created after preemption. As a result, this field may be different than PodSpec.nodeName when the pod is "
        "scheduled."
    ),
    "Readiness Gates": (
        "If specified, all readiness gates will be evaluated for pod readiness. A pod is ready when all its containers "
        'are ready AND all conditions specified in the readiness gates have status equal to "True" More info: '
        "https://git.k8s.io/enhancements/keps/sig-network/0007-pod-ready%2B%2B.md"
    ),
}
_REPLICAS: Final = (
    "Replicas is the number of desired replicas. This is a pointer to distinguish between explicit zero and "
    "unspecified. Defaults to 1. More info: "
    "https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller/#what-is-a-replicationcontroller"
)
_CURRENT: Final = (
    "Replicas is the most recently observed number of replicas. More info: "
    "https://kubernetes.io/docs/concepts/workloads/controllers/replicationcontroller/#what-is-a-replicationcontroller"
)
_OF_BINDING: Final = {
    "Users": "Users in the roleBinding",
    "Groups": "Groups in the roleBinding",
    "ServiceAccounts": "ServiceAccounts in the roleBinding",
}
_OF_EVENT: Final = {
    "Last Seen": "The time at which the most recent occurrence of this event was recorded.",
    "Type": "Type of this event (Normal, Warning), new types could be added in the future",
    "Reason": (
        "This should be a short, machine understandable string that gives the reason for the transition into the "
        "object's current status."
    ),
    "Object": "The object that this event is about.",
    "Subobject": (
        "If referring to a piece of an object instead of an entire object, this string should contain a valid JSON/Go "
        "field access statement, such as desiredState.manifest.containers[2]. For example, if the object reference is "
        'to a container within a pod, this would take on a value like: "spec.containers{name}" (where "name" refers to '
        "the name of the container that triggered the event) or if no container name is specified "
        '"spec.containers[2]" (container with index 2 in this pod). This syntax is chosen only to have some '
        "well-defined way of referencing a part of an object."
    ),
    "Source": "The component reporting this event. Should be a short machine understandable string.",
    "Message": "A human-readable description of the status of this operation.",
    "First Seen": "The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)",
    "Count": "The number of times this event has occurred.",
}
_BY_KIND: Final[dict[str, dict[str, str]]] = {
    "Pod": _OF_POD,
    "PodTemplate": {"Pod Labels": "The labels for the pod template."},
    "PodDisruptionBudget": {
        "Min Available": "The minimum number of pods that must be available.",
        "Max Unavailable": "The maximum number of pods that may be unavailable.",
        "Allowed Disruptions": "Calculated number of pods that may be disrupted at this time.",
    },
    "ReplicationController": {"Desired": _REPLICAS, "Current": _CURRENT},
    "ReplicaSet": {"Desired": _REPLICAS, "Current": _CURRENT},
    "DaemonSet": {
        "Desired": (
            "The total number of nodes that should be running the daemon pod (including nodes correctly running the "
            "daemon pod). More info: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/"
        ),
        "Current": (
            "The number of nodes that are running at least 1 daemon pod and are supposed to run the daemon pod. More "
            "info: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/"
        ),
        "Ready": (
            "The number of nodes that should be running the daemon pod and have one or more of the daemon pod running "
            "and ready."
        ),
        "Up-to-date": "The total number of nodes that are running updated daemon pod",
        "Available": (
            "The number of nodes that should be running the daemon pod and have one or more of the daemon pod running "
            "and available (ready for at least spec.minReadySeconds)"
        ),
        "Node Selector": (
            "NodeSelector is a selector which must be true for the pod to fit on a node. Selector which must match a "
            "node's labels for the pod to be scheduled on that node. More info: "
            "https://kubernetes.io/docs/concepts/configuration/assign-pod-node/"
        ),
    },
    "Deployment": {
        "Ready": "Number of the pod with ready state",
        "Up-to-date": (
            "Total number of non-terminated pods targeted by this deployment that have the desired template spec."
        ),
        "Available": (
            "Total number of available pods (ready for at least minReadySeconds) targeted by this deployment."
        ),
        "Selector": (
            "Label selector for pods. Existing ReplicaSets whose pods are selected by this will be the ones affected "
            "by this deployment."
        ),
    },
    "StatefulSet": {"Ready": "Number of the pod with ready state"},
    "Job": {
        "Status": "Status of the job.",
        "Completions": "The number of pods which reached phase Succeeded.",
        "Duration": "Time required to complete the job.",
    },
    "CronJob": {
        "Schedule": "The schedule in Cron format, see https://en.wikipedia.org/wiki/Cron.",
        "Suspend": (
            "This flag tells the controller to suspend subsequent executions, it does not apply to already started "
            "executions.  Defaults to false."
        ),
        "Active": "A list of pointers to currently running jobs.",
        "Last Schedule": "Information when was the last time the job was successfully scheduled.",
    },
    "Ingress": {
        "Class": "The name of the IngressClass resource that should be used for additional configuration",
        "Hosts": "Hosts that incoming requests are matched against before the ingress rule",
        "Address": "Address is a list containing ingress points for the load-balancer",
        "Ports": "Ports of TLS configurations that open",
    },
    "IngressClass": {
        "Controller": "Controller that is responsible for handling this class",
        "Parameters": "A reference to a resource with additional parameters",
    },
    "Endpoints": {
        "Endpoints": (
            "The set of all endpoints is the union of all subsets. Addresses are placed into subsets according to the "
            "IPs they share. A single address with multiple ports, some of which are ready and some of which are not "
            "(because they come from different containers) will result in the address being displayed in different "
            "subsets for the different ports. No address will appear in both Addresses and NotReadyAddresses in the "
            "same subset. Sets of addresses and ports that comprise a service."
        ),
    },
    "Node": {
        "Status": "The status of the node",
        "Roles": "The roles of the node",
        "Version": "Kubelet Version reported by the node.",
        "Internal-IP": "List of addresses reachable to the node. Queried from cloud provider, if available.",
        "External-IP": "List of addresses reachable to the node. Queried from cloud provider, if available.",
        "OS-Image": "OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).",
        "Kernel-Version": "Kernel Version reported by the node from 'uname -r' (e.g. 3.16.0-0.bpo.4-amd64).",
        "Container-Runtime": (
            "ContainerRuntime Version reported by the node through runtime remote API (e.g. containerd://1.4.2)."
        ),
    },
    "Event": _OF_EVENT,
    "Namespace": {"Status": "The status of the namespace"},
    "Secret": {
        "Type": "Used to facilitate programmatic handling of secret data.",
        "Data": (
            "Data contains the secret data. Each key must consist of alphanumeric characters, '-', '_' or '.'. The "
            "serialized form of the secret data is a base64 encoded string, representing the arbitrary (possibly "
            "non-string) data value here. Described in https://tools.ietf.org/html/rfc4648#section-4"
        ),
    },
    "ConfigMap": {
        "Data": (
            "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. "
            "Values with non-UTF-8 byte sequences must use the BinaryData field. The keys stored in Data must not "
            "overlap with the keys in the BinaryData field, this is enforced during validation process."
        ),
    },
    "PersistentVolume": {"StorageClass": "StorageClass of the pv"},
    "PersistentVolumeClaim": {"StorageClass": "StorageClass of the pvc"},
    "ComponentStatus": {
        "Status": "Status of the component conditions",
        "Message": "Message of the component conditions",
        "Error": "Error of the component conditions",
    },
    "RoleBinding": _OF_BINDING,
    "ClusterRoleBinding": _OF_BINDING,
    "ControllerRevision": {
        "Controller": "Controller of the object",
        "Revision": "Revision indicates the revision of the state represented by Data.",
    },
    "ResourceQuota": {
        "Request": "Request represents a minimum amount of cpu/memory that a container may consume.",
        "Limit": (
            "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the "
            "node."
        ),
    },
    "PriorityClass": {
        "Value": "Value represents the integer value of this priority class.",
        "Global-Default": "Whether this PriorityClass should be considered as the default priority.",
    },
    "Lease": {"Holder": "holderIdentity contains the identity of the holder of a current lease."},
}


def describe(kind: str, column: str) -> str:
    """The text of a kind's column; every column has one."""
    text = _BY_KIND.get(kind, {}).get(column) or _COMMON.get(column)
    return text or f"{column} of the {kind}."
