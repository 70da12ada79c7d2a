"""What FreeRADIUS is given: its files, the lines of each NAS, and what is refused."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from pam_totp.errors import UsageError
from pam_totp.host import programs, systemd
from pam_totp.host.pinned import SetupError
from pam_totp.verify import clients, freeradius, setup
from pam_totp.verify.freeradius import FreeRadius, Nas, item, nas_of, with_nas, without
from tests.unit.verify.radius import CLIENTS, Tree

if TYPE_CHECKING:
    from tests.unit.pretend import Host

ADDRESS = "127.0.0.1:722"


@pytest.fixture
def tree(host: Host, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(host, monkeypatch)


def wanted(*wishes: str, module: str | None = "files", address: str | None = ADDRESS) -> FreeRadius:
    return FreeRadius(module, list(wishes), address, None, None)


def arrange(host: Host, *wishes: str) -> None:
    program = wanted(*wishes)
    setup.put_in_force(program, host.paths, program.changes(host.paths))


# -- clients.conf


def test_a_nas_gets_its_lines_first_in_its_section_and_loses_them_again() -> None:
    text = with_nas(CLIENTS, {"vpn": Nas("required"), "wlan": Nas("enrolled", "eap")})
    assert nas_of(text) == {"vpn": Nas("required"), "wlan": Nas("enrolled", "eap")}
    lines = text.splitlines()
    place = lines.index("client vpn {")
    assert [line.split(" # ")[0].strip() for line in lines[place + 1 : place + 5]] == [
        "virtual_server = pam-totp",
        "require_message_authenticator = yes",
        "pam_totp = required",
        "pam_totp_code = challenge",
    ]
    assert without(text) == CLIENTS
    # Another run says what is new; what it does not say stays.
    text = with_nas(text, {"vpn": Nas("enrolled", "one-field")})
    assert nas_of(text) == {"vpn": Nas("enrolled", "one-field"), "wlan": Nas("enrolled", "eap")}
    assert with_nas(text, {"vpn": Nas("off"), "wlan": Nas("off")}) == CLIENTS


def test_a_nas_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"no section client printer .* there is localhost, vpn, wlan"):
        with_nas(CLIENTS, {"printer": Nas("required")})


def test_a_nas_that_signs_nothing_is_taken_where_that_is_said() -> None:
    text = with_nas(CLIENTS, {"vpn": Nas("required", "one-field", signed=False)})
    assert "\trequire_message_authenticator = no # pam-totp verify setup\n" in text
    assert nas_of(text) == {"vpn": Nas("required", "one-field", signed=False)}
    assert str(nas_of(text)["vpn"]) == "required, one-field, unsigned"


@pytest.mark.parametrize(
    "wish",
    [
        *("", "=required", "vpn=all", "vpn=required,pap", "vpn=,eap", "vpn=required,"),
        *("vpn=required,eap,one-field", "vpn=required,unsigned,unsigned"),
    ],
)
def test_another_wish_is_refused(wish: str, tree: Tree) -> None:
    with pytest.raises(UsageError, match="NAME=MODE"):
        wanted(wish)


def test_an_item_is_found_in_its_section_alone() -> None:
    text = 'a {\n\tb {\n\t\tx = 1 # one\n\t}\n\tc {\n\t\t# x = 0\n\t\tx = "two"\n\t}\n}\nx = 3\n'
    assert (item(text, "a", "b", "x"), item(text, "a", "c", "x"), item(text, "x")) == ("1", "two", "3")
    assert item(text, "a", "x") is None


# -- the files


def test_everything_that_lets_in_goes_through_one_flag_that_no_packet_can_set() -> None:
    for module in freeradius.MODULES:
        text = freeradius.site(module, with_eap=True)
        # One for each answer of the service that is looked at, and one for what the tunnel tells the outside.
        answers = text.count("&reply:REST-HTTP-Status-Code == 200") + text.count('"action": "skip"')
        assert text.count("&Tmp-String-9 := 'passed'") == answers + 1
        for flag in re.finditer(r"update (\S+) \{[^}]*&Tmp-String-9", text):
            assert flag[1] in ("control", "outer.session-state")
        # Both servers look at it at the end.
        assert len(re.findall(r"post-auth \{(?:\s+#.*)?\s+if \(&control:Tmp-String-9\)", text)) == 2
        assert "&request:Tmp" not in text


@pytest.mark.parametrize("module", freeradius.MODULES)
@pytest.mark.parametrize("with_eap", [False, True])
def test_braces_fit_and_eap_is_there_where_it_is_wanted(module: str, with_eap: bool) -> None:
    text = freeradius.site(module, with_eap=with_eap) + freeradius.mod(ADDRESS)
    code = re.sub(r"'[^']*'|/\^.*?/|%\{[^}]*\}+", "", text)
    assert code.count("{") == code.count("}")
    assert ("EAP-Message" in text, "server pam-totp-tunnel" in text) == (with_eap, with_eap)


def test_the_tokens_are_good_and_stand_in_one_file_that_freeradius_alone_reads(host: Host, tree: Tree) -> None:
    arrange(host, "vpn")
    tokens = tree.read("mods-config/pam-totp")
    found = dict(re.findall(r'(\w+) = "(\S+)"', tokens))
    for mode, may_know in (("enrolled", True), ("required", False)):
        client = clients.with_token(found[mode], host.paths)
        assert client is not None
        assert (client.name, client.services, client.may_know) == (f"freeradius-{mode}", ["radius"], may_know)
    assert os.stat(tree.path("mods-config/pam-totp")).st_mode & 0o077 & ~0o040 == 0
    assert all(
        token not in tree.read(f"{kind}-available/pam-totp") for token in found.values() for kind in ("mods", "sites")
    )
    assert os.readlink(tree.path("sites-enabled/pam-totp")) == "../sites-available/pam-totp"
    # Another run keeps them; with a client that is gone or is another's, there are new ones.
    assert wanted().changes(host.paths) == {}
    clients.remove("freeradius-required", host.paths)
    assert set(wanted().changes(host.paths)) == {
        tree.path("mods-config/pam-totp"),
        clients.path_of("freeradius-required", host.paths),
    }


def test_what_is_not_said_stays_as_it_was(host: Host, tree: Tree) -> None:
    arrange(host, "vpn=enrolled,one-field")
    assert wanted(module=None, address=None).changes(host.paths) == {}
    assert set(wanted("wlan", module=None, address=None).changes(host.paths)) == {tree.path("clients.conf")}
    assert set(wanted(module="pam", address=None).changes(host.paths)) == {tree.path("sites-available/pam-totp")}
    changed = FreeRadius(None, [], None, "record", ["vpn"]).changes(host.paths)
    assert {os.path.basename(path) for path in changed} == {"freeradius-enrolled.json", "freeradius-required.json"}


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("pw123456", ("pw", "123456")),
        ("horse271828123456", ("horse271828", "123456")),
        ("pwk7m2p-9xq4t", ("pw", "k7m2p-9xq4t")),
        ("pw12345", None),
        ("123456", None),
        ("pwk7m2p9xq4t", None),
    ],
)
def test_what_stands_behind_a_password_is_told_apart(typed: str, parts: tuple[str, str] | None) -> None:
    [pattern] = set(re.findall(r"&User-Password =~ /(.*)/\)", freeradius.site("files", with_eap=True)))
    found = re.search(pattern, typed)
    assert (found.groups() if found else None) == parts


# -- what is refused


def test_a_site_without_freeradius_or_its_rest_module_is_told_what_to_install(
    host: Host, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freeradius, "REST", "/nowhere")
    with pytest.raises(SetupError, match="apt install freeradius-rest"):
        wanted().changes(host.paths)
    monkeypatch.setattr(freeradius, "PLACE", "/nowhere")
    with pytest.raises(SetupError, match="apt install freeradius freeradius-rest"):
        wanted().changes(host.paths)


def test_a_module_has_to_be_named_once_and_enabled(host: Host, tree: Tree) -> None:
    with pytest.raises(UsageError, match="--module pam, ldap, sql or files"):
        wanted(module=None).changes(host.paths)
    with pytest.raises(SetupError, match=r"module ldap is not enabled: .* ln -s ../mods-available/ldap"):
        wanted(module="ldap").changes(host.paths)


def test_a_service_that_does_not_listen_on_loopback_is_said(host: Host, tree: Tree) -> None:
    with pytest.raises(SetupError, match=r"pam-totp verify enable --listen 127\.0\.0\.1:722"):
        wanted(address=None).changes(host.paths)


@pytest.mark.parametrize("line", ["\t\tdefault_eap_type = mschapv2", ""])
def test_peap_that_proposes_mschapv2_is_refused_with_the_reason(line: str, host: Host, tree: Tree) -> None:
    tree.write("mods-enabled/eap", f"eap {{\n\tdefault_eap_type = md5\n\tpeap {{\n{line}\n\t}}\n}}\n")
    before = tree.state()
    with pytest.raises(SetupError, match="PEAP proposes mschapv2 here, which never sends what the user types"):
        wanted("wlan=required,eap").changes(host.paths)
    assert tree.state() == before
    os.unlink(tree.path("mods-enabled/eap"))
    with pytest.raises(SetupError, match="EAP is not enabled"):
        wanted("wlan=required,eap").changes(host.paths)


def test_who_has_mschap_is_told_that_it_carries_no_code(host: Host, tree: Tree) -> None:
    program = wanted("vpn")
    program.changes(host.paths)
    assert "vpn: required, challenge" in program.notes()[0]
    assert "MS-CHAPv2 never sends what the user types" in program.notes()[1]
    os.unlink(tree.path("mods-enabled/mschap"))
    assert len(program.notes()) == 1


def test_what_freeradius_says_of_its_files_is_told(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    said = f"Loaded module\n{freeradius.PLACE}/sites-enabled/x[3]: No such module\nErrors reading x\n\n"
    monkeypatch.setattr(programs, "answered", lambda *_: (1, said))
    with pytest.raises(SetupError, match=r"freeradius -XC says: .*x\[3\]: No such module; Errors reading x$"):
        wanted().check()


def test_freeradius_looks_at_its_files_as_its_own_user(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def answered(_: str, *command: str) -> tuple[int, str]:
        asked.append(command)
        return 0, ""

    monkeypatch.setattr(programs, "answered", answered)
    program = wanted()
    program.owner, program._group = 104, 112
    program.check()
    program.owner = 0
    program.check()
    itself = ("setpriv", "--reuid=104", "--regid=112", "--init-groups", "--")
    assert asked == [(*itself, "freeradius", "-XC"), ("freeradius", "-XC")]


def test_it_is_restarted_where_systemd_runs_it(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wanted().restart() == ""
    monkeypatch.setattr(systemd, "running", lambda: True)
    state = "active\n"
    asked: list[tuple[str, ...]] = []

    def run(*command: str, fail: bool = True) -> str:
        asked.append(command)
        return state

    monkeypatch.setattr(programs, "run", run)
    program = wanted()
    assert program.restart() == "it was restarted"
    assert asked[-1] == ("systemctl", "restart", "freeradius.service")
    # After a start that failed it is no longer active, and is started all the same.
    state = "failed\n"
    assert program.restart() == "it was restarted"
    assert wanted().restart() == ""
