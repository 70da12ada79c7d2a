"""PSKC, the Portable Symmetric Key Container (RFC 6030). Pure.

Keys in the clear, or encrypted with AES in CBC mode and authenticated, under a pre-shared key or a passphrase (sections
6.1 and 6.2). What else the RFC knows is refused by name. Elements and attributes are found in upper and lower case:
privacyIDEA writes them in lower case.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from xml.etree import ElementTree as ET

from pam_totp.moving.entries import (
    Entry,
    FormatError,
    NotSupportedError,
    Refused,
    local_names,
    number,
    require_totp,
    secret_of,
    shown,
)

_KEYPROV = re.compile(r"(?:urn:ietf:params:xml:ns:keyprov:pskc[:#])?(\w+)")
_CBC = re.compile(r"http://www\.w3\.org/2001/04/xmlenc#aes(128|192|256)-cbc")
_HMAC = re.compile(
    r"http://www\.w3\.org/(?:2000/09/xmldsig|2001/04/xmldsig-more)#hmac-(sha1|sha224|sha256|sha384|sha512)"
)
_PBKDF2 = re.compile(r"http://.*#pbkdf2")
_PRF = re.compile(r".*#?hmac-?(sha1|sha224|sha256|sha384|sha512)", re.IGNORECASE)
_MOST_ITERATIONS = 10_000_000
_KEY_SIZES = (16, 24, 32)
_BLOCK = 16

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn
    from xml.etree.ElementTree import Element


def parse(
    content: bytes, owners: Mapping[str, str], key: bytes = b"", passphrase: bytes = b""
) -> list[Entry | Refused]:
    """All keys, in order. ``owners`` names the users of serial numbers, for files that do not.

    ``key`` is the pre-shared key, as bytes of AES; ``passphrase`` that of a derived key.

    Raises FormatError: no PSKC, or encrypted in a way that is not supported, or with another key.
    """
    try:
        root = ET.fromstring(content, parser=ET.XMLParser(target=_Builder()))  # noqa: S314 - no DTD
    except (ET.ParseError, ValueError, LookupError):  # an encoding that there is not
        raise FormatError("the file is not XML: is it PSKC (RFC 6030)?") from None
    if _name(root) != "keycontainer":
        raise FormatError("the file is XML, but no KeyContainer of PSKC (RFC 6030)")
    vault = _Vault(root, key, passphrase)
    found: list[Entry | Refused] = []
    packages = [each for each in root if _name(each) == "keypackage"]
    for place, package in enumerate(packages, 1):
        where = f"key {place}"
        serial = _text(package, "deviceinfo", "serialno") or _attribute(_child(package, "key"), "id")
        user = _text(package, "key", "userid") or _text(package, "deviceinfo", "userid") or owners.get(serial, "")
        try:
            found.append(_entry(where, package, serial, user, vault))
        except NotSupportedError as error:
            found.append(Refused(where, shown(user or serial), str(error)))
    return found


def key_of(text: str) -> bytes | None:
    """A key of AES in hexadecimal or base64; None where it is none."""
    for decode in (bytes.fromhex, _unbase64):
        try:
            key = decode(text)
        except (ValueError, NotSupportedError):
            continue
        if len(key) in _KEY_SIZES:
            return key
    return None


class _Builder(ET.TreeBuilder):
    """Refuses document types: with them come entities, which can be huge or name other files."""

    def doctype(self, *_: object) -> NoReturn:
        raise FormatError("the file has a document type, which PSKC has not")


class _Vault:
    """What opens the encrypted values of one file."""

    def __init__(self, root: Element, key: bytes, passphrase: bytes) -> None:
        self._key = b""
        self._mac_key = b""
        self._mac = "sha1"
        encryption = _child(root, "encryptionkey")
        if encryption is None:
            return
        derived = _child(encryption, "derivedkey")
        if derived is not None:
            self._key = _derived(derived, passphrase)
        elif _child(encryption, "keyname") is not None or not len(encryption):
            if len(key) not in _KEY_SIZES:
                raise FormatError("its keys are encrypted with a pre-shared key: give it with --key-file")
            self._key = key
        else:
            kinds = ", ".join(_name(each) for each in encryption) or "nothing"
            raise FormatError(f"its keys are encrypted in a way that is not supported ({shown(kinds)})")
        method = _child(root, "macmethod")
        if method is None:
            return
        algorithm = _HMAC.fullmatch(_attribute(method, "algorithm"))
        if algorithm is None:
            raise FormatError("its MAC is not HMAC with SHA-1 or SHA-2")
        self._mac = algorithm[1]
        wrapped = _child(method, "mackey")
        # Section 6.1.1: without a key of its own, the MAC's is that of the encryption.
        try:
            self._mac_key = self._key if wrapped is None else self._decrypted(wrapped)[0]
        except NotSupportedError as error:
            raise FormatError(f"{error}: is it the right key?") from None

    def secret(self, element: Element) -> bytes:
        """The value of a ``Secret`` element. Raises NotSupportedError."""
        if _child(element, "plainvalue") is not None:
            return _unbase64(_text(element, "plainvalue"))
        encrypted = _child(element, "encryptedvalue")
        if encrypted is None or not self._key:
            raise NotSupportedError("its secret is not there")
        if not self._mac_key or _child(element, "valuemac") is None:
            raise NotSupportedError("its secret is encrypted, but not authenticated (ValueMAC)")
        # The MAC is over the ciphertext: nothing is made of what somebody has changed.
        value, ciphertext = self._decrypted(encrypted, _unbase64(_text(element, "valuemac")))
        del ciphertext
        return value

    def _decrypted(self, element: Element, mac: bytes | None = None) -> tuple[bytes, bytes]:
        method = _attribute(_child(element, "encryptionmethod"), "algorithm")
        size = _CBC.fullmatch(method)
        if size is None:
            raise NotSupportedError(f"encryption with {shown(method.rpartition('#')[2] or 'nothing')} is not supported")
        if int(size[1]) != len(self._key) * 8:
            raise NotSupportedError(f"it is encrypted with a key of {size[1]} bits, and this one has another size")
        ciphertext = _unbase64(_text(element, "cipherdata", "ciphervalue"))
        if mac is not None and not hmac.compare_digest(hmac.new(self._mac_key, ciphertext, self._mac).digest(), mac):
            raise NotSupportedError("its MAC is wrong: another key, or the file was changed")
        return _aes_cbc(self._key, ciphertext), ciphertext


def _entry(where: str, package: Element, serial: str, user: str, vault: _Vault) -> Entry:
    key = _child(package, "key")
    if key is None:
        raise NotSupportedError("there is no key")
    kind = _KEYPROV.fullmatch(_attribute(key, "algorithm").lower())
    if kind is None or kind[1] != "totp":
        what = kind[1] if kind else _attribute(key, "algorithm") or "nothing"
        raise NotSupportedError("codes are counted (HOTP), not timed" if what == "hotp" else f"it is {shown(what)}")
    parameters = _child(key, "algorithmparameters")
    form = _child(parameters, "responseformat")
    suite = _child(parameters, "suite")
    if (_attribute(form, "encoding") or "DECIMAL").upper() != "DECIMAL":
        raise NotSupportedError("codes are not decimal")
    if _attribute(form, "checkdigits").lower() in ("true", "1"):
        raise NotSupportedError("codes have a check digit")
    data = _child(key, "data")
    require_totp(
        _attribute(suite, "hashalgo") or _text(suite) or "SHA1",
        number(_attribute(form, "length") or "6", "the length of a code"),
        number(_text(data, "timeinterval", "plainvalue") or "30", "the interval"),
    )
    policy = [_name(each) for each in _child(key, "policy") or () if _name(each) != "keyusage"]
    if policy:
        raise NotSupportedError(f"it has a policy that would not be kept ({shown(', '.join(policy))})")
    secret = _child(data, "secret")
    names = _names(user)
    if secret is None:
        raise NotSupportedError("its secret is not there")
    value = secret_of(vault.secret(secret))
    if not names:
        raise NotSupportedError("it does not say whose it is: name the owners of serial numbers with --owners")
    return Entry(where, names, value, label=serial)


def _names(user: str) -> list[str]:
    """The names that a user may have: a UserId is a distinguished name, or is used as if it were a plain one."""
    if "=" not in user:
        return local_names(user)
    parts = [part.strip().partition("=") for part in user.split(",")]
    return [value.strip() for kind in ("uid", "cn") for key, _, value in parts if key.strip().lower() == kind]


def _derived(element: Element, passphrase: bytes) -> bytes:
    """The key of a passphrase, by PBKDF2 (section 6.2). Raises FormatError."""
    method = _child(element, "keyderivationmethod")
    if not _PBKDF2.fullmatch(_attribute(method, "algorithm")):
        raise FormatError("its key is derived in another way than by PBKDF2")
    if not passphrase:
        raise FormatError("its keys are encrypted with a passphrase: give it with --passphrase-file")
    parameters = _child(method, "pbkdf2-params")
    said = _attribute(_child(parameters, "prf"), "algorithm") or _text(parameters, "prf")
    prf = _PRF.fullmatch(said or "hmac-sha1")
    try:
        salt = _unbase64(_text(parameters, "salt", "specified"))
        rounds = number(_text(parameters, "iterationcount"), "the number of rounds", least=1, most=_MOST_ITERATIONS)
        length = number(_text(parameters, "keylength"), "the length of the key")
    except NotSupportedError as error:
        raise FormatError(f"its key cannot be derived: {error}") from None
    if prf is None or length not in _KEY_SIZES:
        raise FormatError("its key cannot be derived: the parameters are not supported")
    return hashlib.pbkdf2_hmac(prf[1].lower(), passphrase, salt, rounds, length)


def _aes_cbc(key: bytes, ciphertext: bytes) -> bytes:
    """The plaintext; the first block is the initialisation vector. Raises NotSupportedError, or FormatError."""
    try:
        # Late, because it is needed for this alone, and Debian's package need not be there.
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError:
        raise FormatError("encrypted PSKC needs a package: apt-get install python3-cryptography") from None
    vector, blocks = ciphertext[:_BLOCK], ciphertext[_BLOCK:]
    if not blocks or len(blocks) % _BLOCK:
        raise NotSupportedError("an encrypted value has a wrong length")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
    plaintext = decryptor.update(blocks) + decryptor.finalize()
    padding = plaintext[-1]
    if not 1 <= padding <= _BLOCK:
        raise NotSupportedError("an encrypted value does not open")
    return plaintext[:-padding]


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:  # binascii.Error is one
        raise NotSupportedError("a value is not base64") from None


def _name(element: Element) -> str:
    """The name without its namespace, in lower case; none for a comment."""
    return element.tag.rpartition("}")[2].rpartition(":")[2].lower() if isinstance(element.tag, str) else ""


def _child(element: Element | None, name: str) -> Element | None:
    return next((each for each in element if _name(each) == name), None) if element is not None else None


def _text(element: Element | None, *path: str) -> str:
    for name in path:
        element = _child(element, name)
    return (element.text or "").strip() if element is not None else ""


def _attribute(element: Element | None, name: str) -> str:
    attributes = element.attrib if element is not None else {}
    return next((value.strip() for key, value in attributes.items() if key.rpartition("}")[2].lower() == name), "")
