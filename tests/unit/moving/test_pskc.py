"""PSKC: figures of RFC 6030, containers of python-pskc, and what privacyIDEA makes of it."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pskc import PSKC

from pam_totp.moving import pskc
from pam_totp.moving.entries import Entry, FormatError, Refused

RAW = b"12345678901234567890"
TOTP = "urn:ietf:params:xml:ns:keyprov:pskc:totp"
PLAIN = f"""<?xml version="1.0" encoding="UTF-8"?>
<KeyContainer Version="1.0" xmlns="urn:ietf:params:xml:ns:keyprov:pskc">
  <KeyPackage>
    <DeviceInfo><SerialNo>987654321</SerialNo></DeviceInfo>
    <Key Id="12345678" Algorithm="{TOTP}">
      <Issuer>Issuer</Issuer>
      <UserId>alice</UserId>
      <AlgorithmParameters><ResponseFormat Length="6" Encoding="DECIMAL"/></AlgorithmParameters>
      <Data>
        <Secret><PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue></Secret>
        <TimeInterval><PlainValue>30</PlainValue></TimeInterval>
      </Data>
    </Key>
  </KeyPackage>
</KeyContainer>
"""
# The values of RFC 6030, section 6.1, figure 6, for a key that is timed and not counted.
FIGURE = """<KeyContainer xmlns="urn:ietf:params:xml:ns:keyprov:pskc" xmlns:xenc="http://www.w3.org/2001/04/xmlenc#"
  xmlns:ds="http://www.w3.org/2000/09/xmldsig#" Version="1.0">
  <EncryptionKey><ds:KeyName>Pre-shared-key</ds:KeyName></EncryptionKey>
  <MACMethod Algorithm="http://www.w3.org/2000/09/xmldsig#hmac-sha1"><MACKey>
    <xenc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>
    <xenc:CipherData><xenc:CipherValue>
      ESIzRFVmd4iZABEiM0RVZgKn6WjLaTC1sbeBMSvIhRejN9vJa2BOlSaMrR7I5wSX
    </xenc:CipherValue></xenc:CipherData>
  </MACKey></MACMethod>
  <KeyPackage>
    <DeviceInfo><SerialNo>987654321</SerialNo></DeviceInfo>
    <Key Id="12345678" Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:totp">
      <AlgorithmParameters><ResponseFormat Length="6" Encoding="DECIMAL"/></AlgorithmParameters>
      <Data><Secret>
        <EncryptedValue>
          <xenc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>
          <xenc:CipherData><xenc:CipherValue>
            AAECAwQFBgcICQoLDA0OD+cIHItlB3Wra1DUpxVvOx2lef1VmNPCMl8jwZqIUqGv
          </xenc:CipherValue></xenc:CipherData>
        </EncryptedValue>
        <ValueMAC>Su+NvtQfmvfJzF6bmQiJqoLRExc=</ValueMAC>
      </Secret></Data>
    </Key>
  </KeyPackage>
</KeyContainer>
"""
FIGURE_KEY = bytes.fromhex("12345678901234567890123456789012")
OWNERS = {"987654321": "alice"}


def parse(text: str, key: bytes = b"", passphrase: bytes = b"") -> list[Entry | Refused]:
    return pskc.parse(text.encode(), OWNERS, key, passphrase)


def only(text: str, key: bytes = b"", passphrase: bytes = b"") -> Entry:
    [found] = parse(text, key, passphrase)
    assert isinstance(found, Entry), found
    return found


def reason(text: str, key: bytes = b"") -> str:
    [found] = parse(text, key)
    assert isinstance(found, Refused)
    return found.reason


def of_python_pskc(**parts: object) -> PSKC:
    container = PSKC()
    fields: dict[str, object] = {
        "id": "1",
        "serial": "S1",
        "secret": RAW,
        "algorithm": TOTP,
        "key_userid": "UID=alice,O=x",
    }
    fields |= {"response_length": 6, "response_encoding": "DECIMAL", "time_interval": 30}
    container.add_key(**fields | parts)
    return container


def written(container: PSKC) -> str:
    file = io.BytesIO()
    container.write(file)
    return file.getvalue().decode()


def test_a_key_in_the_clear_is_read() -> None:
    found = only(PLAIN)
    assert (found.secret, found.names, found.label) == (RAW, ("alice",), "987654321")


def test_lower_case_as_privacyidea_writes_it_is_read() -> None:
    lower = PLAIN
    for word in (
        "KeyContainer",
        "KeyPackage",
        "DeviceInfo",
        "SerialNo",
        "Key ",
        "Key>",
        "UserId",
        "AlgorithmParameters",
    ):
        lower = lower.replace(word, word.lower())
    for word in ("ResponseFormat", "Data", "Secret", "PlainValue", "TimeInterval", "Length", "Algorithm="):
        lower = lower.replace(word, word.lower())
    assert only(lower.replace("</responseformat>", "")).secret == RAW


def test_the_values_of_the_rfc_open_with_its_key() -> None:
    found = only(FIGURE, FIGURE_KEY)
    assert (found.secret, found.names) == (RAW, ("alice",))


def test_another_key_opens_nothing() -> None:
    # A wrong key leaves the key of the MAC with a padding that is none, or with a MAC that is another.
    said = set()
    for last in range(0x13, 0x100):
        try:
            said.add(reason(FIGURE, bytes([*FIGURE_KEY[:15], last])))
        except FormatError as error:
            said.add(str(error))
    assert said == {
        "an encrypted value does not open: is it the right key?",
        "its MAC is wrong: another key, or the file was changed",
    }


def test_a_secret_that_was_changed_does_not_open() -> None:
    assert "its MAC is wrong" in reason(FIGURE.replace("OD+cIHItl", "OD+cIHItm"), FIGURE_KEY)
    assert "its MAC is wrong" in reason(FIGURE.replace("Su+Nvt", "Su+Nvs"), FIGURE_KEY)


def test_an_encrypted_secret_without_a_mac_is_refused() -> None:
    text = FIGURE.replace("<ValueMAC>Su+NvtQfmvfJzF6bmQiJqoLRExc=</ValueMAC>", "")
    assert reason(text, FIGURE_KEY) == "its secret is encrypted, but not authenticated (ValueMAC)"


def test_without_the_key_it_says_how_to_give_it() -> None:
    with pytest.raises(FormatError, match="--key-file"):
        parse(FIGURE)


@pytest.mark.parametrize("size", [16, 24, 32])
def test_a_container_of_python_pskc_with_a_pre_shared_key_is_read(size: int) -> None:
    container = of_python_pskc()
    container.encryption.setup_preshared_key(
        key=bytes(range(size)), algorithm=f"aes{size * 8}-cbc", key_name="ours", fields=["secret"]
    )
    assert only(written(container), bytes(range(size))).secret == RAW


@pytest.mark.parametrize("prf", ["hmac-sha1", "hmac-sha256"])
def test_a_container_of_python_pskc_with_a_passphrase_is_read(prf: str) -> None:
    container = of_python_pskc()
    container.encryption.setup_pbkdf2("qwerty", iterations=1000, key_length=32, algorithm="aes256-cbc", prf=prf)
    text = written(container)
    assert only(text, passphrase=b"qwerty").secret == RAW
    with pytest.raises(FormatError, match="--passphrase-file"):
        parse(text)


def test_what_encrypts_with_another_algorithm_is_refused_by_name() -> None:
    container = of_python_pskc()
    container.encryption.setup_preshared_key(key=bytes(range(24)), algorithm="tripledes-cbc", key_name="ours")
    with pytest.raises(FormatError, match="encryption with tripledes-cbc is not supported"):
        parse(written(container), bytes(range(24)))


def test_what_is_encrypted_for_a_certificate_is_refused_by_name() -> None:
    text = FIGURE.replace("<ds:KeyName>Pre-shared-key</ds:KeyName>", "<ds:X509Data/>")
    with pytest.raises(FormatError, match=r"not supported \(x509data\)"):
        parse(text, FIGURE_KEY)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("pskc:totp", "pskc:hotp", "codes are counted (HOTP), not timed"),
        ("pskc:totp", "pskc:pin", "it is pin"),
        ('Length="6"', 'Length="8"', "codes have 8 digits, not 6"),
        ('"DECIMAL"', '"HEXADECIMAL"', "codes are not decimal"),
        ('"DECIMAL"', '"DECIMAL" CheckDigits="true"', "codes have a check digit"),
        ("<PlainValue>30", "<PlainValue>60", "codes change every 60 s, not 30 s"),
        ("</AlgorithmP", "<Suite>HMAC-SHA256</Suite></AlgorithmP", "the hash is HMAC-SHA256, not SHA-1"),
        ("</AlgorithmP", '<Suite hashalgo="sha512"/></AlgorithmP', "the hash is sha512, not SHA-1"),
        ("<Data>", "<Policy><PINPolicy/></Policy><Data>", "it has a policy that would not be kept (pinpolicy)"),
        ("<UserId>alice</UserId>", "", ""),
        ("MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=", "MTIz", "the key has 3 bytes"),
        ("MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=", "%", "a value is not base64"),
        ("<PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue>", "", "its secret is not there"),
    ],
)
def test_what_is_not_supported_is_refused_with_the_reason(old: str, new: str, said: str) -> None:
    assert old in PLAIN
    text = PLAIN.replace(old, new)
    if not said:
        [found] = pskc.parse(text.encode(), {})
        assert isinstance(found, Refused)
        assert found.name == "987654321"
        assert "--owners" in found.reason
    else:
        assert reason(text).startswith(said)


@pytest.mark.parametrize(
    ("user", "names"),
    [
        ("alice@lab", ("alice@lab", "alice")),
        ("CN=Alice A,UID=alice, O=x", ("alice", "Alice A")),
        ("UID = alice", ("alice",)),
    ],
)
def test_a_user_id_can_be_a_distinguished_name(user: str, names: tuple[str, ...]) -> None:
    assert only(PLAIN.replace("<UserId>alice<", f"<UserId>{user}<")).names == names


@pytest.mark.parametrize("text", ["", "<a/>", "HOTP/T30 alice - 00", '<?xml version="1.0" encoding="none"?><a/>'])
def test_what_is_not_pskc_is_refused_as_a_whole(text: str) -> None:
    with pytest.raises(FormatError):
        parse(text)


def test_a_document_type_is_refused_before_any_entity_is_read() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>'
    with pytest.raises(FormatError, match="document type"):
        parse(PLAIN.replace('"UTF-8"?>', '"UTF-8"?>' + bomb).replace(">alice<", ">&c;<"))


@pytest.mark.parametrize("text", [FIGURE_KEY.hex(), "EjRWeJASNFZ4kBI0VniQEg=="])
def test_a_key_is_hexadecimal_or_base64(text: str) -> None:
    assert pskc.key_of(text) == FIGURE_KEY


@pytest.mark.parametrize("text", ["", "00", "not a key", "%"])
def test_something_else_is_no_key(text: str) -> None:
    assert pskc.key_of(text) is None


@given(st.data())
def test_whatever_a_file_holds_is_read_or_refused(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([PLAIN, FIGURE]))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    changed = text[:start] + data.draw(st.text(max_size=10)) + text[end:]
    try:
        found = pskc.parse(changed.encode("utf-8", "replace"), OWNERS, FIGURE_KEY)
    except FormatError:
        return
    assert all(isinstance(each, (Entry, Refused)) for each in found)
