"""The helper's side of the connection: what it takes for a request, and what becomes of one that breaks off."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import syslog
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_totp.engine import helper, pam_entry
from tests.unit.module import Wire, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pam_totp.engine.pam_entry import Transaction

REQUEST = request("auth", b"sshd", b"alice", b"sshd", b"192.0.2.7", None, None)


@pytest.fixture(autouse=True)
def own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The helper takes its caller's name."""
    monkeypatch.setattr(sys, "argv", sys.argv)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The module's end of a connection, and the helper's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


Ends = tuple[socket.socket, socket.socket]
CHECKOUT = Path(__file__).parents[3]


def answer_with(monkeypatch: pytest.MonkeyPatch, *, result: str = "PAM_SUCCESS", kept: str | None = None) -> list[str]:
    """Have the hook ask once, tell once, and end with a result; what it was given is in the list."""
    seen: list[str] = []

    def hook(transaction: Transaction, words: list[str]) -> str:
        asked = transaction.request()
        seen.extend([asked.user, asked.service, asked.rhost, str(asked.auth_info), str(transaction.kept), *words])
        seen.append(str(transaction.ask("Code: ", echo=False)))
        transaction.tell("Thank you.")
        if kept is not None:
            transaction.kept = kept
        return result

    monkeypatch.setattr(pam_entry, "authenticate", hook)
    return seen


def served(
    ends: Ends, *messages: tuple[bytes, bytes], alarm: helper.Alarm = lambda _: None
) -> list[tuple[bytes, bytes]]:
    """Have the helper serve what is sent at once; everything that it says."""
    ours, theirs = ends
    for message in messages:
        Wire(ours).send(*message)
    ours.shutdown(socket.SHUT_WR)
    helper.serve(theirs.fileno(), alarm)
    theirs.close()
    said = []
    while (message := Wire(ours).receive()) != (b"", b""):
        said.append(message)
    return said


def test_a_request_is_asked_about_answered_and_ends_with_its_result(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = answer_with(monkeypatch)
    text = request("auth", b"su", b"alice", b"su", None, b"publickey x y\n", b"split 1", b"combined=verify", b"")
    assert served(ends, (b"Q", text), (b"A", b"123456"), (b"D", b"")) == [
        (b"P", b"Code: "),
        (b"I", b"Thank you."),
        (b"R", b"PAM_SUCCESS\0split 1"),
    ]
    assert seen == ["alice", "su", "", "publickey x y\n", "split 1", "combined=verify", "", "123456"]
    assert sys.argv == ["su"]


def test_what_an_answer_needs_is_imported_while_the_user_types(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bytes, bytes]] = []

    def get_ready() -> None:
        asked.append(Wire(ends[0]).receive())
        Wire(ends[0]).send(b"A", b"123456")
        Wire(ends[0]).send(b"D")

    seen = answer_with(monkeypatch)
    monkeypatch.setattr(pam_entry, "get_ready", get_ready)
    Wire(ends[0]).send(b"Q", REQUEST)
    helper.serve(ends[1].fileno(), lambda _: None)
    assert asked == [(b"P", b"Code: ")]
    assert seen[-1] == "123456"


@pytest.mark.parametrize(("passed", "told"), [(None, "None"), (b"", ""), (b"password\n", "password\n")])
def test_whether_no_key_has_passed_or_nothing_is_known_is_told_apart(
    passed: bytes | None, told: str, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = answer_with(monkeypatch)
    text = request("auth", b"sshd", b"alice", b"sshd", b"192.0.2.7", passed, None)
    served(ends, (b"Q", text), (b"A", b"123456"), (b"D", b""))
    assert seen[3] == told


def test_what_a_line_keeps_goes_back_with_the_result_alone(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, result="PAM_IGNORE", kept="split 123456")
    said = served(ends, (b"Q", REQUEST), (b"A", b"x"), (b"D", b""))
    assert said[-1] == (b"R", b"PAM_IGNORE\0split 123456")


@pytest.mark.parametrize(
    "program",
    [
        b"sshd: pam_totp(sshd:auth): user=root service=sshd rhost=192.0.2.7 outcome=refused",
        b"su\nsshd",
        b"su[1]",
        b"",
        b"-",
        "s\u00fc".encode(),
        b"s" * 33,
    ],
)
def test_a_user_who_names_su_otherwise_forges_nothing_in_the_log(
    program: bytes, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = ends
    monkeypatch.setattr(pam_entry, "authenticate", lambda *_: "PAM_AUTH_ERR")
    Wire(ours).send(b"Q", request("auth", program, b"alice", b"su", None, None, None))
    helper.serve(theirs.fileno(), lambda _: None)
    assert sys.argv == ["pam_totp"]


def test_a_program_that_is_gone_while_the_user_is_asked_has_given_no_answer(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = answer_with(monkeypatch)
    assert served(ends, (b"Q", REQUEST))[-1] == (b"R", b"PAM_SUCCESS")
    assert seen[-1] == "None"


def test_a_program_that_is_gone_before_the_result_is_no_failure_of_the_helper(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = ends
    seen = answer_with(monkeypatch)
    Wire(ours).send(b"Q", REQUEST)
    ours.close()
    helper.serve(theirs.fileno(), lambda _: None)
    assert seen[-1] == "None"


@pytest.mark.parametrize("reply", [(b"N", b""), (b"D", b""), (b"A", b"\xff"), (b"?", b"123456")])
def test_what_is_no_answer_is_none(ends: Ends, reply: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = answer_with(monkeypatch)
    served(ends, (b"Q", REQUEST), reply, (b"D", b""))
    assert seen[-1] == "None"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        REQUEST[:-1],
        REQUEST + b"x\0",
        REQUEST + b"\0",
        request("auth"),
        request("auth", b"sshd", b"alice"),
        request("auth", None, b"alice", b"sshd", None, None, None),
        request("setcred", b"sshd", b"alice", b"sshd", None, None, None),
        request("auth", b"sshd", b"alice", b"sshd", None, None, b"\xff"),
    ],
)
def test_what_is_no_request_has_no_result(ends: Ends, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch)
    with pytest.raises(ValueError):  # noqa: PT011  # its texts are nobody's business
        served(ends, (b"Q", text))


@pytest.mark.parametrize("head", [b"", b"\1", b"\1Q\0\5", b"\2Q\0\0", b"GET / HTTP/1.0\r\n\r\n", b"\0\0\0\0"])
def test_what_is_no_message_has_no_result(ends: Ends, head: bytes) -> None:
    ours, theirs = ends
    ours.sendall(head)
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises((ValueError, OSError)):
        helper.serve(theirs.fileno(), lambda _: None)


def test_a_message_that_is_too_long_is_not_cut_but_refused(ends: Ends) -> None:
    channel = helper.Channel(ends[1].fileno(), lambda _: None)
    with pytest.raises(ValueError, match="too long"):
        channel.send(b"I", b"x" * (helper.LONGEST + 1))
    caller = helper.Caller(channel, [b"alice", None, None, None], None)
    caller.tell("x" * (helper.LONGEST + 1))
    ends[1].shutdown(socket.SHUT_WR)
    assert ends[0].recv(1) == b""


def test_a_long_message_arrives_whole_through_a_small_buffer(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []

    def authenticate(transaction: pam_entry.Transaction, _: list[str]) -> str:
        answers.append(transaction.ask("x" * 60_000, echo=True))
        return "PAM_AUTH_ERR"

    monkeypatch.setattr(pam_entry, "authenticate", authenticate)
    ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    import threading

    Wire(ends[0]).send(b"Q", REQUEST)
    thread = threading.Thread(target=helper.serve, args=(ends[1].fileno(), lambda _: None))
    thread.start()
    assert Wire(ends[0]).receive() == (b"E", b"x" * 60_000)
    Wire(ends[0]).send(b"A", b"y" * 60_000)
    thread.join()
    assert answers == ["y" * 60_000]
    assert Wire(ends[0]).receive() == (b"R", b"PAM_AUTH_ERR")


def test_what_is_none_of_the_results_is_not_sent_so_that_the_module_denies_and_says_so(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pam_entry, "authenticate", lambda *_: pam_entry.failed(ValueError()))
    monkeypatch.setattr("pam_totp.login.log.internal_error", lambda *_: 1 / 0)
    Wire(ends[0]).send(b"Q", REQUEST)
    helper.serve(ends[1].fileno(), lambda _: None)
    with pytest.raises(BlockingIOError):
        ends[0].recv(1, socket.MSG_DONTWAIT)


def test_there_is_no_limit_while_the_user_types_and_one_for_all_else(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with(monkeypatch)
    limits: list[int] = []
    served(ends, (b"Q", REQUEST), (b"A", b"1"), (b"D", b""), alarm=limits.append)
    assert [limit == 0 for limit in limits] == [False, True, False, True, False]


class Ended(BaseException):
    pass


@pytest.mark.parametrize("kind", [ValueError, OSError, SystemExit, KeyboardInterrupt, MemoryError])
def test_whatever_goes_wrong_ends_the_process_without_a_result_and_is_logged(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch, journal: list[tuple[int, str]]
) -> None:
    def serve(*_: object) -> None:
        raise kind("the marker of a secret")

    def end(status: int) -> None:
        raise Ended(status)

    monkeypatch.setattr(helper, "serve", serve)
    monkeypatch.setattr("posix._exit", end)
    with pytest.raises(Ended):
        helper.main()
    assert journal[-1][0] == syslog.LOG_AUTHPRIV | syslog.LOG_ERR
    assert f'reason=internal-error detail="{kind.__name__} at' in journal[-1][1]
    assert "marker" not in journal[-1][1]


def test_a_process_that_hangs_ends_by_itself(ends: Ends) -> None:
    program = f"import sys; sys.path.append({str(CHECKOUT)!r}); from pam_totp.engine import helper; helper.PATIENCE = 1"
    with subprocess.Popen(
        [
            "bash",
            "-c",
            f'exec /usr/bin/python3 -I -S -c "$1" 3<&{ends[1].fileno()}',
            "bash",
            f"{program}; helper.main()",
        ],
        pass_fds=(ends[1].fileno(),),
        env={},
    ) as process:
        assert process.wait(timeout=10) == -signal.SIGALRM
