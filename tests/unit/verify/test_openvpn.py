"""What OpenVPN runs: it asks when the first factor has passed, and whatever goes wrong refuses."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pam_totp.verify import openvpn

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(openvpn.__file__).parents[2]
# As its launcher, but with the service elsewhere.
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
from pam_totp.verify import openvpn
openvpn.SOCKET = sys.argv[2]
sys.exit(openvpn.main(sys.argv[3:]))
"""
YES = (200, {"result": True, "message": ""})
NO = (403, {"result": False, "message": "That code was not accepted."})
ASK = (200, {"action": "ask", "prompt": "Verification code: ", "state": "1state"})
SKIP = (200, {"action": "skip", "message": ""})
ACCEPTED, REFUSED, LATER = openvpn.ACCEPTED, openvpn.REFUSED, openvpn.LATER


class Service:
    """A service that answers what a test says, and keeps what it was asked."""

    def __init__(self, path: Path) -> None:
        self.answer: tuple[int, Any] | bytes = NO
        self.ready = threading.Event()
        self.ready.set()
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.heads: list[str] = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                head = [line.decode().strip() for line in iter(lines.readline, b"\r\n")]
                length = next(int(line.split()[1]) for line in head if line.startswith("Content-Length"))
                self.heads += head
                self.asked.append((head[0].split()[1], json.loads(lines.read(length))))
                self.ready.wait()
                answer = self.answer
                if not isinstance(answer, bytes):
                    answer = f"HTTP/1.1 {answer[0]} X\r\nA: b\r\n\r\n{json.dumps(answer[1])}".encode()
                connection.sendall(answer)


class OpenVpn:
    """What OpenVPN hands over, and the files that it looks into."""

    def __init__(self, place: Path, service: Service) -> None:
        self.place = place
        self.service = service
        self.environment = {"untrusted_ip": "192.0.2.7", "PATH": "/usr/bin:/bin"}
        for name in ("auth_control_file", "auth_pending_file", "auth_failed_reason_file"):
            (place / name).touch()
            self.environment[name] = str(place / name)
        self.said = ""

    def run(self, *options: str, text: str | bytes = "alice\nhorse\n", **environment: str) -> int:
        """The exit status, for what a client has sent."""
        file = self.place / "up"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        command = [sys.executable, "-c", RUN, str(CHECKOUT), str(self.place / "socket"), *options, str(file)]
        errors = self.place / "errors"
        with errors.open("wb") as stream:
            done = subprocess.run(command, env={**self.environment, **environment}, stderr=stream, check=False)
        self.said = errors.read_text()
        return done.returncode

    def file(self, name: str) -> str:
        return (self.place / name).read_text()

    @property
    def control(self) -> str:
        return self.file("auth_control_file")

    def checks(self, *, right: bool = True) -> tuple[str, str]:
        """The option with a program that finds every password right, or wrong, and notes what it was given."""
        program = self.place / "program"
        program.write_text(f"#!/bin/sh\ncat >{self.place}/given\nexit {0 if right else 1}\n")
        program.chmod(0o755)
        return ("--password", str(program))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "socket")
    yield service
    service.socket.shutdown(socket.SHUT_RDWR)
    service.socket.close()


@pytest.fixture
def vpn(tmp_path: Path, service: Service) -> OpenVpn:
    return OpenVpn(tmp_path, service)


def scrv1(password: str, code: str) -> str:
    return "SCRV1:" + ":".join(base64.b64encode(each.encode()).decode() for each in (password, code))


@pytest.mark.parametrize(
    ("field", "one_field", "password", "code"),
    [
        ("horse", False, "horse", ""),
        ("horse123456", False, "horse123456", ""),
        ("horse123456", True, "horse", "123456"),
        ("horse", True, "horse", ""),
        ("123456", True, "", "123456"),
        ("horse\u0661\u0662\u0663\u0664\u0665\u0666", True, "horse\u0661\u0662\u0663\u0664\u0665\u0666", ""),
        (scrv1("horse", "123456"), False, "horse", "123456"),
        (scrv1("pa:ss", ""), False, "pa:ss", ""),
        (scrv1("horse654321", "123456"), True, "horse654321", "123456"),
    ],
)
def test_password_and_code_are_taken_apart(field: str, one_field: bool, password: str, code: str) -> None:
    client = openvpn.Client(f"alice\n{field}\nmore", {}, one_field)
    assert (client.user, client.password, client.code) == ("alice", password, code)


@pytest.mark.parametrize(
    "field", ["SCRV1:", "SCRV1:aG9yc2U=", "SCRV1:a:b", "SCRV1:aG9yc2U=:MTIz:MTIz", "SCRV1:/w==:MTIz"]
)
def test_a_broken_answer_to_a_challenge_is_an_error(field: str) -> None:
    with pytest.raises(openvpn.OpenVpnError):
        openvpn.Client(f"alice\n{field}\n", {}, False)


@pytest.mark.parametrize(
    ("environment", "source"),
    [({"untrusted_ip": "192.0.2.7"}, "192.0.2.7"), ({"untrusted_ip6": "2001:db8::7"}, "2001:db8::7"), ({}, "")],
)
def test_the_source_is_the_client_s_address(environment: dict[str, str], source: str) -> None:
    assert openvpn.Client("alice\nhorse\n", environment, False).source == source


def test_a_certificate_and_a_right_code_let_in_and_a_wrong_code_does_not(vpn: OpenVpn) -> None:
    vpn.service.answer = YES
    assert vpn.run("--certificate", text="alice\n123456\n", X509_0_CN="alice") == ACCEPTED
    assert vpn.control == "1"
    assert vpn.service.asked == [("/v1/verify", {"user": "alice", "source": "192.0.2.7", "code": "123456"})]
    vpn.service.answer = NO
    assert vpn.run("--certificate", text=f"alice\n{scrv1('', '123456')}\n", X509_0_CN="alice") == REFUSED
    assert (vpn.control, vpn.file("auth_failed_reason_file")) == ("0", "That code was not accepted.")


@pytest.mark.parametrize("certificate", [{}, {"X509_0_CN": ""}, {"X509_0_CN": "bob"}, {"X509_0_CN": "Alice"}])
def test_the_certificate_of_another_or_none_is_refused_before_anything_is_asked(
    vpn: OpenVpn, certificate: dict[str, str]
) -> None:
    vpn.service.answer = YES
    assert vpn.run("--certificate", text="alice\n123456\n", **certificate) == REFUSED
    assert vpn.run("--certificate", text="\n123456\n", **certificate) == REFUSED
    assert (vpn.control, vpn.service.asked) == ("0", [])


def test_the_program_gets_name_and_password_and_decides_before_anything_is_asked(vpn: OpenVpn) -> None:
    vpn.service.answer = YES
    assert vpn.run(*vpn.checks(right=False), text=f"alice\n{scrv1('horse', '123456')}\n") == REFUSED
    assert (vpn.control, vpn.service.asked, vpn.file("given")) == ("0", [], "alice\nhorse\n")
    assert vpn.run(*vpn.checks(), text=f"alice\n{scrv1('horse', '123456')}\n") == ACCEPTED
    assert vpn.run(*vpn.checks(), "--one-field", text="alice\nhorse654321\n") == ACCEPTED
    assert [fields["code"] for _, fields in vpn.service.asked] == ["123456", "654321"]


def test_an_empty_password_is_refused_without_the_program(vpn: OpenVpn) -> None:
    # Some directories let everybody in who shows none.
    vpn.service.answer = YES
    for text in ("alice\n\n", "alice\n123456\n", f"alice\n{scrv1('', '123456')}\n", "alice"):
        assert vpn.run(*vpn.checks(), "--one-field", text=text) == REFUSED
    assert not (vpn.place / "given").exists()
    assert vpn.service.asked == []


def test_a_program_that_is_not_there_refuses(vpn: OpenVpn) -> None:
    vpn.service.answer = YES
    assert vpn.run("--password", "/nonexistent") == REFUSED
    assert (vpn.control, vpn.service.asked) == ("0", [])
    assert "/nonexistent is not there" in vpn.said


def test_who_needs_no_code_is_let_in_with_the_password(vpn: OpenVpn) -> None:
    vpn.service.answer = SKIP
    assert vpn.run(*vpn.checks()) == ACCEPTED
    assert vpn.service.asked == [("/v1/start", {"user": "alice", "source": "192.0.2.7"})]


def test_a_client_that_can_be_asked_is_asked_and_its_answer_decides(vpn: OpenVpn) -> None:
    vpn.service.answer = ASK
    assert vpn.run(*vpn.checks(), IV_SSO="openurl,webauth,crtext") == LATER
    assert vpn.file("auth_pending_file") == "180\ncrtext\nCR_TEXT:R:Verification code:\n"
    assert vpn.control == "asked 1state"  # neither yes nor no
    for answer, control in ((YES, "1"), (NO, "0")):
        (vpn.place / "auth_control_file").write_text("asked 1state")
        vpn.service.answer = answer
        assert vpn.run("--answer", text=base64.b64encode(b"123456") + b"\n") == 0
        assert vpn.control == control
        assert vpn.service.asked[-1] == ("/v1/verify", {"state": "1state", "code": "123456"})
        assert not (vpn.place / "up").exists()  # the code


@pytest.mark.parametrize("control", ["", "0", "1", "state"])
def test_an_answer_to_no_question_is_not_looked_at(vpn: OpenVpn, control: str) -> None:
    # Else a client that shows no password could answer before it is refused.
    (vpn.place / "auth_control_file").write_text(control)
    vpn.service.answer = YES
    vpn.run("--answer", text=base64.b64encode(b"123456"))
    assert (vpn.control, vpn.service.asked) == (control, [])


def test_an_answer_that_is_not_base64_is_refused(vpn: OpenVpn) -> None:
    (vpn.place / "auth_control_file").write_text("asked 1state")
    vpn.service.answer = YES
    vpn.run("--answer", text="123456!\n")
    assert (vpn.control, vpn.service.asked) == ("0", [])


def test_a_client_that_cannot_be_asked_is_told_that_a_code_is_missing(vpn: OpenVpn) -> None:
    vpn.service.answer = ASK
    assert vpn.run(*vpn.checks(), IV_SSO="openurl") == REFUSED
    assert vpn.control == "0"
    assert "A code is needed" in vpn.file("auth_failed_reason_file")


def test_one_who_has_to_wait_is_told_so_in_one_line(vpn: OpenVpn) -> None:
    vpn.service.answer = (403, {"action": "refuse", "message": "Wait 30 seconds.\nThen try again."})
    assert vpn.run(*vpn.checks(), IV_SSO="crtext") == REFUSED
    assert vpn.file("auth_failed_reason_file") == "Wait 30 seconds. Then try again."


def test_a_question_of_two_lines_is_put_in_one(vpn: OpenVpn) -> None:
    # The one who has to wait may type a recovery code.
    vpn.service.answer = (200, {**ASK[1], "prompt": "Wait. Or type a recovery code.\nRecovery code: "})
    assert vpn.run(*vpn.checks(), IV_SSO="crtext") == LATER
    assert vpn.file("auth_pending_file").splitlines()[2] == "CR_TEXT:R:Wait. Or type a recovery code. Recovery code:"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\n[true]",
        b"200\r\n\r\n{}",
        b"\xff\r\n\r\n\xff",
        (200, {"result": False}),
        (200, {"result": "true"}),
        (200, {"result": 1}),
        (200, {}),
        (204, {"result": True}),
        (403, {"result": True}),
        (503, {"result": True, "action": "skip"}),
        (401, {"error": "no such token"}),
    ],
)
def test_whatever_is_not_a_yes_refuses(vpn: OpenVpn, answer: tuple[int, Any] | bytes) -> None:
    vpn.service.answer = answer
    assert vpn.run("--certificate", text="alice\n123456\n", X509_0_CN="alice") == REFUSED
    assert vpn.run("--certificate", text="alice\n\n", X509_0_CN="alice") == REFUSED
    assert vpn.control == "0"


def test_without_the_service_nobody_gets_in(vpn: OpenVpn) -> None:
    (vpn.place / "socket").unlink()
    assert vpn.run("--certificate", text="alice\n123456\n", X509_0_CN="alice") == REFUSED
    assert vpn.control == "0"
    assert "does not answer" in vpn.said
    assert "pam-totp verify enable" in vpn.said


def test_openvpn_does_not_wait_longer_than_a_second_and_finds_the_answer_later(vpn: OpenVpn) -> None:
    vpn.service.answer = YES
    vpn.service.ready.clear()
    assert vpn.run("--certificate", text="alice\n123456\n", X509_0_CN="alice") == LATER
    assert vpn.control == ""
    vpn.service.ready.set()
    until(lambda: vpn.control == "1")


def test_a_question_that_comes_too_late_is_a_refusal(vpn: OpenVpn) -> None:
    vpn.service.answer = ASK
    vpn.service.ready.clear()
    assert vpn.run(*vpn.checks(), IV_SSO="crtext") == LATER
    vpn.service.ready.set()
    until(lambda: vpn.control == "0")


def test_nothing_is_written_for_a_connection_that_is_gone(vpn: OpenVpn) -> None:
    for name in ("auth_control_file", "auth_failed_reason_file"):
        (vpn.place / name).unlink()
    assert vpn.run("--certificate", text="alice\n123456\n", X509_0_CN="alice") == REFUSED
    assert not (vpn.place / "auth_control_file").exists()


def test_the_token_is_shown(vpn: OpenVpn) -> None:
    (vpn.place / "token").write_text("vpn.abc\n")
    vpn.service.answer = YES
    arguments = ("--certificate", "--token", str(vpn.place / "token"))
    assert vpn.run(*arguments, text="alice\n123456\n", X509_0_CN="alice") == ACCEPTED
    assert "Authorization: Bearer vpn.abc" in vpn.service.heads


@pytest.mark.parametrize("token", [None, "", "two words", "two\nlines", "\xff"])
def test_a_token_that_is_none_refuses(vpn: OpenVpn, token: str | None) -> None:
    if token is not None:
        (vpn.place / "token").write_text(token)
    vpn.service.answer = YES
    arguments = ("--certificate", "--token", str(vpn.place / "token"))
    assert vpn.run(*arguments, text="alice\n123456\n", X509_0_CN="alice") == REFUSED
    assert (vpn.control, vpn.service.asked) == ("0", [])


@pytest.mark.parametrize("text", [b"alice\nhorse\xff123456\n", b"\xff\nx\n"])
def test_what_a_client_types_is_never_logged(vpn: OpenVpn, text: bytes) -> None:
    assert vpn.run(*vpn.checks(), text=text) == REFUSED
    assert vpn.said == "openvpn-verify: what OpenVPN handed over is not understood\n"
    vpn.run(*vpn.checks(right=False), text=f"alice\n{scrv1('horse', '123456')}\n")
    assert "horse" not in vpn.said
    assert "123456" not in vpn.said


@pytest.mark.parametrize("options", [(), ("--certificate", "--password", "/bin/true"), ("--answer", "--certificate")])
def test_without_one_first_factor_nobody_gets_in(vpn: OpenVpn, options: tuple[str, ...]) -> None:
    vpn.service.answer = YES
    assert vpn.run(*options, X509_0_CN="alice") not in (ACCEPTED, LATER) or vpn.control == ""
    assert vpn.service.asked == []


def test_an_older_openvpn_is_refused(vpn: OpenVpn) -> None:
    del vpn.environment["auth_control_file"]
    assert vpn.run("--certificate", text="alice\n123456\n", X509_0_CN="alice") == REFUSED
    assert "OpenVPN 2.6" in vpn.said


def until(true: Any) -> None:
    """Wait for something that a process of its own does."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_launcher_is_isolated_and_runs_the_module() -> None:
    launcher = CHECKOUT / "debian/openvpn-verify"
    first, *rest = launcher.read_text().splitlines()
    assert first == "#!/usr/bin/python3 -I"
    assert "from pam_totp.verify.openvpn import main" in rest
    assert os.access(launcher, os.X_OK)
