"""pam-totp self, against the service on a socket of its own."""

from __future__ import annotations

import getpass
import io
import os
import pwd
import re
import socket
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pam_totp import cli
from pam_totp.cli import self as own
from pam_totp.host.paths import Paths
from pam_totp.host.users import User
from pam_totp.selfservice import server
from tests.unit.scan import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.cli.conftest import Command
    from tests.unit.conftest import Passwd
    from tests.unit.pretend import Host

ME = User("alice", os.geteuid())
ACTIONS = ("status", "enroll", "recovery", "remove")


@contextmanager
def listening(host: Host, answer: Callable[[socket.socket], object]) -> Iterator[None]:
    """Something that answers each caller at the socket of a host."""

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # shut down
            with connection:
                answer(connection)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(host.paths.socket)
        listener.listen()
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def service(host: Host, passwd: Passwd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The service, for one caller after another, who may enrol there."""
    host.configure("self_enroll = true\n")
    passwd.add(ME.name, ME.uid)
    monkeypatch.setattr(pwd, "getpwuid", {ME.uid: passwd[ME.name]}.__getitem__)
    shells = tmp_path / "shells"
    shells.write_text("/bin/sh\n", encoding="utf-8")
    monkeypatch.setattr(server, "SHELLS", str(shells))
    with listening(host, lambda connection: server.serve(connection, host.paths, host.now)):
        yield


@pytest.mark.parametrize("action", ACTIONS)
def test_where_there_is_no_service_it_says_so_and_what_to_do(action: str, command: Command, host: Host) -> None:
    ran = command("self", action)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("pam-totp: self-service is not available on this host")
    assert host.paths.socket in ran.err
    assert "ask your administrator" in ran.err
    with socket.socket(socket.AF_UNIX) as nobody_listens:
        nobody_listens.bind(host.paths.socket)
        assert command("self", action).code == 3


def test_where_others_are_before_one_it_does_not_wait_for_ever(
    command: Command, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "SECONDS", 1)
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(host.paths.socket)
        busy.listen(0)
        waiting.connect(host.paths.socket)
        ran = command("self", "status")
    assert (ran.code, ran.err) == (3, "pam-totp: too many others are being served: try again later\n")


def test_it_needs_no_root(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    paths = Paths.below(host.root, os.geteuid() + 1)
    assert cli.main(["self", "status"], paths) == 3
    assert "self-service is not available" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["status", "--label", "x"],
        ["status", "--qr", "ascii"],
        ["enroll", "--json"],
        ["remove", "--qr", "none"],
        ["recovery", "--label", "x"],
        ["enroll", "--label", "a:b"],
    ],
)
def test_an_option_that_an_action_does_not_take_is_a_usage_error(argv: list[str], command: Command) -> None:
    ran = command("self", *argv)
    assert (ran.code, ran.out) == (2, "")


@pytest.mark.usefixtures("service")
def test_the_status_is_shown(command: Command, host: Host) -> None:
    host.enroll(ME)
    ran = command("self", "status")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("alice: active\n  phone  (active, ")
    assert command("self", "status", "--json").json["user"] == "alice"


@pytest.mark.usefixtures("service")
def test_answers_come_from_standard_input_a_line_each(command: Command, host: Host) -> None:
    secret = host.enroll(ME)
    ran = command("self", "recovery", piped=f"{host.code(secret)}\nyes\n")
    assert ran.code == 0
    assert ran.out.startswith("Verification code: ")
    assert len(re.findall(r"\b[a-z2-9]{5}-[a-z2-9]{5}\b", ran.out)) == 10


@pytest.mark.usefixtures("service")
def test_a_refusal_is_exit_code_1(command: Command, host: Host) -> None:
    secret = host.enroll(ME)
    ran = command("self", "remove", piped=f"{host.wrong(secret)}\n")
    assert (ran.code, ran.err) == (1, "")
    assert "That code was not accepted.\n" in ran.out


@pytest.mark.usefixtures("service")
def test_at_the_end_of_standard_input_it_gives_up(command: Command, host: Host) -> None:
    host.enroll(ME)
    assert command("self", "remove", piped="").code == 1
    assert [each.label for each in host.account(ME).active] == ["phone"]


@pytest.mark.usefixtures("service")
def test_a_code_that_is_typed_is_not_echoed_and_one_that_enrols_is(
    command: Command, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = host.enroll(ME)
    hidden: list[str] = []

    def typed(prompt: str) -> str:
        hidden.append(prompt)
        return host.code(secret)

    monkeypatch.setattr(getpass, "getpass", typed)
    ran = command("self", "enroll", "--label", "tablet", typed=("nonsense\n", ""))
    assert hidden == [""]
    assert ran.code == 1
    assert "A code has six digits.\nCode from the app: " in ran.out


@pytest.mark.usefixtures("service")
def test_ctrl_c_ends_it_and_changes_nothing(command: Command, host: Host) -> None:
    ran = command("self", "enroll", typed=(KeyboardInterrupt,))
    assert ran.code == 1
    assert "interrupted; see pam-totp self status" in ran.err
    assert host.account(ME).state == "none"


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(("style", "picture"), [("utf8", "█"), ("ascii", "##"), ("none", "")])
def test_the_qr_code_is_drawn_as_asked_for(style: str, picture: str, command: Command) -> None:
    out = command("self", "enroll", "--qr", style, piped="").out
    assert picture in out
    assert ("█" in out, "##" in out) == (style == "utf8", style == "ascii")


@pytest.mark.usefixtures("service")
def test_a_light_terminal_gets_the_picture_that_scans_there(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLORFGBG", "0;15")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    out = command("self", "enroll", piped="").out
    picture = [line for line in out.split("\n") if line and set(line) <= set(" █▀▄")]
    assert scan("\n".join(picture), tmp_path, light=True).startswith("otpauth://")


@pytest.mark.usefixtures("service")
def test_a_terminal_that_is_no_utf_8_gets_plain_characters(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert command("self", "enroll", piped="").code == 1
    assert b"##" in raw.getvalue()


@pytest.mark.usefixtures("service")
def test_text_that_a_terminal_cannot_show_is_escaped(
    command: Command, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.enroll(ME, label="Händi")
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert command("self", "status").code == 0
    assert rb"  H\xe4ndi  (active, " in raw.getvalue()


def test_a_service_that_hangs_up_is_an_error_of_the_host(command: Command, host: Host) -> None:
    with listening(host, lambda _: None):
        ran = command("self", "status")
    assert (ran.code, ran.out) == (3, "")
    assert "the service ended the connection: try again, or tell your administrator" in ran.err


def test_a_service_of_another_kind_is_an_error_of_the_host(command: Command, host: Host) -> None:
    with listening(host, lambda connection: connection.sendall(b"220 mail\n")):
        ran = command("self", "status")
    assert (ran.code, ran.out) == (3, "")
    assert "not JSON" in ran.err
