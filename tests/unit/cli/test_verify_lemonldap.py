"""LemonLDAP::NG's settings: what is written, what stays, and what undoing brings back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pam_totp.host import programs, systemd
from pam_totp.verify import clients
from tests.unit.cli.portal import INI, Portal

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Command
    from tests.unit.pretend import Host

SETUP = ("verify", "setup", "lemonldap")
HOW = (*SETUP, "--listen", "127.0.0.1:722", "--yes")


@pytest.fixture
def portal(host: Host, monkeypatch: pytest.MonkeyPatch, command: Command) -> Portal:
    return Portal(host, monkeypatch)


def token(portal: Portal, number: int) -> str:
    url = str(portal.settings(number)["rest2fVerifyUrl"])
    assert url.startswith("http://lemonldap:lemonldap.")
    assert url.endswith("@127.0.0.1:722/v1/lemonldap")
    return url.split(":")[2].partition("@")[0]


def test_the_change_is_shown_made_after_a_yes_and_undone(command: Command, portal: Portal, host: Host) -> None:
    before = portal.versions()
    ran = command(*HOW[:-1], typed=("y\n",))
    assert ran.code == 0, ran
    assert '  rest2fVerifyUrl = "http://lemonldap:TOKEN@127.0.0.1:722/v1/lemonldap"\n' in ran.out
    assert '  rest2fVerifyArgs = {"source": "ipAddr"}\n' in ran.out
    assert f"{portal.path(2)}: settings of the portal: written, with mode 640\n" in ran.out
    assert "users who have none are refused" in ran.out
    how = "it uses its configuration 2 when its processes are started again, or within 10 minutes"
    assert ran.out.endswith(f"set up: lemonldap; {how}\n")
    for secret in ("secret of the site", token(portal, 2)):
        assert secret not in ran.out
    new = portal.settings(2)
    assert (new["cfgNum"], new["cfgLog"]) == (2, "pam-totp verify setup")
    assert (new["rest2fActivation"], new["rest2fVerifyArgs"]) == (1, {"source": "ipAddr"})
    client = clients.with_token(token(portal, 2), host.paths)
    assert client is not None
    assert (client.services, client.identity, client.may_know) == (["lemonldap"], "nss", False)

    again = command(*SETUP)
    assert (again.code, again.out) == (0, "nothing to change: lemonldap is set up\n")
    assert command(*SETUP, "--undo", typed=("y\n",)).code == 0
    assert portal.versions() == before
    assert clients.everybody(host.paths) == []
    assert command(*SETUP, "--undo").out.startswith("nothing to undo")


def test_what_runs_the_portal_is_reloaded(command: Command, portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(*words: str, fail: bool = True) -> str:
        ran.append(" ".join(words))
        return "active\n" if words[-1] == "apache2.service" else "inactive\n"

    monkeypatch.setattr(systemd, "running", lambda: True)
    monkeypatch.setattr(programs, "run", run)
    assert command(*HOW).out.endswith("its configuration 2 is in force; reloaded: apache2.service\n")
    assert [each for each in ran if "is-active" not in each] == ["systemctl reload-or-restart apache2.service"]


def test_what_did_not_come_up_is_started_again_with_the_settings_that_are_back(
    command: Command, portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, states, versions = portal.versions(), ["active", "failed"], []

    def run(*words: str, fail: bool = True) -> str:
        if words[1] == "is-active":
            return states[0] if words[-1] == "apache2.service" else "inactive"
        assert words == ("systemctl", "reload-or-restart", "apache2.service")
        versions.append(sorted(portal.versions()))
        if len(versions) == 1:
            del states[0]
            raise programs.ProgramError("it did not come up")
        return ""

    monkeypatch.setattr(systemd, "running", lambda: True)
    monkeypatch.setattr(programs, "run", run)
    ran = command(*HOW)
    assert (ran.code, portal.versions()) == (3, before)
    assert "it did not come up" in ran.err
    assert versions == [[1, 2], [1]]


def test_everything_else_stays_to_the_byte(command: Command, portal: Portal) -> None:
    command(*HOW)
    ours = {"cfgNum", "cfgDate", "cfgLog", "cfgAuthor", "cfgAuthorIP"}
    ours |= {"rest2fActivation", "rest2fVerifyUrl", "rest2fVerifyArgs"}
    old, new = portal.settings(1), portal.settings(2)
    assert {name: value for name, value in new.items() if name not in ours} == {
        name: value for name, value in old.items() if name not in ours
    }
    assert '"Caf\u00c3\u00a9 \\u20ac \\ud83d\\ude00"' in portal.versions()[2].decode("latin-1")


def test_the_file_is_closed_to_others(command: Command, portal: Portal) -> None:
    assert os.stat(portal.path(1)).st_mode & 0o777 == 0o644
    command(*HOW)
    assert os.stat(portal.path(2)).st_mode & 0o777 == 0o640


@pytest.mark.parametrize("words", [HOW[2:-1], ("--undo",)], ids=["setup", "undo"])
def test_a_dry_run_and_anything_but_a_yes_change_nothing(
    words: tuple[str, ...], command: Command, portal: Portal
) -> None:
    words = words[1:] if words[0] == "lemonldap" else words
    if words == ("--undo",):
        command(*HOW)
    before = portal.versions()
    for more, typed in ((("--dry-run",), ()), ((), ("\n",)), ((), ("n\n",))):
        ran = command(*SETUP, *words, *more, typed=typed)
        assert (ran.code, "nothing" in ran.out.splitlines()[-1]) == (1, True), ran
        assert portal.versions() == before


def test_what_is_not_said_again_stays(command: Command, portal: Portal, host: Host) -> None:
    command(*HOW, "--may-know", "--identity", "record", "--service", "web")
    portal.save(5, rest2fActivation='$uid ne "robot"', rest2fVerifyArgs={"source": "ipAddr", "group": "groups"})
    assert command(*SETUP).out == "nothing to change: lemonldap is set up\n"
    command(*SETUP, "--listen", "[::1]:722", "--yes")
    new = portal.settings(6)
    assert new["rest2fVerifyUrl"].endswith("@[::1]:722/v1/lemonldap")
    assert new["rest2fActivation"] == '$uid ne "robot"'
    client = clients.load("lemonldap", host.paths)
    assert client is not None
    assert (client.services, client.identity, client.may_know) == (["web"], "record", True)


@pytest.mark.parametrize("off", ['"0"', "0", '""', "null"])
def test_what_was_off_is_on(off: str, command: Command, portal: Portal) -> None:
    portal.write(1, b'{"cfgNum": 1, "rest2fActivation": %s, "rest2fVerifyUrl": "x"}' % off.encode("ascii"))
    assert command(*HOW).code == 0
    assert portal.settings(2)["rest2fActivation"] == 1
    portal.save(3, rest2fActivation="0")
    assert command(*HOW).code == 0
    assert portal.settings(4)["rest2fActivation"] == 1


def test_a_site_that_names_its_second_factors_gets_one_more(command: Command, portal: Portal) -> None:
    portal.write(1, b'{"cfgNum": 1, "available2F": "TOTP, WebAuthn"}')
    command(*HOW)
    assert portal.settings(2)["available2F"] == "TOTP, WebAuthn,REST"
    portal.save(3, title="new")
    command(*SETUP, "--undo", "--yes")
    assert portal.settings(4)["available2F"] == "TOTP, WebAuthn"
    portal.write(5, b'{"cfgNum": 5, "available2F": "TOTP, REST"}')
    command(*HOW)
    assert portal.settings(6)["available2F"] == "TOTP, REST"


def test_a_client_that_is_gone_gets_a_new_token(command: Command, portal: Portal, host: Host) -> None:
    command(*HOW)
    command("verify", "remove", "lemonldap")
    command(*HOW)
    assert clients.with_token(token(portal, 2), host.paths) is None
    assert clients.with_token(token(portal, 3), host.paths) is not None


def test_undoing_keeps_what_was_saved_since(command: Command, portal: Portal, host: Host) -> None:
    portal.write(1, b'{"cfgNum": 1, "rest2fActivation": 0, "rest2fCodeActivation": "\\\\d{6}", "rest2fLabel": "x"}')
    command(*HOW)
    assert portal.settings(2)["rest2fCodeActivation"] == ""
    portal.save(3, title="new")
    ran = command(*SETUP, "--undo", "--yes")
    assert ran.code == 0, ran
    assert portal.versions().keys() == {1, 2, 3, 4}
    new = portal.settings(4)
    for name in ("cfgNum", "cfgDate", "cfgAuthor", "cfgAuthorIP", "cfgLog"):
        new.pop(name)
    assert new == {"rest2fActivation": 0, "rest2fCodeActivation": "\\d{6}", "rest2fLabel": "x", "title": "new"}
    assert clients.everybody(host.paths) == []


def test_undoing_leaves_another_services_settings_alone(command: Command, portal: Portal, host: Host) -> None:
    command(*HOW)
    portal.save(3, rest2fVerifyUrl="https://other.example.com/")
    assert command(*SETUP, "--undo", "--yes").code == 0
    assert max(portal.versions()) == 3
    assert clients.everybody(host.paths) == []


def test_undoing_works_when_the_portal_is_gone(command: Command, portal: Portal, host: Host) -> None:
    command(*HOW)
    for number in portal.versions():
        os.unlink(portal.path(number))
    os.rmdir(portal.place)
    os.unlink(portal.ini)
    assert command(*SETUP, "--undo", "--yes").code == 0
    assert clients.everybody(host.paths) == []


def test_nothing_is_changed_where_the_portal_does_not_take_it(command: Command, portal: Portal, host: Host) -> None:
    before = portal.versions()
    portal.fails = True
    ran = command(*HOW)
    assert (ran.code, "update-cache says" in ran.err) == (3, True), ran
    assert portal.versions() == before
    assert clients.everybody(host.paths) == []


@pytest.mark.parametrize(
    ("ini", "first", "said"),
    [
        (INI.replace("type=File", "type=CDBI"), None, "keeps its settings in CDBI"),
        ("[portal]\n", None, "an unknown place"),
        (INI, b"{", "is not understood"),
        (INI, b"[]", "is not understood"),
        (INI, b'{"cfgNum": 1, "rest2fActivation": 1, "rest2fVerifyUrl": "https://other/"}', "another service already"),
        (INI, b'{"cfgNum": 1, "rest2fActivation": "$uid", "rest2fVerifyUrl": null}', "another service already"),
        (INI, b"", "is not understood"),
    ],
    ids=["database", "no-place", "half", "list", "in-use", "in-use-by-rule", "empty"],
)
def test_what_cannot_be_set_up_is_said(
    ini: str, first: bytes | None, said: str, command: Command, portal: Portal, host: Host
) -> None:
    portal.configure(ini.format(place=portal.place) if "{place}" in ini else ini)
    if first is not None:
        portal.write(1, first)
    before = portal.versions()
    ran = command(*HOW)
    assert (ran.code, said in ran.err) == (3, True), ran
    assert portal.versions() == before
    assert clients.everybody(host.paths) == []


def test_without_a_portal_or_a_service_it_says_what_to_do(command: Command, portal: Portal) -> None:
    assert "pam-totp verify enable --listen" in command(*SETUP, "--yes").err
    os.unlink(portal.path(1))
    assert "set the portal up first" in command(*HOW).err
    os.unlink(portal.ini)
    assert "apt install lemonldap-ng" in command(*HOW).err


def test_a_file_that_others_can_write_is_not_built_on(command: Command, portal: Portal) -> None:
    os.chmod(portal.path(1), 0o666)
    ran = command(*HOW)
    assert (ran.code, "is open to others" in ran.err) == (3, True), ran
