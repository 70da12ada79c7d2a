"""The public keys and certificates that sshd has verified in a login, as SSH_AUTH_INFO_0 lists them. Pure.

sshd hands a certificate on as it came, byte for byte, and reads it leniently. It is read strictly here, with one way to
write each key, so that no other spelling of a key escapes a rule that names it. What is not understood is unknown.
"""

from __future__ import annotations

# How a public key is written after its type: t a text, b bytes, m a number (RFC 4251, section 5; RFC 4253, section 6.6;
# RFC 5656; RFC 8709; OpenSSH's PROTOCOL.u2f). A certificate has the same fields (PROTOCOL.certkeys).
_FIELDS = {
    "ssh-ed25519": "b",
    "ssh-rsa": "mm",
    "ecdsa-sha2-nistp256": "tb",
    "ecdsa-sha2-nistp384": "tb",
    "ecdsa-sha2-nistp521": "tb",
    "sk-ssh-ed25519@openssh.com": "bt",
    "sk-ecdsa-sha2-nistp256@openssh.com": "tbt",
}
_CERTIFICATE = "-cert-v"
_VERSION = "-cert-v01@openssh.com"


class PublicKey:
    """One key that passed: its type and base64 text as sshd wrote them."""

    __slots__ = ("kind", "text")

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        self.text = text

    @property
    def is_certificate(self) -> bool:
        """Whether a certificate was used and not a plain key."""
        return _CERTIFICATE in self.kind

    def identity(self) -> str:
        """What stays the same when a certificate is issued anew: the certified key and its CA; else the key itself.

        A certificate that is not understood stands for itself.
        """
        if self.is_certificate:
            try:
                key, authority, _ = _certified(self.kind, _decoded(self.text))
                return (key + authority).hex()
            except ValueError:
                pass
        return f"{self.kind} {self.text}"

    def fingerprint(self) -> str | None:
        """The SHA-256 fingerprint as ssh-keygen -l prints it; of a certificate, that of the certified key.

        None where the key is not understood.
        """
        try:
            blob = _decoded(self.text)
            if self.is_certificate:
                return _fingerprint(_certified(self.kind, blob)[0])
            kind, _ = _field(blob)
        except ValueError:
            return None
        return _fingerprint(blob) if kind == self.kind.encode("utf-8", "surrogateescape") else None

    def authority(self) -> str | None:
        """The SHA-256 fingerprint of the CA key that has signed this certificate; None where it is not understood."""
        try:
            return _fingerprint(_certified(self.kind, _decoded(self.text))[1])
        except ValueError:
            return None

    def is_for(self, user: str) -> bool:
        """Whether this certificate names the user among those that it is for (its principals).

        sshd takes one for other names too, where AuthorizedPrincipalsFile or the user's own authorized_keys says so.
        """
        try:
            return user.encode("utf-8", "surrogateescape") in _certified(self.kind, _decoded(self.text))[2]
        except ValueError:
            return False


def parse(auth_info: str | None) -> list[PublicKey] | None:
    """The keys in lines ``publickey TYPE KEY``; other methods' lines are passed over.

    None where it is not known which keys passed: there is no report, not even an empty one, or such a line is cut.
    """
    if auth_info is None:
        return None
    # As sshd writes it: other methods tell what a client says of itself, and only a newline is kept out of that.
    lines = [words for line in auth_info.split("\n") if (words := line.split(" "))[0] == "publickey"]
    if any(len(words) < 3 or not (words[1] and words[2]) for words in lines):
        return None
    return [PublicKey(words[1], words[2]) for words in lines]


def _fingerprint(blob: bytes) -> str:
    import hashlib  # only hosts whose rules name keys pay for it
    from binascii import b2a_base64

    digest = hashlib.sha256(blob).digest()
    return "SHA256:" + b2a_base64(digest, newline=False).decode("ascii").rstrip("=")


def _decoded(text: str) -> bytes:
    from binascii import a2b_base64

    return a2b_base64(text, strict_mode=True)


def _certified(kind: str, blob: bytes) -> tuple[bytes, bytes, list[bytes]]:
    """The certified key and the CA's, both as plain keys are written, and the principals.

    Raises ValueError if it is not understood.
    """
    name, rest = _field(blob)
    _, rest = _field(rest)  # the nonce, new in every certificate
    if name != kind.encode("utf-8", "surrogateescape") or _VERSION not in kind:
        raise ValueError("not a certificate")
    # sk-ssh-ed25519-cert-v01@openssh.com is for sk-ssh-ed25519@openssh.com, ssh-ed25519-cert-... for ssh-ed25519.
    plain = kind.replace(_VERSION, "@openssh.com" if kind.startswith("sk-") else "")
    start = rest
    rest = _after_key(plain, rest)
    key = _string(plain.encode("ascii")) + start[: len(start) - len(rest)]
    rest = rest[8 + 4 :]  # serial number and type
    _, rest = _field(rest)  # the key id
    names, rest = _field(rest)
    principals = []
    while names:
        principal, names = _field(names)
        principals.append(principal)
    rest = rest[8 + 8 :]  # valid after, valid before
    for _ in range(3):  # critical options, extensions, reserved
        _, rest = _field(rest)
    authority, rest = _field(rest)
    _, rest = _field(rest)  # the signature
    name, fields = _field(authority)
    if rest or _after_key(name.decode("ascii"), fields):
        raise ValueError("something follows")
    return key, authority, principals


def _after_key(kind: str, data: bytes) -> bytes:
    """What follows the fields of a key of this type, each written the one right way. Raises ValueError."""
    if kind not in _FIELDS:
        raise ValueError("not a type of key")
    for form in _FIELDS[kind]:
        field, data = _field(data)
        # sshd takes a text that ends in NUL, and a number with zeros before it, for the one without.
        if (form == "t" and b"\0" in field) or (form == "m" and not _is_number(field)):
            raise ValueError("not a key")
    return data


def _is_number(field: bytes) -> bool:
    """Whether this is a positive number, without a zero byte that it does not need."""
    return bool(field) and field[0] < 0x80 and (field[0] > 0 or field[1:2] >= b"\x80")


def _string(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


def _field(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        raise ValueError("not a certificate")
    return data[4 : 4 + size], data[4 + size :]
