"""What a directory publishes: built, read again, and handed in by somebody hostile."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl import bindings

from pam_totp.errors import FleetError
from pam_totp.fleet import tree
from pam_totp.fleet.tree import Authenticator, Enrolment, JoinToken, Manifest, Policy, Record, Recovery

if TYPE_CHECKING:
    from collections.abc import Callable

DIRECTORY, HOST, OTHER = "d" * 32, "a" * 32, "b" * 32
SEED, KEY = tree.new_signing_key()
PRIVATE, PUBLIC = tree.new_box_key()
HASHES = tuple(sorted(tree.digest(bytes([each])) for each in range(3)))
BUNDLED = {tree.digest(each): each for each in (b"one", b"two" * 99, b"three")}
BUNDLE, DROPPED = tree.bundle_name(BUNDLED), tuple(sorted(BUNDLED)[1:])
MANIFEST = Manifest(
    DIRECTORY, HOST, 2, 7, 1_700_000_000, 1_700_100_000, tree.digest(b"policy"), HASHES, BUNDLE, DROPPED
)
PHONE = Authenticator("1" * 32, "phone", 1_700_000_000, bytes(range(20)))
RECORD = Record(
    "alice", (PHONE,), Recovery("5" * 32, ("6" * 32, "7" * 32)), True, 1_800_000_000, 1_900_000_000, True, 1_600_000_000
)
POLICY = Policy("deny", 30, 86_400, ("root", "rescue"), False, False)
# What JSON can hold, and what no field takes.
WRONG: list[Any] = [
    None,
    True,
    -1,
    0,
    1.0,
    1e300,
    1 << 53,
    1 << 4000,
    "",
    "x",
    "é" * 300,
    [],
    [None],
    [[]],
    {},
    {"a": {}},
]


def refused(why: str, call: Callable[..., object], *arguments: Any) -> None:
    with pytest.raises(FleetError) as caught:
        call(*arguments)
    assert caught.value.reason == f"fleet-{why}", caught.value.reason


def payload(manifest: Manifest = MANIFEST) -> dict[str, Any]:
    loaded = json.loads(tree.sign_manifest(manifest, SEED).partition(b"\n")[2])
    assert isinstance(loaded, dict)
    return loaded


def signed(content: bytes) -> bytes:
    """A payload that is signed, whatever it is."""
    signature = bindings.crypto_sign(b"pam-totp manifest 1\n" + content, SEED + KEY)[:64]
    return b"pam-totp-manifest 1 " + base64.urlsafe_b64encode(signature).rstrip(b"=") + b"\n" + content


def spelled(fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def box(fields: Any, key: bytes = PUBLIC) -> bytes:
    """A sealed box with any content, padded."""
    content = (fields if isinstance(fields, bytes) else spelled(fields)) + b"\x80"
    return bytes(bindings.crypto_box_seal(content + bytes(-len(content) % 64), key))


def unboxed(content: bytes) -> dict[str, Any]:
    plain = bindings.crypto_box_seal_open(content, PUBLIC, PRIVATE)
    loaded = json.loads(plain.rstrip(b"\0")[:-1])
    assert isinstance(loaded, dict)
    return loaded


# Manifests


def test_a_manifest_is_read_as_it_was_signed() -> None:
    assert tree.open_manifest(tree.sign_manifest(MANIFEST, SEED), KEY) == MANIFEST
    closed = dataclasses.replace(MANIFEST, policy=None, records=(), bundle=None, dropped=(), previous_epoch_closed=12)
    assert tree.open_manifest(tree.sign_manifest(closed, SEED), KEY) == closed


def test_its_first_line_is_the_signature_over_the_payload_by_ed25519() -> None:
    head, _, content = tree.sign_manifest(MANIFEST, SEED).partition(b"\n")
    signature = base64.urlsafe_b64decode(head.removeprefix(b"pam-totp-manifest 1 ") + b"==")
    assert bindings.crypto_sign_open(signature + b"pam-totp manifest 1\n" + content, KEY)
    assert content == spelled(payload())


def test_each_flipped_bit_of_a_manifest_is_noticed() -> None:
    content = tree.sign_manifest(MANIFEST, SEED)
    for place in range(len(content)):
        for bit in range(8):
            broken = bytearray(content)
            broken[place] ^= 1 << bit
            with pytest.raises(FleetError):
                tree.open_manifest(bytes(broken), KEY)


def test_each_truncated_and_each_longer_manifest_is_noticed() -> None:
    content = tree.sign_manifest(MANIFEST, SEED)
    for size in range(len(content)):
        with pytest.raises(FleetError):
            tree.open_manifest(content[:size], KEY)
    for more in (b"\n", b" ", b"\0", content):
        with pytest.raises(FleetError):
            tree.open_manifest(content + more, KEY)


def test_a_manifest_of_somebody_else_is_refused() -> None:
    other, _ = tree.new_signing_key()
    refused("signature", tree.open_manifest, tree.sign_manifest(MANIFEST, other), KEY)


def test_a_signature_counts_for_a_manifest_only() -> None:
    content = spelled(payload())
    bare = bindings.crypto_sign(content, SEED + KEY)[:64]
    text = b"pam-totp-manifest 1 " + base64.urlsafe_b64encode(bare).rstrip(b"=") + b"\n" + content
    refused("signature", tree.open_manifest, text, KEY)


def test_a_huge_manifest_is_refused_before_it_is_looked_at() -> None:
    refused("size", tree.open_manifest, bytes(tree.MANIFEST_LIMIT + 1), KEY)


def test_a_later_format_is_refused() -> None:
    content = tree.sign_manifest(MANIFEST, SEED).replace(b"manifest 1", b"manifest 2", 1)
    refused("format", tree.open_manifest, content, KEY)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b"\xff",
        b'"\\ud800"',
        b"NaN",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5000,
        spelled(payload()).replace(b",", b", ", 1),
        spelled(payload()).replace(b'"epoch":2', b'"epoch":2,"epoch":2'),
        spelled(payload()).replace(b'"epoch":2', b'"epoch":2.0'),
        spelled(payload()).replace(b'"epoch":2', b'"epoch":1e999'),
        spelled(payload()) + b"\n",
    ],
)
def test_what_is_signed_and_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(FleetError) as caught:
        tree.open_manifest(signed(content), KEY)
    assert caught.value.reason in ("fleet-format", "fleet-content")


@pytest.mark.parametrize("name", sorted(payload()))
def test_each_field_of_a_manifest_has_its_type_and_has_to_be_there(name: str) -> None:
    for value in [*WRONG, "A" * 32, "A" * 64, [HASHES[0]] * 2, list(reversed(HASHES))]:
        allowed: dict[str, list[Any]] = {"policy": [None], "records": [[]], "dropped": [[]], "issued": [0]}
        good = allowed.get(name, [])
        if any(value is each or (type(value) is type(each) and value == each) for each in good):
            continue
        with pytest.raises(FleetError):
            tree.open_manifest(signed(spelled(payload() | {name: value})), KEY)
    refused("content", tree.open_manifest, signed(spelled({k: v for k, v in payload().items() if k != name})), KEY)


def test_what_is_not_understood_is_refused() -> None:
    refused("content", tree.open_manifest, signed(spelled(payload() | {"restriction": 1})), KEY)


def test_a_manifest_that_contradicts_itself_is_refused() -> None:
    for wrong in (
        {"policy": HASHES[0]},
        {"policy": BUNDLE},
        {"policy": DROPPED[0]},
        {"bundle": HASHES[0]},
        {"bundle": None},
        {"bundle": DROPPED[0]},
        {"dropped": [HASHES[0]]},
    ):
        refused("content", tree.open_manifest, signed(spelled(payload() | wrong)), KEY)
    refused("content", tree.open_manifest, signed(spelled(payload() | {"expires": 1})), KEY)
    refused("records", tree.open_manifest, signed(spelled(payload() | {"records": [HASHES[1], HASHES[0]]})), KEY)
    refused("records", tree.open_manifest, signed(spelled(payload() | {"dropped": DROPPED[::-1]})), KEY)


def test_no_manifest_is_signed_that_no_host_would_take() -> None:
    refused("records", tree.sign_manifest, dataclasses.replace(MANIFEST, records=HASHES[::-1]), SEED)
    refused("content", tree.sign_manifest, dataclasses.replace(MANIFEST, sequence=0), SEED)


# Order


def placed(epoch: int, sequence: int, last: tuple[int, int, str] | None, digest: str = "x") -> str:
    return tree.order(dataclasses.replace(MANIFEST, epoch=epoch, sequence=sequence), digest, DIRECTORY, HOST, last)


def test_a_manifest_follows_the_last_one_or_begins_an_epoch() -> None:
    assert placed(1, 1, None) == "epoch"
    assert placed(2, 8, (2, 7, "y")) == "next"
    assert placed(2, 7, (2, 7, "x")) == "same"
    assert placed(3, 1, (2, 7, "y")) == "epoch"


def test_a_replayed_manifest_is_refused() -> None:
    refused("sequence", placed, 2, 6, (2, 7, "y"))
    refused("epoch", placed, 1, 99, (2, 7, "y"))


def test_two_manifests_of_one_number_are_refused() -> None:
    refused("sequence", placed, 2, 7, (2, 7, "y"))


def test_a_foreign_manifest_is_refused() -> None:
    refused("directory", tree.order, MANIFEST, "x", OTHER, HOST, None)
    refused("host", tree.order, MANIFEST, "x", DIRECTORY, OTHER, None)


# Bundles


def test_a_bundle_is_told_by_the_hashes_of_what_is_in_it() -> None:
    content = tree.bundle(BUNDLED)
    assert tree.unbundle(content, BUNDLE) == BUNDLED
    assert tree.bundle_name(sorted(BUNDLED, reverse=True)) == BUNDLE
    assert tree.digest("".join(sorted(BUNDLED)).encode()) != BUNDLE
    # In whatever order, and however often: it is what it says.
    for names in (sorted(BUNDLED, reverse=True), [*BUNDLED, *BUNDLED]):
        again = b"".join(len(BUNDLED[name]).to_bytes(4, "big") + BUNDLED[name] for name in names)
        assert tree.unbundle(again, BUNDLE) == BUNDLED


def test_a_bundle_that_is_short_other_or_too_large_is_refused() -> None:
    content = tree.bundle(BUNDLED)
    for end in range(len(content)):
        with pytest.raises(FleetError):
            tree.unbundle(content[:end], BUNDLE)
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 1
        with pytest.raises(FleetError):
            tree.unbundle(bytes(broken), BUNDLE)
    refused("hash", tree.unbundle, content + tree.bundle({"": b"more"}), BUNDLE)
    for wrong in (bytes(4), b"\xff" * 9, tree.bundle({"": bytes(tree.OBJECT_LIMIT + 1)})):
        refused("format", tree.unbundle, wrong, BUNDLE)
    refused("size", tree.unbundle, bytes(tree.BUNDLE_LIMIT + 1), BUNDLE)


@given(st.binary(max_size=200))
def test_rubbish_is_no_bundle(content: bytes) -> None:
    with pytest.raises(FleetError):
        tree.unbundle(content, BUNDLE)


def test_in_force_is_what_is_bundled_and_not_dropped_and_what_is_by_itself() -> None:
    assert MANIFEST.in_force(BUNDLED) == {min(BUNDLED), *HASHES}
    assert dataclasses.replace(MANIFEST, bundle=None, dropped=()).in_force(()) == set(HASHES)
    assert set(MANIFEST.files) == {MANIFEST.policy, BUNDLE, *HASHES}


def test_a_manifest_that_does_not_go_with_its_bundle_is_refused() -> None:
    refused("records", MANIFEST.in_force, set(BUNDLED) - {DROPPED[0]})
    refused("records", MANIFEST.in_force, {*BUNDLED, HASHES[0]})


# Objects


def test_an_object_is_told_by_its_hash() -> None:
    tree.check_object(b"content", tree.digest(b"content"))
    refused("hash", tree.check_object, b"content", tree.digest(b"other"))
    refused("size", tree.check_object, bytes(tree.OBJECT_LIMIT + 1), "")


def test_a_record_and_a_policy_are_read_as_they_were_sealed() -> None:
    assert tree.open_record(tree.seal_record(RECORD, HOST, PUBLIC), HOST, PRIVATE) == RECORD
    bare = Record("bob")
    assert tree.open_record(tree.seal_record(bare, HOST, PUBLIC), HOST, PRIVATE) == bare
    assert tree.open_policy(tree.seal_policy(POLICY, HOST, PUBLIC), HOST, PRIVATE) == POLICY


def test_the_size_of_an_object_tells_little() -> None:
    sizes = {len(tree.seal_record(Record("a" * count), HOST, PUBLIC)) for count in range(1, 60)}
    assert len(sizes) <= 2
    assert {(size - 48) % 64 for size in sizes} == {0}


def test_neither_a_secret_nor_a_hash_is_in_an_object_or_in_what_is_shown() -> None:
    sealed = tree.seal_record(RECORD, HOST, PUBLIC)
    assert PHONE.secret not in sealed
    assert b"alice" not in sealed
    enrolment = Enrolment(HOST, "alice", "1" * 32, "phone", PHONE.secret)
    token = JoinToken(DIRECTORY, KEY, "", base64.urlsafe_b64encode(KEY).decode().rstrip("="))
    shown = f"{RECORD!r} {PHONE!r} {enrolment!r} {token!r}"
    assert repr(PHONE.secret) not in shown
    assert "6" * 32 not in shown
    assert token.secret not in shown


def test_each_flipped_byte_of_an_object_is_noticed() -> None:
    content = tree.seal_record(RECORD, HOST, PUBLIC)
    for place in range(len(content)):
        broken = bytearray(content)
        broken[place] ^= 1 + place % 255
        refused("seal", tree.open_record, bytes(broken), HOST, PRIVATE)


def test_each_truncated_object_is_noticed() -> None:
    content = tree.seal_policy(POLICY, HOST, PUBLIC)
    for size in range(len(content)):
        refused("seal", tree.open_policy, content[:size], HOST, PRIVATE)
    refused("seal", tree.open_policy, content + b"\0", HOST, PRIVATE)
    refused("size", tree.open_policy, bytes(tree.OBJECT_LIMIT + 1), HOST, PRIVATE)


def test_a_foreign_object_is_refused() -> None:
    refused("host", tree.open_record, tree.seal_record(RECORD, OTHER, PUBLIC), HOST, PRIVATE)
    stranger, theirs = tree.new_box_key()
    assert tree.public_box_key(stranger) == theirs
    refused("seal", tree.open_record, tree.seal_record(RECORD, HOST, theirs), HOST, PRIVATE)


def test_a_policy_is_no_record_and_a_record_no_policy() -> None:
    refused("kind", tree.open_record, tree.seal_policy(POLICY, HOST, PUBLIC), HOST, PRIVATE)
    refused("kind", tree.open_policy, tree.seal_record(RECORD, HOST, PUBLIC), HOST, PRIVATE)
    for wrong in (True, 2, "1", None, 1.0):
        fields = unboxed(tree.seal_record(RECORD, HOST, PUBLIC)) | {"format": wrong}
        refused("kind", tree.open_record, box(fields), HOST, PRIVATE)


@pytest.mark.parametrize("content", [b"", b"\x80", b"{}", bytes(64), b"{}\x80" + bytes(61 + 64), b"{}\x81" + bytes(61)])
def test_what_is_not_padded_as_it_has_to_be_is_refused(content: bytes) -> None:
    sealed = bytes(bindings.crypto_box_seal(content, PUBLIC))
    refused("format", tree.open_record, sealed, HOST, PRIVATE)


GOOD_IN_A_RECORD: dict[str, list[Any]] = {
    "name": ["x"],
    "authenticators": [[]],
    "recovery": [None],
    "locked": [True],
    "must_enroll": [True],
    "exempt_until": [None, 0],
    "deadline": [None, 0],
    "forget_before": [None, 0],
}
GOOD_IN_A_POLICY: dict[str, list[Any]] = {"max_offline": [None], "break_glass": [[]], "claims": [True], "mfa": [True]}


@pytest.mark.parametrize("name", sorted(GOOD_IN_A_RECORD))
def test_each_field_of_a_record_has_its_type_and_has_to_be_there(name: str) -> None:
    fields = unboxed(tree.seal_record(RECORD, HOST, PUBLIC))
    for value in [*WRONG, "a/b", "a:b", "a\tb", "a\nb", "\ud800", [PHONE.identifier]]:
        if any(type(value) is type(good) and value == good for good in GOOD_IN_A_RECORD[name]):
            continue
        with pytest.raises(FleetError):
            tree.open_record(box(json.dumps(fields | {name: value}, sort_keys=True).encode()), HOST, PRIVATE)
        if value != "\ud800":
            with pytest.raises(FleetError):
                tree.open_record(box(fields | {name: value}), HOST, PRIVATE)
    refused("content", tree.open_record, box({k: v for k, v in fields.items() if k != name}), HOST, PRIVATE)


@pytest.mark.parametrize("name", sorted(vars(POLICY)))
def test_each_field_of_a_policy_has_its_type_and_has_to_be_there(name: str) -> None:
    fields = unboxed(tree.seal_policy(POLICY, HOST, PUBLIC))
    for value in [*WRONG, 59 if name == "max_offline" else 366, ["a/b"], ["x"] * 65]:
        if any(type(value) is type(good) and value == good for good in GOOD_IN_A_POLICY.get(name, [])):
            continue
        with pytest.raises(FleetError):
            tree.open_policy(box(fields | {name: value}), HOST, PRIVATE)
    refused("content", tree.open_policy, box({k: v for k, v in fields.items() if k != name}), HOST, PRIVATE)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "1" * 31},
        {"id": "A" * 32},
        {"label": ""},
        {"label": "a:b"},
        {"label": "x" * 33},
        {"created": -1},
        {"created": True},
        {"state": "pending"},
        {"secret": ""},
        {"secret": base64.b64encode(bytes(19)).decode()},
        {"secret": base64.b64encode(bytes(65)).decode()},
        {"secret": base64.b64encode(bytes(20)).decode() + "\n"},
        {"secret": base64.b64encode(bytes(20)).decode().replace("=", "")},
        {"secret": "A" * 26 + "B="},  # bits that no byte has
        {"secret": 20 * [0]},
        {"more": 1},
    ],
)
def test_an_authenticator_that_is_not_one_is_refused(change: dict[str, Any]) -> None:
    fields = unboxed(tree.seal_record(RECORD, HOST, PUBLIC))
    fields["authenticators"][0] |= change
    refused("content", tree.open_record, box(fields), HOST, PRIVATE)


@pytest.mark.parametrize(
    "recovery",
    [
        {},
        {"salt": "5" * 32},
        {"salt": "5", "hashes": []},
        {"salt": 1, "hashes": []},
        {"salt": "5" * 32, "hashes": ["7"]},
        {"salt": "5" * 32, "hashes": ["7" * 32] * 21},
    ],
)
def test_recovery_codes_that_are_none_are_refused(recovery: dict[str, Any]) -> None:
    fields = unboxed(tree.seal_record(RECORD, HOST, PUBLIC)) | {"recovery": recovery}
    refused("content", tree.open_record, box(fields), HOST, PRIVATE)


def test_nothing_is_sealed_that_no_host_would_take() -> None:
    refused("content", tree.seal_record, Record("a/b"), HOST, PUBLIC)
    refused("content", tree.seal_record, Record("bob", (PHONE,) * 17), HOST, PUBLIC)
    refused("content", tree.seal_record, Record("\ud800"), HOST, PUBLIC)
    refused("content", tree.seal_policy, Policy(enrolment_days=0), HOST, PUBLIC)
    refused("content", tree.seal_enrolment, Enrolment(HOST, "alice", "1" * 32, "phone", b"short"), PUBLIC)


def test_the_largest_record_fits() -> None:
    many = tuple(Authenticator(f"{each:032x}", "é" * 32, 1 << 52, bytes(64)) for each in range(16))
    codes = Recovery("5" * 32, ("7" * 32,) * 20)
    largest = Record("n" * 256, many, codes, True, 1 << 52, 1 << 52, True, 1 << 52)
    assert tree.open_record(tree.seal_record(largest, HOST, PUBLIC), HOST, PRIVATE) == largest
    policy = Policy("enroll", 365, 86_400, tuple("n" * 200 for _ in range(64)))
    assert tree.open_policy(tree.seal_policy(policy, HOST, PUBLIC), HOST, PRIVATE) == policy


def test_records_that_share_a_name_or_an_authenticator_do_not_go_together() -> None:
    tree.check_together([RECORD, Record("bob")])
    refused("records", tree.check_together, [RECORD, Record("alice")])
    refused("records", tree.check_together, [RECORD, Record("bob", (PHONE,))])


@given(st.binary(max_size=300))
def test_any_content_of_a_sealed_box_opens_or_is_refused(content: bytes) -> None:
    for open_it in (tree.open_record, tree.open_policy, tree.open_enrolment):
        with pytest.raises(FleetError):
            open_it(box(content), HOST, PRIVATE)


# What a host hands up


def test_an_enrolment_is_read_as_it_was_sealed_and_for_the_host_that_handed_it_up() -> None:
    enrolment = Enrolment(HOST, "alice", "1" * 32, "phone", PHONE.secret)
    sealed = tree.seal_enrolment(enrolment, PUBLIC)
    assert tree.open_enrolment(sealed, HOST, PRIVATE) == enrolment
    refused("host", tree.open_enrolment, sealed, OTHER, PRIVATE)
    refused("kind", tree.open_enrolment, tree.seal_record(RECORD, HOST, PUBLIC), HOST, PRIVATE)


# Join tokens

TOKEN = JoinToken(DIRECTORY, KEY, "c" * 64, base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("="))


def test_a_join_token_is_read_as_it_was_written() -> None:
    text = tree.token_text(TOKEN)
    assert text.startswith("ptj1.")
    assert "\n" not in text
    assert tree.parse_token(f" {text}\n") == TOKEN
    bare = dataclasses.replace(TOKEN, ca="")
    assert tree.parse_token(tree.token_text(bare)) == bare


def test_what_is_no_join_token_is_refused_and_not_shown() -> None:
    text = tree.token_text(TOKEN)
    wrong = [text[:size] for size in range(len(text))]
    wrong += [text + "A", text.replace("ptj1", "ptj2"), "é" + text, text + "\0", "ptj1." + "A" * 5000, "ptj1.é"]
    changes: list[Any] = [{}, [], {"d": 1}, {"c": None}, {"k": "AAAA"}, {"t": "AAAA"}, {"more": 1}]
    for fields in changes:
        good = json.loads(base64.urlsafe_b64decode(text[5:] + "=="))
        content = spelled(good | fields if isinstance(fields, dict) and fields else fields)
        wrong.append("ptj1." + base64.urlsafe_b64encode(content).decode().rstrip("="))
    for each in wrong:
        with pytest.raises(FleetError) as caught:
            tree.parse_token(each)
        assert caught.value.reason == "bad-token"
        assert TOKEN.secret not in str(caught.value)
