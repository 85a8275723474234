"""Server credentials, and who the peer of a call is.

gRPC for Python either requires a client certificate or doesn't ask for one; there is no "verify if given"
(require_client_auth=False sends no CertificateRequest). So the main port requires certificates, and clients that only
have a bearer token use a second port (--token-port), which serves the same over TLS without asking for one.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import grpc

from tillerman.service.options import OptionsError, ServiceOptions


@dataclass(frozen=True, slots=True)
class UserInfo:
    """A peer: its certificate's common name and organizations, or whoever a token names."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


ANONYMOUS = UserInfo("system:anonymous", ("system:unauthenticated",))


class CertificateFiles:
    """The server's PEM files; read again when one of them changes, without a restart."""

    def __init__(self, options: ServiceOptions) -> None:
        assert options.tls_cert_file and options.tls_key_file and options.client_ca_file
        self._files = (options.tls_key_file, options.tls_cert_file, options.client_ca_file)
        self._stamp = self._stat()

    def credentials(self, *, require_client_certificate: bool) -> grpc.ServerCredentials:
        """Raises OptionsError when a file cannot be read."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            self._changed,  # type: ignore[arg-type]
            require_client_certificate,
        )

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        key, chain, roots = (_read(path) for path in self._files)
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC before each handshake; None keeps what there is."""
        try:
            stamp = self._stat()
            if stamp == self._stamp:
                return None
            configuration = self._configuration()
        except (OSError, OptionsError):
            # Half-way through a replacement: the next handshake looks again.
            return None
        self._stamp = stamp
        return configuration

    def _stat(self) -> tuple[tuple[int, int], ...]:
        try:
            return tuple((s.st_mtime_ns, s.st_ino) for s in (path.stat() for path in self._files))
        except OSError as error:
            raise OptionsError(f"cannot read {error.filename}: {error.strerror}") from error


def peer_identity(context: Any) -> UserInfo:
    """Who calls, by the client certificate that the CA vouches for; ANONYMOUS without one."""
    auth = context.auth_context()
    pem = auth.get("x509_pem_cert")
    if not pem:
        return ANONYMOUS
    subject = auth.get("x509_subject")
    if subject:
        return _from_subject(subject[0])
    return _from_pem(pem[0])


def bearer_token(context: Any) -> str:
    """The token of "authorization: Bearer …"; empty without one."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and value[:7].lower() == "bearer ":
            return str(value[7:]).strip()
    return ""


# One relative distinguished name of an RFC 2253 subject: type, value with escapes, separator.
_RDN = re.compile(r"\s*([A-Za-z0-9.]+)=((?:\\.|[^\\,+])*)(?:[,+]|$)", re.DOTALL)
_ESCAPE = re.compile(r"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)


@lru_cache(maxsize=4096)
def _from_subject(subject: bytes) -> UserInfo:
    """From RFC 2253 text, as gRPC gives it: the most specific name first."""
    name, groups = "", []
    for kind, value in _RDN.findall(subject.decode()):
        plain = _unescape(value)
        if kind.upper() == "CN" and not name:
            name = plain
        elif kind.upper() == "O":
            groups.append(plain)
    return UserInfo(name, (*reversed(groups), "system:authenticated"))


def _unescape(value: str) -> str:
    """Undoes backslash escapes: of a character, or of a byte of UTF-8 in two hex digits."""
    out = bytearray()
    end = 0
    for match in _ESCAPE.finditer(value):
        out += value[end : match.start()].encode()
        escaped = match[1]
        out += bytes([int(escaped, 16)]) if len(escaped) == 2 else escaped.encode()
        end = match.end()
    return (out + value[end:].encode()).decode(errors="replace")


@lru_cache(maxsize=4096)
def _from_pem(pem: bytes) -> UserInfo:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    subject = x509.load_pem_x509_certificate(pem).subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    groups = tuple(str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    return UserInfo(str(names[0].value) if names else "", (*groups, "system:authenticated"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OptionsError(f"cannot read {path}: {error.strerror}") from error
