"""Sealing, against libsodium's documented interface and Python's own BLAKE2b."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings, pwhash

from pam_totp.cache.seal import KEY_BYTES, Sealer, stamp
from pam_totp.errors import DamageError

if TYPE_CHECKING:
    from pam_totp.cache.seal import Use

KEY = bytes(range(KEY_BYTES))
SEALER = Sealer(KEY, "host one")
CONTEXT = st.lists(st.text(max_size=8), min_size=1, max_size=4)


@given(st.binary(max_size=300), CONTEXT)
def test_what_is_sealed_opens_in_its_context(plaintext: bytes, context: list[str]) -> None:
    sealed = SEALER.seal(plaintext, *context)
    assert SEALER.open(sealed, *context) == plaintext
    assert len(sealed) == 1 + 24 + len(plaintext) + 16


@given(CONTEXT, CONTEXT)
def test_it_opens_in_no_other_context(one: list[str], other: list[str]) -> None:
    if one != other:
        with pytest.raises(DamageError):
            SEALER.open(SEALER.seal(b"content", *one), *other)


@pytest.mark.parametrize("other", [Sealer(KEY, "host two"), Sealer(bytes(KEY_BYTES), "host one")])
def test_it_opens_with_no_other_key_and_on_no_other_host(other: Sealer) -> None:
    with pytest.raises(DamageError):
        other.open(SEALER.seal(b"content", "place"), "place")


def test_it_opens_with_no_bit_changed_and_no_byte_more_or_less() -> None:
    sealed = SEALER.seal(b"four", "place")
    changed = [sealed[:cut] for cut in range(len(sealed))] + [sealed + b"\0"]
    for position in range(len(sealed)):
        changed += [
            sealed[:position] + bytes([sealed[position] ^ 1 << bit]) + sealed[position + 1 :] for bit in range(8)
        ]
    messages = set()
    for each in changed:
        with pytest.raises(DamageError) as caught:
            SEALER.open(each, "place")
        messages.add(str(caught.value))
    assert len(messages) == 1  # nothing tells one cause from another


@pytest.mark.parametrize("value", [None, 5, "text", b"", b"\x01", b"\x01" + bytes(39), bytearray(b"\x01" * 60)])
def test_what_was_never_sealed_does_not_open(value: object) -> None:
    with pytest.raises(DamageError):
        SEALER.open(value, "place")


@pytest.mark.parametrize("part", [b"place", 5, None])
def test_it_does_not_open_where_its_place_is_no_text(part: object) -> None:
    with pytest.raises(DamageError):
        SEALER.open(SEALER.seal(b"content", "place"), part)  # type: ignore[arg-type]  # what a rotted type makes of it


def test_the_same_content_is_never_sealed_alike() -> None:
    assert len({SEALER.seal(b"content", "place")[:25] for _ in range(1000)}) == 1000


def test_each_sealing_has_a_stamp_of_its_own() -> None:
    sealed = SEALER.seal(b"content", "place")
    assert stamp(sealed) == sealed[1:25].hex() != stamp(SEALER.seal(b"content", "place"))
    for other in (None, "text", 7):
        assert stamp(other) == ""


def test_the_cipher_is_xchacha20_poly1305_with_each_part_of_its_place_authenticated() -> None:
    sealed = SEALER.seal(b"content", "secret", "zoë")
    parts = [b"host one", SEALER.token("key id", "0.1.0").encode(), b"secret", "zoë".encode()]
    place = b"\x01" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    nonce, ciphertext = sealed[1:25], sealed[25:]
    assert sealed[:1] == b"\x01"
    assert bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, place, nonce, KEY) == b"content"


@given(st.text())
def test_a_token_is_a_keyed_blake2b(text: str) -> None:
    naming = hashlib.blake2b(b"", digest_size=32, key=KEY, person=b"pam-totp naming ").digest()
    for use, key in (("account", naming), ("0.1.0", KEY)):
        expected = hashlib.blake2b(text.encode(), digest_size=16, key=key, person=b"pam-totp token  ")
        assert SEALER.token(text, use) == expected.hexdigest()  # type: ignore[arg-type]  # one of both


def test_it_opens_with_the_keys_of_before_and_seals_with_the_first() -> None:
    former, following = Sealer(KEY, "host one"), Sealer(bytes(KEY_BYTES), "host one")
    following.add(former)
    sealed = former.seal(b"content", "place")
    assert following.open(sealed, "place") == b"content"
    anew = following.resealed(sealed, "place")
    assert anew is not None
    assert following.resealed(anew, "place") is None
    assert Sealer(bytes(KEY_BYTES), "host one").open(anew, "place") == b"content"
    with pytest.raises(DamageError):
        former.open(anew, "place")


def test_before_a_value_is_given_up_it_is_asked_whether_there_are_other_keys() -> None:
    following = Sealer(bytes(KEY_BYTES), "host one")
    sealed = following.seal(b"content", "place")
    answers = [True, False]

    def renew() -> bool:
        sealer.become(following)
        return answers.pop(0)

    sealer = Sealer(KEY, "host one")
    sealer.renew = renew
    assert sealer.open(sealed, "place") == b"content"
    assert sealer.key_id == following.key_id
    with pytest.raises(DamageError):
        sealer.open(sealed, "elsewhere")
    assert answers == []


def test_no_two_uses_of_a_text_share_a_token() -> None:
    uses: list[Use] = ["account", "0.1.0", "source", "client", "invitation"]
    assert len({SEALER.token("alice", use) for use in uses}) == len(uses)
    assert SEALER.token("alice", "account") == SEALER.token("alice")


def test_a_token_says_nothing_without_the_key() -> None:
    assert SEALER.token("alice") != Sealer(bytes(KEY_BYTES), "host one").token("alice")


def test_a_slow_hash_is_argon2id() -> None:
    salt = bytes(range(16))
    expected = pwhash.argon2id.kdf(16, "käse".encode(), salt, opslimit=2, memlimit=16 << 20)
    assert SEALER.slow_hash("käse", salt) == expected
    assert SEALER.slow_hash("käse", bytes(16)) != expected


def test_without_memory_there_is_no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoMemory:
        @staticmethod
        def crypto_pwhash(*_: object) -> int:
            return -1

        @staticmethod
        def crypto_pwhash_alg_argon2id13() -> int:
            return 2

    monkeypatch.setattr("pam_totp.cache.seal.lib", NoMemory)
    with pytest.raises(MemoryError):
        SEALER.slow_hash("text", bytes(16))


def test_names_that_are_not_utf_8_can_be_sealed_for() -> None:
    assert SEALER.open(SEALER.seal(b"content", "zo\udceb"), "zo\udceb") == b"content"
    assert len(SEALER.token("zo\udceb")) == 32


def test_the_key_is_shown_nowhere() -> None:
    assert repr(SEALER) == str(SEALER) == "Sealer()"
    with pytest.raises(DamageError) as caught:
        SEALER.open(b"", "place")
    for text in (str(caught.value), repr(caught.value), repr(SEALER)):
        assert KEY.hex() not in text
        assert repr(KEY)[2:-1] not in text


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(bytes(size), "host")


def test_nothing_is_sealed_where_libsodium_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        @staticmethod
        def sodium_init() -> int:
            return -1

    monkeypatch.setattr("pam_totp.cache.seal.lib", Broken)
    with pytest.raises(RuntimeError):
        Sealer(KEY, "host")
