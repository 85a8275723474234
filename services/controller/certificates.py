"""The controllers csrapproving and csrsigning: certificates for kubelets.

A node that joins with a bootstrap token asks for a client certificate in its own name, and a node renews its own; both
are approved here. A serving certificate is approved for a node that asks for its own name and known addresses. All
else waits for a person. Whatever is approved for these signers is signed with the cluster's CA.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from cryptography import x509
from cryptography.x509.oid import NameOID

from services.controller.framework import Controller, ControllerContext
from tillerman.api.meta import get_condition
from tillerman.api.times import from_seconds
from tillerman.pb.k8s import certificates_v1_pb2 as certificates
from tillerman.pb.k8s import core_v1_pb2 as core
from tillerman.service.pki import CertificateAuthority, KeyPair, sign_request

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
BOOTSTRAPPERS = "system:bootstrappers"
NODES = "system:nodes"
_CLIENT_USAGES = frozenset({"digital signature", "key encipherment", "client auth"})
_SERVER_USAGES = frozenset({"digital signature", "key encipherment", "server auth"})
_DAY = 86_400.0


def condition(request: certificates.CertificateSigningRequest, type: str) -> bool:
    return get_condition(request.status.conditions, type) is not None


def node_of(csr: x509.CertificateSigningRequest) -> str:
    """The node whose identity is asked for; "" when it is no node's."""
    names = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    organizations = [item.value for item in csr.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    name = str(names[0].value) if len(names) == 1 else ""
    if organizations != [NODES] or not name.startswith("system:node:"):
        return ""
    return name.removeprefix("system:node:")


def alternative_names(csr: x509.CertificateSigningRequest) -> set[str]:
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


def approval(request: certificates.CertificateSigningRequest, node: core.Node | None) -> str:
    """Why the request is approved without a person; "" when it is not. `node` is the one it is about, if known."""
    spec = request.spec
    try:
        csr = x509.load_pem_x509_csr(spec.request)
    except ValueError:
        return ""
    name, usages = node_of(csr), set(spec.usages)
    if not name:
        return ""
    if spec.signerName == KUBELET_CLIENT:
        if alternative_names(csr) or "client auth" not in usages or not usages <= _CLIENT_USAGES:
            return ""
        if spec.username == f"system:node:{name}" and NODES in spec.groups:
            return "Auto approving self kubelet client certificate after SubjectAccessReview."
        if BOOTSTRAPPERS in spec.groups:
            return "Auto approving kubelet client certificate after SubjectAccessReview."
        return ""
    if spec.signerName == KUBELET_SERVING and spec.username == f"system:node:{name}" and NODES in spec.groups:
        known = {name, *(address.address for address in node.status.addresses)} if node is not None else set()
        asked = alternative_names(csr)
        if asked and asked <= known and "server auth" in usages and usages <= _SERVER_USAGES:
            return "Auto approving kubelet serving certificate for the node's own addresses."
    return ""


class CSRApprovingController(Controller):
    name = "certificatesigningrequest-approving"
    workers: ClassVar[int] = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._requests = self.informer(certificates.CertificateSigningRequest)
        self._nodes = self.informer(core.Node)
        self._requests.add_handler(on_add=self.enqueue, on_update=lambda _, new: self.enqueue(new))

    def known_keys(self) -> list[str]:
        return [request.metadata.name for request in self._requests.list()]

    async def reconcile(self, key: str) -> float | None:
        request = self._requests.get(key)
        if request is None or condition(request, "Approved") or condition(request, "Denied"):
            return None
        reason = approval(request, self._nodes.get(request.spec.username.removeprefix("system:node:")))
        if not reason:
            return None
        approved = certificates.CertificateSigningRequest()
        approved.CopyFrom(request)
        approved.status.conditions.add(
            type="Approved",
            status="True",
            reason="AutoApproved",
            message=reason,
            lastUpdateTime=from_seconds(self.clock.time()),
            lastTransitionTime=from_seconds(self.clock.time()),
        )
        await self.client.resource(certificates.CertificateSigningRequest).update(approved, subresource="approval")
        return None


class CSRSigningController(Controller):
    name = "certificatesigningrequest-signing"
    workers: ClassVar[int] = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._authority: CertificateAuthority | None = None
        self._requests = self.informer(certificates.CertificateSigningRequest)
        self._requests.add_handler(on_add=self.enqueue, on_update=lambda _, new: self.enqueue(new))

    def known_keys(self) -> list[str]:
        return [request.metadata.name for request in self._requests.list()]

    async def reconcile(self, key: str) -> float | None:
        request = self._requests.get(key)
        if request is None or request.spec.signerName not in (CLIENT, KUBELET_CLIENT, KUBELET_SERVING):
            return None
        if not condition(request, "Approved") or condition(request, "Denied") or condition(request, "Failed"):
            return None
        if request.status.certificate or not self.options.cluster_signing_key_file:
            return None
        signed = certificates.CertificateSigningRequest()
        signed.CopyFrom(request)
        serving = request.spec.signerName == KUBELET_SERVING
        try:
            signed.status.certificate = sign_request(
                await self._ca(),
                request.spec.request,
                days=self._seconds(request) / _DAY,
                server=serving,
                client=not serving,
            )
        except ValueError as error:
            signed.status.conditions.add(
                type="Failed",
                status="True",
                reason="SignerValidationFailure",
                message=str(error),
                lastUpdateTime=from_seconds(self.clock.time()),
                lastTransitionTime=from_seconds(self.clock.time()),
            )
        await self.client.resource(certificates.CertificateSigningRequest).update_status(signed)
        return None

    def _seconds(self, request: certificates.CertificateSigningRequest) -> float:
        longest = self.options.cluster_signing_duration
        asked = request.spec.expirationSeconds
        return min(max(float(asked), 600.0), longest) if asked else longest

    async def _ca(self) -> CertificateAuthority:
        if self._authority is None:
            options = self.options
            pair = await asyncio.to_thread(_read, options.cluster_signing_cert_file, options.cluster_signing_key_file)
            self._authority = CertificateAuthority.load(pair)
        return self._authority


def _read(certificate: str, key: str) -> KeyPair:
    return KeyPair(Path(certificate).read_bytes(), Path(key).read_bytes())
