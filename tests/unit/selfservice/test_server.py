"""The service behind pam-totp self: who is served, how many, and what a caller can break."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.host.users import User
from pam_totp.selfservice import server, verbs, wire

if TYPE_CHECKING:
    from tests.unit.conftest import Passwd
    from tests.unit.pretend import Host

    Journal = list[tuple[int, str]]

ME = User("alice", os.geteuid())
STATUS = {"verb": "status", "label": None, "qr": None, "columns": 0, "json": False}


@pytest.fixture(autouse=True)
def shells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the shells that are good for a login."""
    path = tmp_path / "shells"
    path.write_text("# shells\n/bin/sh\n/bin/false\n/usr/sbin/nologin\n", encoding="utf-8")
    monkeypatch.setattr(server, "SHELLS", str(path))
    return path


@pytest.fixture(autouse=True)
def known(passwd: Passwd, monkeypatch: pytest.MonkeyPatch) -> dict[int, pwd.struct_passwd]:
    """The uids this host knows: alice is who runs the test."""
    passwd.add(ME.name, ME.uid)
    uids = {ME.uid: passwd[ME.name]}
    monkeypatch.setattr(pwd, "getpwuid", uids.__getitem__)
    return uids


def entry(name: str, uid: int, shell: str = "/bin/sh") -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, uid, "", "/", shell))


def served(host: Host, *lines: object) -> list[dict[str, Any]]:
    """What the service says to a caller who sends these messages, or bytes, and then no more."""
    near, far = socket.socketpair()
    with near, far:
        for line in lines:
            near.sendall(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
        near.shutdown(socket.SHUT_WR)
        server.serve(far, host.paths, host.now)
        far.close()
        return said(near)


def said(connection: socket.socket) -> list[dict[str, Any]]:
    """All messages that wait to be read."""
    content = b""
    try:
        while chunk := connection.recv(1 << 16):
            content += chunk
    except ConnectionResetError:
        pass  # the other end has closed without reading all that was sent
    return [json.loads(line) for line in content.splitlines()]


def request(**fields: object) -> dict[str, object]:
    return STATUS | fields


def test_the_caller_is_who_the_kernel_says(host: Host) -> None:
    host.enroll(ME)
    [told, done] = served(host, STATUS)
    assert told["tell"].startswith("alice: active\n")
    assert done == {"done": 0}


@pytest.mark.parametrize("extra", [{"user": "bob"}, {"uid": 1002}, {"user": None}])
def test_a_caller_cannot_say_who_it_is(extra: dict[str, object], host: Host, journal: Journal) -> None:
    assert served(host, STATUS | extra) == []
    assert "user=alice service=self rhost=- outcome=refused reason=bad-message" in journal[-1][1]


def test_the_kernel_names_the_effective_uid_of_the_other_end() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert server.peer(one) == os.geteuid()
    with socket.socket(socket.AF_INET) as internet, pytest.raises(OSError, match="not a UNIX socket"):
        server.peer(internet)


@pytest.mark.parametrize("shell", ["/usr/sbin/nologin", "/bin/false", "/opt/menu", "sh", "# shells"])
def test_who_has_no_login_shell_is_not_served(
    shell: str, host: Host, known: dict[int, pwd.struct_passwd], journal: Journal
) -> None:
    known[ME.uid] = entry(ME.name, ME.uid, shell)
    assert served(host, STATUS) == [{"tell": "This is for users with a login shell."}, {"done": 1}]
    assert f'outcome=refused reason=no-login detail="uid {ME.uid}"' in journal[-1][1]


def test_an_empty_shell_is_sh(host: Host, known: dict[int, pwd.struct_passwd]) -> None:
    known[ME.uid] = entry(ME.name, ME.uid, "")
    assert served(host, STATUS)[-1] == {"done": 0}


def test_without_a_list_of_shells_nobody_is_served(host: Host, shells: Path) -> None:
    shells.unlink()
    assert served(host, STATUS)[-1] == {"done": 1}


def test_a_uid_without_a_name_or_with_somebody_elses_is_not_served(
    host: Host, known: dict[int, pwd.struct_passwd]
) -> None:
    known[ME.uid] = entry("bob", ME.uid)  # by name, NSS says another uid
    assert served(host, STATUS)[-1] == {"done": 1}
    known[ME.uid] = entry("mallory", ME.uid)  # by name, NSS knows nobody
    assert served(host, STATUS)[-1] == {"done": 1}
    del known[ME.uid]
    assert served(host, STATUS)[-1] == {"done": 1}


def test_a_uid_has_a_few_connections_at_a_time(host: Host, journal: Journal) -> None:
    held = [server._slot(host.paths, ME.uid) for _ in range(server.CONNECTIONS)]
    assert None not in held
    assert served(host, STATUS) == [
        {"tell": "You have 3 of these open already: finish one first."},
        {"done": 1},
    ]
    assert "reason=too-many-connections" in journal[-1][1]
    assert server._slot(host.paths, ME.uid + 1) is not None
    first = held[0]
    assert first is not None
    with first:
        pass
    assert served(host, STATUS)[-1] == {"done": 0}
    assert served(host, STATUS)[-1] == {"done": 0}


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x00" * 5000,
        b"[" * 5000,
        {"verb": "status"},
        request(verb="reset"),
        request(verb="__class__"),
        request(verb=""),
        request(qr="png"),
        {"answer": "123456"},
    ],
    ids=lambda line: str(line)[:20],
)
def test_anything_but_the_protocol_ends_the_connection_without_a_word(
    line: object, host: Host, journal: Journal
) -> None:
    before = host.snapshot()
    assert served(host, line) == []
    assert [text for _, text in journal if "reason=bad-message" in text] == [journal[-1][1]]
    assert host.snapshot() == before


def test_an_answer_of_another_form_ends_the_connection_too(host: Host) -> None:
    host.enroll(ME)
    for line in (STATUS, {"answer": 123456}, {"answer": "x" * 3000}):
        assert [message for message in served(host, request(verb="recovery"), line) if "ask" not in message] == []
    assert host.account(ME).ledger.row == 0


def test_a_caller_who_says_nothing_or_leaves_is_let_go(host: Host) -> None:
    assert served(host) == [{"done": 1}]
    host.enroll(ME)
    asked = served(host, request(verb="recovery"))
    assert asked == [{"ask": "Verification code: ", "echo": False}, {"done": 1}]


def test_a_caller_who_does_not_listen_does_no_harm(host: Host) -> None:
    near, far = socket.socketpair()
    with far:
        near.sendall(json.dumps(request(verb="enroll")).encode() + b"\n")
        near.close()
        server.serve(far, host.paths, host.now)
    assert host.account(ME).state == "none"


def test_the_time_is_limited(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.configure("self_enroll = true\n")
    monkeypatch.setattr(verbs, "SECONDS", 0)
    near, far = socket.socketpair()
    with near, far:
        near.sendall(json.dumps(request(verb="enroll")).encode() + b"\n")
        server.serve(far, host.paths, host.now)
        far.close()
        channel = wire.Channel(near, wire.LONGEST_MESSAGE)
        assert "Code from the app" in str(channel.receive(wire.ASK))
        told = [message["tell"] for _ in range(2) if (message := channel.receive(wire.TELL)) is not None]
        assert told[-1] == "That took too long, and what was not finished is dropped. Start again."
        assert channel.receive(wire.DONE) == {"done": 1}


def test_every_verb_is_done(host: Host) -> None:
    host.configure("self_enroll = true\n")
    asked = served(host, request(verb="enroll", label="watch", columns=200, qr="ascii"))
    assert "##" in asked[0]["ask"]
    assert asked[0]["echo"] is True
    secret = host.enroll(ME)
    host.enroll(ME, label="tablet")
    codes = served(host, request(verb="recovery"), {"answer": host.code(secret)}, {"answer": ""})
    assert "These are your recovery codes" in codes[1]["ask"]
    removed = served(host, request(verb="remove", label="tablet"), {"answer": host.code(secret, 1)})
    assert removed[-2:] == [{"tell": "The authenticator 'tablet' is removed."}, {"done": 0}]
    [told, _] = served(host, request(json=True))
    assert json.loads(told["tell"])["user"] == "alice"


def test_a_label_that_is_none_is_explained(host: Host) -> None:
    [told, done] = served(host, request(verb="enroll", label="a:b"))
    assert told["tell"].startswith("a label has 1 to 32 printable characters")
    assert done == {"done": 2}


def test_what_is_broken_is_told_to_administrators_only(host: Host, journal: Journal) -> None:
    host.configure("nonsense = 1\n")
    told = {"tell": "This does not work at the moment. Tell your administrator: the log says why."}
    assert served(host, STATUS) == [told, {"done": 3}]
    assert "outcome=misconfigured reason=bad-config" in journal[-1][1]
    host.configure("# nothing")
    os.unlink(host.paths.cache)
    assert served(host, STATUS) == [told, {"done": 3}]
    assert "outcome=unavailable reason=cache-missing" in journal[-1][1]


def test_a_bug_ends_the_connection_and_its_text_is_not_logged(
    host: Host, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise ValueError("a secret")

    monkeypatch.setattr(verbs, "status", broken)
    assert served(host, STATUS) == []
    assert "reason=internal-error" in journal[-1][1]
    assert "ValueError at " in journal[-1][1]
    assert "a secret" not in journal[-1][1]


def test_started_by_hand_it_says_what_starts_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pam_totp.selfservice.server"],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "started by pam-totp-self.socket" in done.stderr
