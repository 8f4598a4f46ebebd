# GNU General Public License v3.0+ (see LICENSE)
"""The site's own CA and its server certificate: make them, judge them, renew them in time."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
# The CA is renewed when less than this is left of it: the certificates that it signed must not outlive it.
CA_RENEW_DAYS = 1000
# Clocks of clients may be behind.
BACKDATE = datetime.timedelta(hours=1)


def server_names(service: str, namespace: str, more: list[str]) -> list[str]:
    """The DNS names that clients in the cluster know a Service by, if there is one, and some more."""
    if not service:
        return more
    return [
        service,
        f"{service}.{namespace}",
        f"{service}.{namespace}.svc",
        f"{service}.{namespace}.svc.cluster.local",
        "localhost",
        *more,
    ]


def make_key() -> str:
    """A new private key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def make_ca(key_pem: str, name: str) -> str:
    """A CA's certificate, PEM.

    Made again with the same key and name it is the same CA for longer: what it signed before stays good, and a client
    that still has its old certificate accepts what it signs from now on.
    """
    key = _load_key(key_pem)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    builder = (
        _builder(subject, key.public_key(), subject, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _signed(builder, key)


def make_server_certificate(key_pem: str, ca_pem: str, ca_key_pem: str, names: list[str], days: int) -> str:
    """A server's certificate for these DNS names, the first of which is its common name, PEM."""
    ca, ca_key = x509.load_pem_x509_certificate(ca_pem.encode()), _load_key(ca_key_pem)
    public = _load_key(key_pem).public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    builder = (
        _builder(subject, public, ca.subject, days)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    return _signed(builder, ca_key)


def ca_is_good(ca_pem: str, key_pem: str) -> bool:
    """Whether the CA and its key belong together and there is time left."""
    try:
        ca, key = x509.load_pem_x509_certificate(ca_pem.encode()), _load_key(key_pem)
    except (ValueError, TypeError):
        return False
    return ca.public_key() == key.public_key() and days_left(ca_pem) > CA_RENEW_DAYS


def server_is_good(certificate_pem: str, key_pem: str, ca_pem: str, names: list[str], renew_days: int) -> bool:
    """Whether a server's certificate fits key, CA and names, and has more than `renew_days` left."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        if certificate.public_key() != _load_key(key_pem).public_key():
            return False
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem.encode()))
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return set(names) == set(found.get_values_for_type(x509.DNSName)) and days_left(certificate_pem) > renew_days


def dns_names(certificate_pem: str) -> list[str]:
    """The DNS names that a certificate is for.

    Raises:
        ValueError: it is not a certificate.
    """
    try:
        names = x509.load_pem_x509_certificate(certificate_pem.encode()).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return []
    return names.value.get_values_for_type(x509.DNSName)


def days_left(certificate_pem: str) -> float:
    """Days until a certificate ends; negative when it has ended.

    Raises:
        ValueError: it is not a certificate.
    """
    end = x509.load_pem_x509_certificate(certificate_pem.encode()).not_valid_after_utc
    return (end - datetime.datetime.now(datetime.UTC)).total_seconds() / 86400


def _load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    return serialization.load_pem_private_key(pem.encode(), None)


def _builder(
    subject: x509.Name, public: ec.EllipticCurvePublicKey, issuer: x509.Name, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _key_usage(sign: bool) -> x509.KeyUsage:
    names = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only")
    off = dict.fromkeys((*names, "decipher_only"), False)
    return x509.KeyUsage(digital_signature=not sign, key_cert_sign=sign, crl_sign=sign, **off)


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> str:
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
