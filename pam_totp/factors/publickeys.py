"""The public keys and certificates that sshd has verified in a login, as SSH_AUTH_INFO_0 lists them. Pure."""

from __future__ import annotations

# How many fields a certificate has between its nonce and its serial number: the certified key's own (OpenSSH's
# PROTOCOL.certkeys).
_KEY_FIELDS = {
    "ssh-ed25519-cert-v01@openssh.com": 1,
    "ssh-rsa-cert-v01@openssh.com": 2,
    "ecdsa-sha2-nistp256-cert-v01@openssh.com": 2,
    "ecdsa-sha2-nistp384-cert-v01@openssh.com": 2,
    "ecdsa-sha2-nistp521-cert-v01@openssh.com": 2,
    "sk-ssh-ed25519-cert-v01@openssh.com": 2,
    "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com": 3,
}
_CERTIFICATE = "-cert-v01@openssh.com"


class PublicKey:
    """One key that passed: its type and base64 text as sshd wrote them."""

    __slots__ = ("kind", "text")

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        self.text = text

    @property
    def is_certificate(self) -> bool:
        """Whether a certificate was used and not a plain key."""
        return self.kind.endswith(_CERTIFICATE)

    def identity(self) -> str:
        """What stays the same when a certificate is issued anew: the certified key and its CA; else the key itself.

        A certificate that is not understood stands for itself.
        """
        if self.is_certificate and self.kind in _KEY_FIELDS:
            try:
                return _certificate_identity(_decoded(self.text), _KEY_FIELDS[self.kind]).hex()
            except ValueError:
                pass
        return f"{self.kind} {self.text}"

    def fingerprint(self) -> str:
        """The SHA-256 fingerprint as ssh-keygen -l prints it."""
        import hashlib  # only hosts whose rules name keys pay for it

        digest = hashlib.sha256(_decoded(self.text)).digest()
        from binascii import b2a_base64

        return "SHA256:" + b2a_base64(digest, newline=False).decode("ascii").rstrip("=")


def parse(auth_info: str) -> list[PublicKey]:
    """The keys in lines ``publickey TYPE KEY``; other methods' lines are passed over."""
    words = (line.split() for line in auth_info.splitlines())
    return [PublicKey(each[1], each[2]) for each in words if len(each) >= 3 and each[0] == "publickey"]


def _decoded(text: str) -> bytes:
    from binascii import a2b_base64

    try:
        return a2b_base64(text)
    except ValueError:
        return text.encode("utf-8", "surrogateescape")


def _certificate_identity(blob: bytes, key_fields: int) -> bytes:
    kind, rest = _field(blob)
    _, rest = _field(rest)  # the nonce, new in every certificate
    key = b""
    for _ in range(key_fields):
        field, rest = _field(rest)
        key += len(field).to_bytes(4, "big") + field
    rest = rest[8 + 4 :]  # serial number and type
    for _ in range(2):  # key id, principals
        _, rest = _field(rest)
    rest = rest[8 + 8 :]  # valid after, valid before
    for _ in range(3):  # critical options, extensions, reserved
        _, rest = _field(rest)
    authority, _ = _field(rest)
    return len(kind).to_bytes(4, "big") + kind + key + authority


def _field(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        raise ValueError("not a certificate")
    return data[4 : 4 + size], data[4 + size :]
