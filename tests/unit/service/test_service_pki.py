import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tillerman.service import pki
from tillerman.service.tls import _from_pem, _from_subject


def test_issued_certificates_verify_and_carry_names_and_purposes() -> None:
    ca = pki.make_ca()
    pair = pki.issue(ca, "system:node:n1", ["system:nodes"], ["127.0.0.1", "::1", "n1", "n1"], days=7)
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    certificate.verify_directly_issued_by(ca.certificate)
    assert _from_pem(pair.certificate).name == "system:node:n1"
    assert _from_pem(pair.certificate).groups == ("system:nodes", "system:authenticated")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n1"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert 7 <= lifetime.total_seconds() / 86400 < 7.1
    assert (ca.certificate.not_valid_after_utc - ca.certificate.not_valid_before_utc).days == 3650


def test_files_are_private_and_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    ca = pki.make_ca("test-ca")
    crt, key = ca.write(folder)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    again = pki.CertificateAuthority.read(folder)
    assert again.certificate == ca.certificate
    assert sorted(p.name for p in folder.iterdir()) == [crt.name, key.name]


def test_a_key_of_another_ca_is_refused() -> None:
    one, two = pki.make_ca(), pki.make_ca()
    with pytest.raises(ValueError, match="does not belong"):
        pki.CertificateAuthority.load(pki.KeyPair(one.pair.certificate, two.pair.key))


def test_a_request_is_signed_with_its_own_subject() -> None:
    ca = pki.make_ca()
    request, _ = pki.make_request("system:node:n2", ["system:nodes"], ["10.0.0.2", "n2"])
    certificate = x509.load_pem_x509_certificate(pki.sign_request(ca, request, days=1))
    certificate.verify_directly_issued_by(ca.certificate)
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:n2"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["n2"]
    with pytest.raises(ValueError):
        pki.sign_request(ca, b"nonsense")


@pytest.mark.parametrize(
    ("subject", "name", "groups"),
    [
        (b"CN=kubernetes-admin,O=system:masters", "kubernetes-admin", ("system:masters",)),
        (b"CN=x\\,O=system:masters", "x,O=system:masters", ()),
        (b"CN=Gr\\C3\\BC\\C3\\9Fe,O=b,O=a", "Grüße", ("a", "b")),
        (b"O=only", "", ("only",)),
    ],
)
def test_subjects_are_parsed_with_their_escapes(subject: bytes, name: str, groups: tuple[str, ...]) -> None:
    user = _from_subject(subject)
    assert (user.name, user.groups) == (name, (*groups, "system:authenticated"))
