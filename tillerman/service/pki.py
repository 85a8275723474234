"""Certificates: a CA, and short-lived certificates that serve and call (EC P-256).

File layout of a folder: `ca.crt`, `ca.key`, and `<name>.crt`, `<name>.key` for each identity. Keys are PKCS#8 PEM,
mode 0600. Importing this module loads `cryptography`; servers don't need it, the one who issues does.
"""

import datetime as dt
import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650.0
LEAF_DAYS = 365.0

# Certificates are valid from a little before they are made, for machines whose clocks are behind.
_BACKDATED = dt.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Writes <name>.crt and <name>.key (0600), each whole or not at all; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        crt, key = folder / f"{name}.crt", folder / f"{name}.key"
        _write(key, self.key, 0o600)
        _write(crt, self.certificate, 0o644)
        return crt, key

    @classmethod
    def read(cls, folder: Path, name: str) -> "KeyPair":
        return cls((folder / f"{name}.crt").read_bytes(), (folder / f"{name}.key").read_bytes())


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A CA that can issue: loaded once, used for many certificates."""

    pair: KeyPair
    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes

    @classmethod
    def load(cls, pair: KeyPair) -> "CertificateAuthority":
        """Raises ValueError for PEM that is no CA certificate or doesn't belong together."""
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        key = serialization.load_pem_private_key(pair.key, password=None)
        if key.public_key() != certificate.public_key():
            raise ValueError("the CA's key does not belong to its certificate")
        return cls(pair, certificate, key)  # type: ignore[arg-type]

    @classmethod
    def read(cls, folder: Path, name: str = "ca") -> "CertificateAuthority":
        return cls.load(KeyPair.read(folder, name))

    def write(self, folder: Path, name: str = "ca") -> tuple[Path, Path]:
        return self.pair.write(folder, name)


def make_ca(common_name: str = "tillerman-ca", *, days: float = CA_DAYS) -> CertificateAuthority:
    """A self-signed CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        _builder(name, name, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return CertificateAuthority(KeyPair(_pem(certificate), _key_pem(key)), certificate, key)


def issue(
    ca: CertificateAuthority,
    common_name: str,
    organizations: Sequence[str] = (),
    sans: Iterable[str] = (),
    days: float = LEAF_DAYS,
    *,
    server: bool = True,
    client: bool = True,
) -> KeyPair:
    """A key and its certificate, for serving (under `sans`: DNS names and IP addresses) and for calling (as
    common_name, member of organizations)."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _leaf(ca, _subject(common_name, organizations), key.public_key(), sans, days, server, client)
    return KeyPair(_pem(certificate), _key_pem(key))


def sign_request(
    ca: CertificateAuthority, request: bytes, *, days: float = LEAF_DAYS, server: bool = False, client: bool = True
) -> bytes:
    """Signs a PEM certificate signing request with its own subject and alternative names; returns the certificate.

    Raises ValueError when the request is malformed or not signed by its own key. Whether the requester may have that
    subject is the caller's question.
    """
    csr = x509.load_pem_x509_csr(request)
    if not csr.is_signature_valid:
        raise ValueError("the certificate request is not signed by its own key")
    try:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        sans = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    except x509.ExtensionNotFound:
        sans = []
    key = csr.public_key()
    return _pem(_leaf(ca, csr.subject, key, sans, days, server, client))  # type: ignore[arg-type]


def make_request(common_name: str, organizations: Sequence[str] = (), sans: Iterable[str] = ()) -> tuple[bytes, bytes]:
    """A certificate signing request and its new private key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(common_name, organizations))
    if names := _alternative_names(sans):
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    request = builder.sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM), _key_pem(key)


def make_signing_key() -> bytes:
    """A private key for service account tokens, PEM. RSA: everybody who verifies such tokens elsewhere knows RS256."""
    return _key_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def expires_at(certificate: bytes) -> float:
    """Seconds since the epoch."""
    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc.timestamp()


def write_secret(path: Path, data: bytes) -> None:
    """Writes a file of mode 0600, whole or not at all."""
    _write(path, data, 0o600)


def _leaf(
    ca: CertificateAuthority,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    sans: Iterable[str],
    days: float,
    server: bool,
    client: bool,
) -> x509.Certificate:
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH] * server + [ExtendedKeyUsageOID.CLIENT_AUTH] * client
    builder = (
        _builder(subject, ca.certificate.subject, public_key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.certificate.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
    )
    if names := _alternative_names(sans):
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ca.key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _subject(common_name: str, organizations: Sequence[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative_names(sans: Iterable[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for san in dict.fromkeys(sans):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(san)))
        except ValueError:
            names.append(x509.DNSName(san))
    return names


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        key_encipherment=False,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    draft.replace(path)
