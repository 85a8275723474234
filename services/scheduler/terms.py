"""Pod affinity terms and spread constraints, parsed once per template and comparable by value.

Equal terms of different templates have equal keys, so they share one counter in the snapshot.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tillerman.api.selectors import LabelSelector, from_message
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.pb.k8s import meta_v1_pb2 as meta

REQUIRED_AFFINITY = "affinity"
REQUIRED_ANTI_AFFINITY = "anti-affinity"
PREFERRED = "preferred"


@dataclass(frozen=True, slots=True)
class PodSelector:
    """Pods by namespace and labels. `namespaces` empty and no namespace selector never happens: the pod's own namespace
    is filled in. A None label selector matches nothing, an empty one everything, as in Kubernetes."""

    namespaces: frozenset[str]
    namespace_selector: LabelSelector | None
    labels: LabelSelector | None
    key: tuple[object, ...]

    def matches(self, namespace: str, labels: Mapping[str, str], namespace_labels: Mapping[str, str]) -> bool:
        if self.labels is None:
            return False
        if namespace not in self.namespaces and (
            self.namespace_selector is None or not self.namespace_selector.matches(namespace_labels)
        ):
            return False
        return self.labels.matches(labels)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PodSelector) and self.key == other.key


@dataclass(frozen=True, slots=True)
class AffinityTerm:
    """kind: REQUIRED_AFFINITY, REQUIRED_ANTI_AFFINITY, or PREFERRED, whose weight is negative for anti-affinity."""

    kind: str
    weight: int
    topology_key: str
    selector: PodSelector


@dataclass(frozen=True, slots=True)
class SpreadConstraint:
    """`hard` is whenUnsatisfiable: DoNotSchedule."""

    max_skew: int
    topology_key: str
    hard: bool
    min_domains: int
    honor_affinity: bool
    honor_taints: bool
    selector: PodSelector


def affinity_terms(pod: core.Pod) -> tuple[AffinityTerm, ...]:
    if not pod.spec.HasField("affinity"):
        return ()
    affinity, anti = pod.spec.affinity.podAffinity, pod.spec.affinity.podAntiAffinity
    terms: list[AffinityTerm] = []
    for kind, required in (
        (REQUIRED_AFFINITY, affinity.requiredDuringSchedulingIgnoredDuringExecution),
        (REQUIRED_ANTI_AFFINITY, anti.requiredDuringSchedulingIgnoredDuringExecution),
    ):
        terms += [AffinityTerm(kind, 0, term.topologyKey, _selector_of(pod, term)) for term in required]
    for sign, preferred in (
        (1, affinity.preferredDuringSchedulingIgnoredDuringExecution),
        (-1, anti.preferredDuringSchedulingIgnoredDuringExecution),
    ):
        for weighted in preferred:
            term = weighted.podAffinityTerm
            terms.append(AffinityTerm(PREFERRED, sign * weighted.weight, term.topologyKey, _selector_of(pod, term)))
    return tuple(terms)


def spread_constraints(pod: core.Pod) -> tuple[SpreadConstraint, ...]:
    return tuple(
        SpreadConstraint(
            max_skew=c.maxSkew,
            topology_key=c.topologyKey,
            hard=c.whenUnsatisfiable != "ScheduleAnyway",
            min_domains=c.minDomains or 1,
            honor_affinity=c.nodeAffinityPolicy != "Ignore",
            honor_taints=c.nodeTaintsPolicy == "Honor",
            selector=pod_selector(
                [pod.metadata.namespace],
                with_label_keys(c.labelSelector if c.HasField("labelSelector") else None, pod, c.matchLabelKeys),
            ),
        )
        for c in pod.spec.topologySpreadConstraints
    )


def pod_selector(
    namespaces: Iterable[str],
    labels: meta.LabelSelector | None,
    namespace_selector: meta.LabelSelector | None = None,
) -> PodSelector:
    names = frozenset(namespaces)
    compiled = None if labels is None else from_message(labels)
    by_namespace = None if namespace_selector is None else from_message(namespace_selector)
    key = (names, None if compiled is None else str(compiled), None if by_namespace is None else str(by_namespace))
    return PodSelector(names, by_namespace, compiled, key)


def with_label_keys(
    selector: meta.LabelSelector | None, pod: core.Pod, keys: Iterable[str], mismatched: Iterable[str] = ()
) -> meta.LabelSelector | None:
    """The selector narrowed to the pod's own values of these labels (matchLabelKeys, mismatchLabelKeys)."""
    labels = pod.metadata.labels
    demands = [("In", key) for key in keys if key in labels] + [("NotIn", key) for key in mismatched if key in labels]
    if selector is None or not demands:
        return selector
    narrowed = meta.LabelSelector()
    narrowed.CopyFrom(selector)
    for operator, key in demands:
        narrowed.matchExpressions.add(key=key, operator=operator, values=[labels[key]])
    return narrowed


def _selector_of(pod: core.Pod, term: core.PodAffinityTerm) -> PodSelector:
    by_namespace = term.namespaceSelector if term.HasField("namespaceSelector") else None
    namespaces = list(term.namespaces)
    if not namespaces and by_namespace is None:
        namespaces = [pod.metadata.namespace]
    labels = term.labelSelector if term.HasField("labelSelector") else None
    return pod_selector(
        namespaces, with_label_keys(labels, pod, term.matchLabelKeys, term.mismatchLabelKeys), by_namespace
    )
