"""The directory's own CA and the TLS certificate by it, for where no other CA is at hand.

The CA's key never leaves root; a join token pins the CA, and a browser is given ca.crt to trust.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pam_totp.errors import ConfigError

AUTHORITY_DAYS = 20 * 365
# Browsers take no longer ones: 825 days.
SERVER_DAYS = 800
# How long before its end a certificate is renewed.
SOON = timedelta(days=30)
_EARLIER = timedelta(hours=1)  # for clients whose clock is somewhat behind


def authority(name: str, now: datetime) -> tuple[bytes, bytes]:
    """A new CA for this directory: its certificate and its private key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"pam-totp directory {name}")
    builder = _builder(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(sign=True), critical=True)
    # Whoever trusts it trusts it for this name alone.
    permitted: list[x509.GeneralName] = [_name(name)]
    builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return _pem(builder.sign(key, hashes.SHA256())), _key_pem(key)


def server(
    name: str, authority_pem: bytes, key_pem: bytes, now: datetime, own_pem: bytes | None = None
) -> tuple[bytes, bytes]:
    """A new TLS certificate by this CA, with the CA behind it; and its private key: a new one, or ``own_pem``. In PEM.

    Raises ConfigError for keys of another kind than are made here.
    """
    issuer = x509.load_pem_x509_certificate(authority_pem)
    issuer_key = _loaded(key_pem)
    key = ec.generate_private_key(ec.SECP256R1()) if own_pem is None else _loaded(own_pem)
    builder = _builder(_subject(name), issuer.subject, key.public_key(), now, SERVER_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(sign=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([_name(name, host=True)]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    return _pem(builder.sign(issuer_key, hashes.SHA256())) + authority_pem, _key_pem(key)


def issued(certificate_pem: bytes, authority_pem: bytes) -> bool:
    """Whether the first certificate in this text names this CA as its issuer."""
    found, issuer = (x509.load_pem_x509_certificate(each) for each in (certificate_pem, authority_pem))
    return found.issuer == issuer.subject


def pin(authority_pem: bytes) -> str:
    """What a join token says of a CA: the SHA-256 of its certificate."""
    return x509.load_pem_x509_certificate(authority_pem).fingerprint(hashes.SHA256()).hex()


def ends(certificate_pem: bytes) -> datetime:
    """When the first certificate in this text ends. Raises ConfigError."""
    try:
        found = x509.load_pem_x509_certificate(certificate_pem)
    except ValueError:
        raise ConfigError("this is no certificate in PEM: name another file") from None
    # The type checker sees Debian 12's cryptography, which is older.
    end: datetime = found.not_valid_after_utc  # type: ignore[attr-defined, unused-ignore]  # see above
    return end


def _loaded(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(key_pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError("this key is of another kind than init makes: restore it from a backup")
    return key


def _name(name: str, *, host: bool = False) -> x509.GeneralName:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return x509.DNSName(name)
    return x509.IPAddress(address if host else ipaddress.ip_network(address))


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
