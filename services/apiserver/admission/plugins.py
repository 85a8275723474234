"""Which admission plugins there are, in which order they run, and which of them run by default.

Names, order and defaults are Kubernetes'; so are the flags that add and leave out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from services.apiserver.admission.certificates import (
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
    Decides,
)
from services.apiserver.admission.chain import Chain, Plugin
from services.apiserver.admission.ingress import DefaultIngressClass
from services.apiserver.admission.limit_ranges import LimitRanger
from services.apiserver.admission.namespaces import NamespaceLifecycle
from services.apiserver.admission.nodes import NodeRestriction, NodeTaint
from services.apiserver.admission.pod_security import PodSecurity
from services.apiserver.admission.priority import Priority
from services.apiserver.admission.quotas import Quotas
from services.apiserver.admission.runtime_class import RuntimeClasses
from services.apiserver.admission.service_accounts import ServiceAccounts
from services.apiserver.admission.storage import ClaimResize, DefaultStorageClass, StorageProtection
from services.apiserver.admission.tolerations import DefaultTolerations
from services.apiserver.options import ApiserverOptions
from services.apiserver.registry.catalog import Catalog
from services.apiserver.registry.reading import Reader
from services.apiserver.storage.store import Store
from services.apiserver.webhooks.client import WebhookClient
from services.apiserver.webhooks.dispatch import Caller, MutatingWebhooks, ValidatingWebhooks
from services.apiserver.webhooks.metrics import WebhookMetrics
from tillerman.service.options import OptionsError


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What plugins are made of."""

    catalog: Catalog
    reader: Reader
    store: Store
    authorizer: Decides
    webhooks: WebhookClient
    metrics: CollectorRegistry


def admission_chain(options: ApiserverOptions, given: Surroundings) -> Chain:
    """Raises OptionsError for a plugin that does not exist, or that is both enabled and disabled."""
    catalog, reader = given.catalog, given.reader
    caller = Caller(catalog=catalog, reader=reader, client=given.webhooks, counters=WebhookMetrics(given.metrics))
    known: dict[str, Callable[[], Plugin]] = {
        "NamespaceLifecycle": lambda: NamespaceLifecycle(catalog, reader),
        "LimitRanger": lambda: LimitRanger(catalog),
        "ServiceAccount": lambda: ServiceAccounts(catalog, reader),
        "NodeRestriction": lambda: NodeRestriction(catalog),
        "TaintNodesByCondition": NodeTaint,
        "PodSecurity": lambda: PodSecurity(catalog),
        "Priority": lambda: Priority(catalog, reader),
        "DefaultTolerationSeconds": lambda: DefaultTolerations(
            not_ready_seconds=options.default_not_ready_toleration_seconds,
            unreachable_seconds=options.default_unreachable_toleration_seconds,
        ),
        "DefaultStorageClass": lambda: DefaultStorageClass(catalog),
        "StorageObjectInUseProtection": StorageProtection,
        "PersistentVolumeClaimResize": lambda: ClaimResize(catalog),
        "RuntimeClass": lambda: RuntimeClasses(catalog, reader),
        "CertificateApproval": lambda: CertificateApproval(given.authorizer),
        "CertificateSigning": lambda: CertificateSigning(given.authorizer),
        "CertificateSubjectRestriction": CertificateSubjectRestriction,
        "DefaultIngressClass": lambda: DefaultIngressClass(catalog),
        "MutatingAdmissionWebhook": lambda: MutatingWebhooks(catalog, caller),
        "ValidatingAdmissionWebhook": lambda: ValidatingWebhooks(catalog, caller),
        "ResourceQuota": lambda: Quotas(catalog=catalog, reader=reader, store=given.store),
    }
    return Chain([known[name]() for name in chosen(list(known), options)])


def chosen(known: list[str], options: ApiserverOptions) -> list[str]:
    enabled, disabled = set(options.enable_admission_plugins), set(options.disable_admission_plugins)
    for flag, names in (("enable", enabled), ("disable", disabled)):
        for name in sorted(names - set(known)):
            raise OptionsError(f'--{flag}-admission-plugins: there is no plugin "{name}"; known are {", ".join(known)}')
    for name in sorted(enabled & disabled):
        raise OptionsError(f'the admission plugin "{name}" is both enabled and disabled')
    return [name for name in known if name not in disabled]
