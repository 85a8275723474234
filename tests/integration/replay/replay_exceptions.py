"""The recorded cases that are answered differently, each with its reason."""

_OTHERS = "acts on an object that an earlier case made, which is not among these"
_GONE = "PodSecurityPolicy is gone since 1.25"

# What cannot be asked.
NOT_SERVED: dict[str, dict[str, str]] = {
    "creates": {
        "psp-min": _GONE,
        "psp-full": _GONE,
        "bindings-resource": _OTHERS,
        "pod-eviction": _OTHERS,
        "endpointslice-full": "its topology is not in v1",
    },
    "invalid": {"psp-empty": _GONE},
}
# What is answered differently.
DIFFERENT: dict[str, dict[str, str]] = {
    "creates": {
        "pod-security": "the seccomp annotations are gone since 1.27",
        "csinode-min": "a list without items is no list in protobuf, so nobody owns it",
        "pdb-status-patch-negative-accepted": "1.20 took numbers below zero",
    },
    "invalid": {"endpoints-bad": "pods of the process runtime have loopback addresses, so Endpoints take them"},
    "apply": {
        "service-ports-default-protocol": "the protocol has a default in lists that merge by it, since 1.21",
    },
    "lists": {"field-service-unsupported": "Services can be selected by spec.clusterIP and spec.type since 1.23"},
    "deletes": {"pod-grace-negative": "a negative grace period counts as one second since 1.23"},
    "watches": {
        "compacted/events-from-1": "events have a watch cache here, so their past ends with the words of the others",
    },
    "subresources": {
        "eviction/pdb-empty-selector": "recorded in policy/v1beta1, where an empty selector chose no pod; in v1 all",
        "pod-ephemeralcontainers": "the subresource is served since 1.23",
    },
}
