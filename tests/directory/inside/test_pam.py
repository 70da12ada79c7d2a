"""The process that asks PAM, and its client; the real PAM is asked in tests/directory/test_ldap.py, under systemd."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.directory import config, pam, throttle
from pam_totp.directory.models import Person
from pam_totp.directory.portal import passwords
from tests.directory.inside.portal import Somebody, enrol

if TYPE_CHECKING:
    from pathlib import Path

    from tests.directory.inside.conftest import Keeper

PASSWORD, HERE = "the one of this machine", "192.0.2.1"
WRONG = (None, passwords.WRONG)


@dataclass
class Asked:
    """A server at work, with a PAM that knows alice, and what it was asked and has logged."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    broken: bool = False

    def say(self, name: str, password: str) -> bool:
        self.asked.append((name, password))
        if self.broken:
            raise RuntimeError(password)
        return (name, password) == ("alice", PASSWORD)

    def serve(self, users: set[int]) -> pam.Server:
        made = pam.Server(users, self.log.append, self.say)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(config.PASSWORDS_SOCKET)
        listener.listen()
        threading.Thread(target=made.run, args=(listener,), daemon=True).start()
        return made


@pytest.fixture
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Asked:
    monkeypatch.setattr(config, "PASSWORDS_SOCKET", str(tmp_path / "passwords.sock"))
    monkeypatch.setattr(passwords, "EVERY", 0.001)
    settings.CONFIG = config.of({"name": "dir.example.org", "passwords": "pam"})
    return Asked()


def test_a_password_of_this_machine_and_a_code_sign_in_and_nobody_is_made(at_work: Asked, keeper: Keeper) -> None:
    at_work.serve({os.geteuid()})
    assert passwords.check("alice", PASSWORD, HERE) == WRONG
    assert not Person.objects.exists()
    alice = Somebody(Person.objects.create_user("alice"), keeper)
    enrol(alice)
    assert alice.password("wrong").status_code == 200
    assert alice.password(PASSWORD).headers["Location"] == "/login/code/"
    assert alice.post("/login/code/", {"code": alice.code()}).headers["Location"] == "/"


def test_nobody_but_the_web_process_and_root_is_answered(at_work: Asked) -> None:
    at_work.serve({12345})
    with pytest.raises(pam.PamError):
        pam.right("alice", PASSWORD)
    assert at_work.asked == []
    assert at_work.log == [f"refused a connection of uid {os.geteuid()}"]


def test_a_process_that_is_not_there_lets_nobody_in_and_the_log_says_so(
    at_work: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    Person.objects.create_user("alice")
    assert passwords.check("alice", PASSWORD, HERE) == WRONG
    assert "systemctl enable --now pam-totp-passwords.socket" in caplog.text
    assert PASSWORD not in caplog.text


def test_a_pam_that_fails_lets_nobody_in_and_no_password_is_logged(
    at_work: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    at_work.broken = True
    at_work.serve({os.geteuid()})
    Person.objects.create_user("alice")
    with caplog.at_level(logging.INFO):
        assert passwords.check("alice", PASSWORD, HERE) == WRONG
    assert at_work.log == ["PAM failed: RuntimeError"]
    assert PASSWORD not in caplog.text


def test_a_name_that_there_is_not_and_an_empty_password_are_asked_of_nobody(at_work: Asked) -> None:
    at_work.serve({os.geteuid()})
    assert not pam.right(None, PASSWORD)
    assert not pam.right("alice", "")
    assert not pam.right("alice", "a\0b")
    assert at_work.asked == []


def test_who_has_taken_over_the_web_process_guesses_for_a_name_until_an_hour_s_guesses_are_used_up(
    at_work: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # with its real throttle
    assert throttle.Throttle.count.__name__ == "count"
    made = pam.Server(set(), at_work.log.append, at_work.say)

    def ask(name: str, password: str) -> dict[str, Any]:
        return made.answer(json.dumps({"name": name, "password": password}).encode())

    for _ in range(pam.FOR_A_NAME):
        assert ask("alice", "wrong") == {"right": False}
    asked = len(at_work.asked)
    assert "too many" in ask("alice", PASSWORD)["error"]
    assert len(at_work.asked) == asked
    assert ask("bob", "wrong") == {"right": False}


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"7", b'{"name": 1, "password": "x"}', b'{"name": "x"}', b"[" * 10_000, b"\xff"]
)
def test_what_is_no_request_is_no_yes(at_work: Asked, line: bytes) -> None:
    answer = pam.Server(set(), at_work.log.append, at_work.say).answer(line)
    assert answer.get("right") is not True
    assert at_work.asked == []


@pytest.mark.parametrize(
    "answer", [b"", b"true\n", b"1\n", b'{"right": 1}\n', b'{"right": "yes"}\n', b"[true]\n", b"{\n"]
)
def test_an_answer_that_is_not_plainly_yes_is_no(at_work: Asked, answer: bytes) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(config.PASSWORDS_SOCKET)
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    Person.objects.create_user("alice")
    assert passwords.check("alice", PASSWORD, HERE) == WRONG
