"""What a login attempt is made of."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_totp.host import users
from pam_totp.login.attempt import Conversation, Outcome, Request, duration, joined, network
from tests.unit.pretend import ALICE, HERE, Host

if TYPE_CHECKING:
    from pam_totp.host.users import User

KEY = "publickey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGQq"


def spellings(address: ipaddress.IPv6Address) -> list[str]:
    *groups, high, low = address.exploded.split(":")
    dotted = ipaddress.IPv4Address(int(high + low, 16))
    mixed = str(ipaddress.IPv6Address(":".join([*groups, "1", "1"]))).removesuffix("1:1") + str(dotted)
    return [str(address), address.exploded, str(address).upper(), f"{address}%eth0", mixed]


# With zeros in every place, so that the double colon is too
MANY_ZEROS = st.lists(st.sampled_from([0, 0, 1, 0xABCD]), min_size=8, max_size=8).map(
    lambda groups: ipaddress.IPv6Address(":".join(f"{group:x}" for group in groups))
)


@given(st.ip_addresses(v=6) | MANY_ZEROS)
def test_an_ipv6_address_stands_for_its_64_network(address: ipaddress.IPv6Address) -> None:
    if address.ipv4_mapped is None:
        found = {network(spelling) for spelling in spellings(address)}
        assert len(found) == 1
        [text] = found
        assert ipaddress.IPv6Network(text) == ipaddress.IPv6Network((address, 64), strict=False)


@given(st.ip_addresses(v=6), st.ip_addresses(v=6))
def test_two_ipv6_addresses_are_one_source_where_they_share_a_network(
    one: ipaddress.IPv6Address, other: ipaddress.IPv6Address
) -> None:
    near = ipaddress.IPv6Address(int(one) ^ int(other) >> 64)
    if one.ipv4_mapped is None and near.ipv4_mapped is None:
        assert network(str(one)) == network(str(near))
        assert (network(str(one)) == network(str(other))) == (int(one) >> 64 == int(other) >> 64)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_stands_for_itself_also_in_ipv6_clothes(address: ipaddress.IPv4Address) -> None:
    assert network(str(address)) == network(f"::ffff:{address}") == network(f"::FFFF:{address}") == str(address)


@given(st.text() | st.text("0123456789abcdef:.%/"))
def test_any_text_is_a_source_of_bounded_length(text: str) -> None:
    assert len(network(text)) <= 70


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("", ""),
        ("client.example.org", "client.example.org"),
        ("CLIENT.example.org", "client.example.org"),
        ("x" * 100, "x" * 64),
        ("2001:db8::192.0.2.7", "2001:db8:0:0::/64"),
        ("::1", "0:0:0:0::/64"),
        ("::", "0:0:0:0::/64"),
    ],
)
def test_what_is_no_address_stands_for_itself(text: str, source: str) -> None:
    assert network(text) == source


@pytest.mark.parametrize(
    ("auth_info", "kinds"),
    [
        ("", []),
        ("\n\n", []),
        (KEY, ["ssh-ed25519"]),
        (f"{KEY}\n", ["ssh-ed25519"]),
        (f"{KEY}\npublickey ssh-rsa AAAA\n", ["ssh-ed25519", "ssh-rsa"]),
        ("password\n", []),
        ("\n", []),
        ("keyboard-interactive/pam\n", []),
        ("notpublickey ssh-ed25519 AAAA\n", []),
        (f"hostbased ssh-ed25519 AAAA\n{KEY}", ["ssh-ed25519"]),
        ("publickeyx y z", []),
    ],
)
def test_only_lines_about_a_public_key_are_public_keys(auth_info: str, kinds: list[str]) -> None:
    assert [key.kind for key in Request("alice", auth_info=auth_info).public_keys or ()] == kinds
    assert Request("alice", auth_info=auth_info).public_keys is not None


@pytest.mark.parametrize("auth_info", [None, "publickey\n", "publickey ssh-ed25519\n", f"{KEY}\npublickey ssh-rsa"])
def test_which_keys_passed_is_unknown_where_sshd_says_nothing_or_a_line_is_cut(auth_info: str | None) -> None:
    assert Request("alice", auth_info=auth_info).public_keys is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0, "0 s"), (1, "1 s"), (119, "119 s"), (120, "2 min"), (121, "3 min"), (3600, "60 min"), (7140, "119 min")),
        *((7141, "2 h"), (7200, "2 h"), (7201, "2 h 1 min"), (86_400, "24 h"), (172_740, "47 h 59 min")),
        *((172_800, "2 days"), (172_801, "3 days"), (604_800, "7 days")),
    ],
)
def test_a_duration_is_told_in_the_unit_that_matters_and_never_too_short(seconds: int, words: str) -> None:
    assert duration(seconds) == words


def test_details_are_joined_without_the_empty_ones() -> None:
    assert joined("one", "", "two") == "one; two"
    outcome = Outcome("refused", "wrong-code")
    for text in ("", "one", "two"):
        outcome.add_detail(text)
    assert outcome.detail == "one; two"


def test_a_conversation_must_be_given() -> None:
    talk = Conversation()
    for act in (talk.ask, talk.tell):
        with pytest.raises(NotImplementedError):
            act("text")


# Whom a failure is charged to


def sources(host: Host) -> set[str]:
    return set(host.account().ledger.sources)


def test_a_failure_is_charged_to_the_address_and_the_keys_that_passed(host: Host) -> None:
    host.enroll()
    host.fail(rhost=HERE)
    host.fail(rhost="2001:db8::1")
    host.fail(rhost=HERE, auth_info=KEY)
    host.fail(rhost=HERE, auth_info=KEY + "\n")
    host.fail(rhost="198.51.100.9", auth_info=KEY)
    host.fail(rhost=HERE, auth_info=f"{KEY}\npublickey ssh-rsa AAAA")
    found = sources(host)
    assert {f"net:{HERE}", "net:2001:db8:0:0::/64"} < found
    assert len([source for source in found if source.startswith("key:")]) == 3
    assert len(found) == 5


def test_which_key_it_was_is_not_kept(host: Host) -> None:
    host.enroll()
    host.fail(auth_info=KEY)
    assert KEY.split()[2] not in str(sources(host))
    assert host.account(ALICE).ledger.unseen_from == HERE


def test_groups_are_looked_up_only_where_a_rule_names_some(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def groups(user: User, wanted: set[str]) -> frozenset[str]:
        asked.append(user.name)
        return frozenset({"staff"})

    asked: list[str] = []
    monkeypatch.setattr(users, "groups", groups)
    host.configure('[[rule]]\nusers = ["bob"]\nmfa = "skip"\n')
    assert host.login("alice").reason == "not-enrolled"
    assert asked == []
    host.configure('[[rule]]\ngroups = ["staff"]\nmfa = "skip"\n')
    assert host.login("alice").reason == "rule"
    assert asked == ["alice"]
