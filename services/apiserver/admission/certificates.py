"""CertificateApproval, CertificateSigning and CertificateSubjectRestriction."""

from __future__ import annotations

from typing import Any, Protocol

from services.apiserver.admission.chain import CREATE, UPDATE, Attributes, BasePlugin, refused
from services.apiserver.registry.context import User
from services.apiserver.registry.registry import Target

GROUP = "certificates.k8s.io"
REQUESTS = frozenset({(GROUP, "certificatesigningrequests")})
CLIENT_SIGNER, ADMINS = "kubernetes.io/kube-apiserver-client", "system:masters"


class Decides(Protocol):
    """The part of the authorizer that is asked who may use a signer."""

    def allows(self, user: User, verb: str, target: Target) -> bool: ...


class _SignerRight(BasePlugin):
    """Whoever may approve or sign requests at all may still do it only for some signers."""

    operations = frozenset({UPDATE})
    resources = REQUESTS
    verb: str

    def __init__(self, authorizer: Decides) -> None:
        self._authorizer = authorizer

    def check(self, attributes: Attributes) -> None:
        """Raises Forbidden."""
        signer, user = attributes.old.spec.signerName, attributes.context.user
        domain = signer.partition("/")[0]
        targets = (Target(f"{GROUP}/v1", "signers", name=name) for name in (signer, f"{domain}/*"))
        if not any(self._authorizer.allows(user, self.verb, target) for target in targets):
            raise refused(attributes, f'user not permitted to {self.verb} requests with signerName "{signer}"')


class CertificateApproval(_SignerRight):
    subresources = frozenset({"approval"})
    verb = "approve"

    async def validate(self, attributes: Attributes) -> None:
        self.check(attributes)


class CertificateSigning(_SignerRight):
    subresources = frozenset({"status"})
    verb = "sign"

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.obj.status, attributes.old.status
        if new.certificate != old.certificate or _failed(new) != _failed(old):
            self.check(attributes)


class CertificateSubjectRestriction(BasePlugin):
    """Nobody becomes an administrator through a certificate request."""

    operations = frozenset({CREATE})
    resources = REQUESTS

    async def validate(self, attributes: Attributes) -> None:
        if attributes.obj.spec.signerName != CLIENT_SIGNER:
            return
        if ADMINS in _organizations(attributes, attributes.obj.spec.request):
            raise refused(attributes, f"use of {CLIENT_SIGNER} signer with {ADMINS} group is not allowed")


def _failed(status: Any) -> list[Any]:
    return [condition for condition in status.conditions if condition.type == "Failed"]


def _organizations(attributes: Attributes, pem: bytes) -> list[str]:
    from cryptography import x509

    try:
        subject = x509.load_pem_x509_csr(pem).subject
    except ValueError as error:
        raise refused(attributes, f"failed to parse CSR: {error}") from error
    return [str(name.value) for name in subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)]
