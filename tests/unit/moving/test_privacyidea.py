"""What privacyIDEA's pi-token-janitor exports as YAML and CSV."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pam_totp.moving import privacyidea
from pam_totp.moving.entries import Entry, FormatError, Refused

RAW = b"12345678901234567890"
CSV = f"alice@realm1, TOTP0001, {RAW.hex()}, totp, 6, 30"


def token(**other: Any) -> dict[str, Any]:
    """A token as version 3.11 writes it (``_to_dict`` and the owner)."""
    fields = {
        "_hashed_pin": "$argon2id$v=19$m=1,t=1,p=1$c29tZXNhbHQ$eA",
        "active": True,
        "counter": 58_000_001,
        "description": "",
        "failcount": 0,
        "info_list": {"hashlib": "sha1", "timeShift": "-61", "timeStep": "30", "timeWindow": "180"},
        "locked": False,
        "maxfail": 10,
        "otpkey": RAW.hex(),
        "otplen": 6,
        "owner": "alice@realm1",
        "revoked": False,
        "rollout_state": "",
        "serial": "TOTP0001",
        "type": "totp",
        "window": 10,
    }
    return fields | other


def parse(text: str, **owners: str) -> list[Entry | Refused]:
    return privacyidea.parse(text.encode(), owners)


def of(*tokens: dict[str, Any], **owners: str) -> list[Entry | Refused]:
    return parse(yaml.safe_dump(list(tokens)), **owners)


def only(found: list[Entry | Refused]) -> Entry:
    [entry] = found
    assert isinstance(entry, Entry), entry
    return entry


def reason(found: list[Entry | Refused]) -> str:
    [refused] = found
    assert isinstance(refused, Refused)
    return refused.reason


def test_yaml_is_read_with_what_was_spent_and_learned() -> None:
    found = only(of(token()))
    assert (found.names, found.secret, found.label) == (("alice@realm1", "alice"), RAW, "TOTP0001")
    assert (found.step, found.drift) == (58_000_000, -2)


def test_keys_in_base32_are_read() -> None:
    assert only(of(token(otpkey="GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"))).secret == RAW


def test_csv_is_read() -> None:
    found = only(parse(CSV))
    assert (found.names, found.secret, found.label, found.step) == (("alice@realm1", "alice"), RAW, "TOTP0001", -1)


def test_a_token_of_nobody_needs_an_owner() -> None:
    assert "--owners" in reason(of(token(owner="n/a")))
    assert only(of(token(owner="n/a"), TOTP0001="bob")).names == ("bob",)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"type": "hotp"}, "codes are counted (HOTP), not timed"),
        ({"type": "push"}, "it is push"),
        ({"otplen": 8}, "codes have 8 digits, not 6"),
        ({"info_list": {"hashlib": "sha256"}}, "the hash is sha256, not SHA-1"),
        ({"info_list": {"timeStep": "60"}}, "codes change every 60 s, not 30 s"),
        ({"active": False}, "it is disabled there"),
        ({"revoked": True}, "it is revoked there"),
        ({"locked": True}, "it is locked there"),
        ({"otpkey": "00"}, "the key is not base32"),
        ({"counter": "x"}, "counter is not a number that it can be"),
        ({"info_list": {"timeShift": "nan"}}, "timeShift is not a number that it can be"),
    ],
)
def test_what_is_not_supported_is_refused_with_the_reason(other: dict[str, Any], said: str) -> None:
    found = reason(of(token(**other)))
    assert found.startswith(said)
    assert RAW.hex() not in found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (CSV.replace(" 30", " 60"), "codes change every 60 s, not 30 s"),
        (CSV.replace("totp, 6, 30", "hotp, 6"), "codes are counted (HOTP), not timed"),
        (CSV.replace(RAW.hex(), "00" * 32), "CSV does not say the hash, and a key of 32 bytes is not made for SHA-1"),
    ],
)
def test_csv_that_is_not_supported_is_refused_with_the_reason(line: str, said: str) -> None:
    assert reason(parse(line)).startswith(said)


@pytest.mark.parametrize(
    "text", ["- a", "- {otpkey: 1", "[1]", "alice", "a,b", '"', "- !!python/object:os.system {}", "- 2026-99-99"]
)
def test_a_file_of_another_kind_is_refused_as_a_whole(text: str) -> None:
    with pytest.raises(FormatError):
        parse(text)


@given(st.data())
def test_whatever_a_file_holds_is_read_or_refused(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([CSV, yaml.safe_dump([token()])]))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    changed = text[:start] + data.draw(st.text(max_size=10)) + text[end:]
    try:
        found = parse(changed.encode("utf-8", "replace").decode())
    except FormatError:
        return
    assert all(isinstance(each, (Entry, Refused)) for each in found)
