"""The hooks: every outcome has its PAM code, and whatever else happens denies."""

from __future__ import annotations

import ast
import gc
import inspect
import os
import runpy
import sys
import syslog
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

import pam_totp.login
from pam_totp import factors
from pam_totp.cache.accounts import ACTIVE
from pam_totp.engine import pam_entry, pam_python
from pam_totp.host import clock
from pam_totp.host import stack as stacks
from pam_totp.host.paths import Paths
from pam_totp.login import login
from pam_totp.login.attempt import Outcome
from tests.unit import module
from tests.unit.pamh import NOT_TEXT, PAM_ERROR, Pamh, Raises
from tests.unit.pretend import ALICE, HERE, STEP, Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pam_totp.login.attempt import Verdict

SCRIPT = "pam_totp.py"
CHECKOUT = Path(__file__).parents[3]
KEY = {"SSH_AUTH_INFO_0": "publickey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGQq\n"}
CODES: dict[Verdict, int] = {
    "accepted": Pamh.PAM_SUCCESS,
    "skipped": Pamh.PAM_IGNORE,
    "refused": Pamh.PAM_AUTH_ERR,
    "unknown-user": Pamh.PAM_USER_UNKNOWN,
    "no-answer": Pamh.PAM_CONV_ERR,
    "unavailable": Pamh.PAM_AUTHINFO_UNAVAIL,
    "misconfigured": Pamh.PAM_SERVICE_ERR,
}
Journal = list[tuple[int, str]]


@pytest.fixture(autouse=True)
def here(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """The host whose files and clock the hooks use."""
    names = inspect.getfullargspec(Paths.__init__).args[1:]
    monkeypatch.setattr(Paths.__init__, "__defaults__", tuple(getattr(host.paths, name) for name in names))
    monkeypatch.setattr(clock, "now", host.now)
    yield host
    gc.enable()  # a hook turns it off: its interpreter ends with the login, this one does not


@pytest.fixture(params=["pam_totp", "pam_python"], autouse=True)
def engine_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test with both adapters: the helper of our own engine over a socket, and pam_python's handle."""
    name: str = request.param
    if name == "pam_totp":
        monkeypatch.setattr(sys, "argv", sys.argv)  # the helper takes its caller's name
        monkeypatch.setitem(HOOKS, "auth", lambda pamh, words: module.call(pamh, "auth", words))
        monkeypatch.setitem(HOOKS, "account", lambda pamh, words: module.call(pamh, "account", words))
    return name


HOOKS: dict[str, Callable[[Pamh, list[str]], object]] = {
    "auth": lambda pamh, words: pam_python.pam_sm_authenticate(pamh, 0, [SCRIPT, *words]),
    "account": lambda pamh, words: pam_python.pam_sm_acct_mgmt(pamh, 0, [SCRIPT, *words]),
}


def authenticate(pamh: Pamh, *words: str) -> object:
    code = HOOKS["auth"](pamh, list(words))
    assert pamh.unexpected == []
    assert pamh.answers == []
    return code


def end_with(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Outcome]) -> None:
    monkeypatch.setattr(login, "attempt", lambda *_: act())


def fail(error: BaseException) -> Outcome:
    raise error


def last(journal: Journal) -> tuple[int, str]:
    priority, line = journal[-1]
    assert priority & ~7 == syslog.LOG_AUTHPRIV
    return priority & 7, line


# Real attempts


def test_a_right_code_is_a_success_and_one_line_in_the_log(host: Host, journal: Journal) -> None:
    secret = host.enroll()
    pamh = Pamh("alice", host.code(secret))
    assert authenticate(pamh) == Pamh.PAM_SUCCESS
    assert (pamh.asked, pamh.told) == (["Verification code: "], [])
    with host.accounts() as accounts:
        assert accounts.events("alice", 9) == []
    expected = f"pam_totp(sshd:auth): user=alice service=sshd rhost={HERE} outcome=accepted reason=code"
    assert journal == [(syslog.LOG_AUTHPRIV | syslog.LOG_INFO, expected)]


def test_as_many_refusals_are_kept_as_configured(host: Host) -> None:
    host.enroll()
    host.configure("refusals = 16\n")
    for _ in range(20):
        authenticate(Pamh("alice", "no code"))
    with host.accounts() as accounts:
        assert len(accounts.events("alice")) == 16


def test_a_wrong_code_is_refused_logged_and_kept_for_the_status(host: Host, journal: Journal) -> None:
    secret = host.enroll()
    wrong = host.wrong(secret)
    pamh = Pamh("alice", wrong)
    assert authenticate(pamh) == Pamh.PAM_AUTH_ERR
    assert pamh.told == ["That code was not accepted."]
    expected = f"user=alice service=sshd rhost={HERE} outcome=refused reason=wrong-code" + ' detail="1 wrong in a row"'
    assert journal == [(syslog.LOG_AUTHPRIV | syslog.LOG_NOTICE, f"pam_totp(sshd:auth): {expected}")]
    with host.accounts() as accounts:
        assert accounts.events("alice", 9) == [(int(host.wall), expected)]


def test_who_is_not_enrolled_is_passed_over(journal: Journal) -> None:
    pamh = Pamh("bob")
    assert authenticate(pamh) == Pamh.PAM_IGNORE
    assert pamh.asked == []
    assert "user=bob" in journal[0][1]
    assert "outcome=skipped reason=not-enrolled" in journal[0][1]


def test_a_user_unknown_to_nss_is_unknown_and_nothing_is_kept(host: Host, journal: Journal) -> None:
    assert authenticate(Pamh("mallory")) == Pamh.PAM_USER_UNKNOWN
    assert last(journal)[1].endswith(
        "user=mallory service=sshd rhost=192.0.2.7 outcome=unknown-user reason=unknown-user"
    )
    with host.accounts() as accounts:
        assert accounts.events("mallory", 9) == []


def test_a_broken_cache_is_unavailable_and_an_error_in_the_log(host: Host, journal: Journal) -> None:
    host.enroll()
    os.unlink(host.paths.cache)
    assert authenticate(Pamh("alice")) == Pamh.PAM_AUTHINFO_UNAVAIL
    priority, line = last(journal)
    assert priority == syslog.LOG_ERR
    assert "outcome=unavailable reason=cache-missing" in line


@pytest.mark.parametrize("user", ["alice", "bob", "mallory"])
def test_where_a_key_is_demanded_nobody_passes_without_one(user: str, host: Host, journal: Journal) -> None:
    host.enroll()
    assert authenticate(Pamh(user), "first_factor=publickey") == Pamh.PAM_AUTH_ERR
    assert (
        authenticate(Pamh(user, env={"SSH_AUTH_INFO_0": "password\n"}), "first_factor=publickey") == Pamh.PAM_AUTH_ERR
    )
    assert "reason=no-public-key" in last(journal)[1]


def test_with_a_key_the_code_decides(host: Host) -> None:
    secret = host.enroll()
    assert authenticate(Pamh("alice", host.code(secret), env=KEY), "first_factor=publickey") == Pamh.PAM_SUCCESS
    assert authenticate(Pamh("alice", host.code(secret), env=KEY), "first_factor=publickey") == Pamh.PAM_AUTH_ERR
    assert authenticate(Pamh("bob", env=KEY), "first_factor=publickey") == Pamh.PAM_IGNORE


@pytest.mark.parametrize("words", [["nullok"], ["first_factor=password"], ["first_factor=publickey", "x"], [""]])
def test_an_unknown_argument_is_an_error_for_everybody(words: list[str], journal: Journal) -> None:
    for user in ("alice", "bob", "mallory"):
        pamh = Pamh(user, env=KEY)
        assert authenticate(pamh, *words) == Pamh.PAM_SERVICE_ERR
        assert pamh.told == ["Verification codes cannot be checked here now: tell your administrator."]
        priority, line = last(journal)
        assert priority == syslog.LOG_ERR
        assert f"user={user} service=sshd rhost={HERE} outcome=misconfigured reason=bad-config" in line


def test_the_user_is_told_of_wrong_codes_after_a_success(host: Host) -> None:
    secret = host.enroll()
    authenticate(Pamh("alice", host.wrong(secret)))
    pamh = Pamh("alice", host.code(secret))
    assert authenticate(pamh) == Pamh.PAM_SUCCESS
    assert pamh.told == [f"There was 1 wrong code since your last login, the last from {HERE}."]


# Outcomes and codes


@pytest.mark.parametrize("verdict", CODES)
def test_every_verdict_has_its_code_and_only_two_let_anybody_in(
    verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_with(monkeypatch, lambda: Outcome(verdict, "reason"))
    assert authenticate(Pamh()) == CODES[verdict]
    assert (CODES[verdict] in (Pamh.PAM_SUCCESS, Pamh.PAM_IGNORE)) == (verdict in ("accepted", "skipped"))


def test_a_verdict_without_a_code_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    end_with(monkeypatch, lambda: Outcome("unforeseen", "reason"))  # type: ignore[arg-type]  # that is the point
    assert authenticate(Pamh()) == Pamh.PAM_SERVICE_ERR


@pytest.mark.parametrize("nothing", [None, True, 0, "accepted", "PAM_SUCCESS"])
def test_what_is_no_outcome_denies(nothing: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "attempt", lambda *_: nothing)
    assert authenticate(Pamh()) == Pamh.PAM_SERVICE_ERR


@pytest.mark.parametrize(
    ("verdict", "detail", "priority"),
    [
        ("accepted", "", syslog.LOG_INFO),
        ("skipped", "", syslog.LOG_INFO),
        ("accepted", "recorded in /run only", syslog.LOG_NOTICE),
        ("skipped", "stale record", syslog.LOG_NOTICE),
        ("refused", "", syslog.LOG_NOTICE),
        ("unknown-user", "", syslog.LOG_NOTICE),
        ("no-answer", "", syslog.LOG_NOTICE),
        ("unavailable", "", syslog.LOG_ERR),
        ("misconfigured", "", syslog.LOG_ERR),
    ],
)
def test_what_needs_an_administrator_has_a_higher_priority(
    verdict: Verdict, detail: str, priority: int, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    end_with(monkeypatch, lambda: Outcome(verdict, "reason", detail))
    authenticate(Pamh())
    assert last(journal)[0] == priority


class Odd(BaseException):
    pass


ERRORS = [
    ValueError,
    KeyError,
    AttributeError,
    OSError,
    MemoryError,
    RecursionError,
    SystemExit,
    KeyboardInterrupt,
    Odd,
]


@pytest.mark.parametrize("kind", ERRORS)
def test_any_exception_denies_and_its_text_is_not_logged(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    end_with(monkeypatch, lambda: fail(kind("the marker of a secret")))
    assert authenticate(Pamh()) == Pamh.PAM_SERVICE_ERR
    priority, line = last(journal)
    assert priority == syslog.LOG_ERR
    assert line.startswith(f'pam_totp(-:auth): outcome=error reason=internal-error detail="{kind.__name__} at ')
    assert "marker" not in line


@pytest.mark.parametrize("kind", ERRORS)
def test_an_exception_while_logging_denies_also_what_was_accepted(
    kind: type[BaseException], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = host.enroll()
    monkeypatch.setattr(syslog, "syslog", lambda *_: fail(kind()))
    assert authenticate(Pamh("alice", host.code(secret))) == Pamh.PAM_SERVICE_ERR
    assert authenticate(Pamh("bob")) == Pamh.PAM_SERVICE_ERR


def test_a_refusal_that_cannot_be_kept_is_a_refusal(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.enroll()
    end_with(monkeypatch, lambda: Outcome("refused", "wrong-code", account="alice"))
    os.chmod(host.paths.cache, 0o666)
    assert authenticate(Pamh()) == Pamh.PAM_AUTH_ERR


# What PAM hands over


@pytest.mark.parametrize("where", ["user", "service", "rhost", "env"])
@pytest.mark.parametrize("words", [[], ["first_factor=publickey"]])
def test_what_is_not_utf_8_denies(where: str, words: list[str], host: Host, journal: Journal) -> None:
    host.enroll()
    pamh = {
        "user": Pamh(NOT_TEXT, env=KEY),
        "service": Pamh(service=NOT_TEXT, env=KEY),
        "rhost": Pamh(rhost=NOT_TEXT, env=KEY),
        "env": Pamh(env={"SSH_AUTH_INFO_0": NOT_TEXT}),
    }[where]
    assert authenticate(pamh, *words) == Pamh.PAM_USER_UNKNOWN
    assert "outcome=unknown-user" in last(journal)[1]


@pytest.mark.parametrize("where", ["user", "service", "rhost", "env"])
def test_what_pam_does_not_hand_over_denies(where: str, engine_here: str) -> None:
    pamh = {
        "user": Pamh(PAM_ERROR),
        "service": Pamh(service=PAM_ERROR),
        "rhost": Pamh(rhost=PAM_ERROR),
        "env": Pamh(env={"SSH_AUTH_INFO_0": PAM_ERROR}),
    }[where]
    # Our own engine does not get this far with anything but the name.
    if where == "user" or engine_here == "pam_python":
        assert authenticate(pamh) == Pamh.PAM_CONV_ERR


def test_without_a_name_nobody_is_known(journal: Journal) -> None:
    assert authenticate(Pamh("", service=None, rhost=None)) == Pamh.PAM_USER_UNKNOWN
    assert last(journal)[1] == "pam_totp(-:auth): user=- service=- rhost=- outcome=unknown-user reason=unknown-user"


@pytest.mark.parametrize("env", [{}, {"SSH_AUTH_INFO_0": ""}, {"SSH_AUTH_INFO_0": None}, {"SSH_AUTH_INFO_0": 5}])
def test_without_words_about_keys_no_key_has_passed(env: Mapping[str, object]) -> None:
    assert authenticate(Pamh(env=env), "first_factor=publickey") == Pamh.PAM_AUTH_ERR


@pytest.mark.parametrize(
    ("env", "asked"),
    [
        *(({"SSH_AUTH_INFO_0": text}, False) for text in ("", "password\n")),
        *(({"SSH_AUTH_INFO_0": text}, True) for text in ("publickey ssh-ed25519 AAAA\n", "publickey\n")),
        ({}, True),
    ],
)
def test_where_nothing_is_said_about_keys_a_rule_that_names_keys_may_apply(
    env: Mapping[str, object], asked: bool, host: Host
) -> None:
    host.enroll()
    host.configure('[[rule]]\nkeys = ["any"]\n[[rule]]\nmfa = "skip"\n')
    if asked:
        assert authenticate(Pamh("alice", None, env=env)) == Pamh.PAM_CONV_ERR
    else:
        assert authenticate(Pamh("alice", env=env)) == Pamh.PAM_IGNORE


@pytest.mark.parametrize("answer", [None, PAM_ERROR, NOT_TEXT, b"123456", 123456, True])
def test_an_answer_that_is_none_ends_the_conversation(answer: object, host: Host, journal: Journal) -> None:
    host.enroll()
    assert authenticate(Pamh("alice", answer)) == Pamh.PAM_CONV_ERR
    assert "outcome=no-answer" in last(journal)[1]
    assert host.account().ledger.row == 0


@pytest.mark.parametrize("deafness", [PAM_ERROR, NOT_TEXT])
def test_a_user_who_does_not_listen_changes_nothing(deafness: Raises, host: Host) -> None:
    secret = host.enroll()
    authenticate(Pamh("alice", host.wrong(secret)))
    assert authenticate(Pamh("alice", host.code(secret), deafness=deafness)) == Pamh.PAM_SUCCESS


def test_no_name_and_no_host_forges_a_line(passwd: object, journal: Journal) -> None:
    authenticate(Pamh("x\noutcome=accepted", rhost='" outcome=accepted'))
    [(_, line)] = journal
    assert line.count("outcome=") == 3
    assert 'user="x\\x0aoutcome=accepted"' in line
    assert 'rhost="\\x22 outcome=accepted"' in line


def test_no_code_and_no_secret_is_ever_logged_or_told(host: Host, journal: Journal) -> None:
    secret = host.enroll()
    answers = [
        host.code(secret),
        host.code(secret),
        host.code(secret, 5),
        host.wrong(secret),
        "correct horse battery",
        "12345",
    ]
    told: list[str] = []
    for number, answer in enumerate(answers):
        pamh = Pamh("alice", answer, rhost=f"192.0.2.{number}")
        authenticate(pamh)
        told += pamh.told
    with host.accounts() as accounts:
        events = [line for _, line in accounts.events("alice", 99)]
    text = "\n".join([*told, *events, *(line for _, line in journal)])
    assert len(journal) == len(answers)
    for marker in (*answers, secret.hex(), "correct"):
        assert marker not in text


@pytest.mark.parametrize("missing", ["login.evaluation", "factors.otp", "factors.recovery"])
def test_what_cannot_be_loaded_after_the_question_denies_says_so_and_charges_nobody(
    missing: str, host: Host, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = host.enroll()
    with monkeypatch.context() as broken:
        for each in ("login.evaluation", "factors.otp", "factors.recovery"):
            broken.delitem(sys.modules, f"pam_totp.{each}", raising=False)
        for package, name in ((pam_totp.login, "evaluation"), (factors, "otp"), (factors, "recovery")):
            broken.delattr(package, name, raising=False)
        broken.setitem(cast("dict[str, object]", sys.modules), f"pam_totp.{missing}", None)  # missing, to an import
        pamh = Pamh("alice", host.code(secret))
        assert HOOKS["auth"](pamh, []) == Pamh.PAM_SERVICE_ERR
        assert len(pamh.asked) == 1
        priority, line = last(journal)
        assert priority == syslog.LOG_ERR
        assert 'outcome=error reason=internal-error detail="ModuleNotFoundError at' in line
    assert host.account().ledger.row == 0
    assert authenticate(Pamh("alice", host.code(secret))) == Pamh.PAM_SUCCESS


# The other hooks


@pytest.mark.parametrize(
    ("hook", "phase"),
    [
        (pam_python.pam_sm_acct_mgmt, "account"),
        (pam_python.pam_sm_open_session, "session"),
        (pam_python.pam_sm_close_session, "session"),
        (pam_python.pam_sm_chauthtok, "password"),
    ],
)
@pytest.mark.parametrize("argv", [[], [SCRIPT], [SCRIPT, "first_factor=publickey"]])
def test_a_line_in_the_wrong_place_denies_and_says_so(
    hook: Callable[..., object], phase: str, argv: list[str], journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hook(Pamh(), 0, argv) == Pamh.PAM_SERVICE_ERR
    priority, line = last(journal)
    assert priority == syslog.LOG_ERR
    assert line.startswith(f"pam_totp(-:{phase}): outcome=misconfigured reason=misplaced detail=")
    assert f"remove pam_totp.py from {phase} lines" in line
    monkeypatch.setattr(syslog, "syslog", lambda *_: fail(Odd()))
    assert hook(Pamh(), 0, argv) == Pamh.PAM_SERVICE_ERR


# The script that the PAM line names


@pytest.fixture
def script() -> dict[str, Callable[..., object]]:
    """What is in it, as pam_python finds it."""
    return runpy.run_path(str(CHECKOUT / "debian" / SCRIPT))


def test_setcred_neither_denies_nor_grants_and_does_nothing(
    script: dict[str, Callable[..., object]], journal: Journal
) -> None:
    before = set(sys.modules)
    assert script["pam_sm_setcred"](Pamh(NOT_TEXT, service=NOT_TEXT), 0, [SCRIPT]) == Pamh.PAM_IGNORE
    assert set(sys.modules) == before
    assert journal == []


@pytest.mark.parametrize("name", [name for name in vars(pam_python) if name.startswith("pam_sm_")])
def test_every_other_hook_is_the_package_s(
    name: str, script: dict[str, Callable[..., object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pam_python, name, lambda *arguments: (name, arguments))
    assert script[name]("pamh", 1, ["argv"]) == (name, ("pamh", 1, ["argv"]))


def test_the_script_has_all_hooks_that_pam_can_call(script: dict[str, Callable[..., object]]) -> None:
    found = {name for name in script if name.startswith("pam_sm_")}
    hooks = ("authenticate", "setcred", "acct_mgmt", "open_session", "close_session", "chauthtok")
    assert found == {f"pam_sm_{name}" for name in hooks}


def test_success_is_named_in_one_place_only() -> None:
    tree = ast.parse(inspect.getsource(pam_entry))
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "PAM_SUCCESS"]
    quoted = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value == "PAM_SUCCESS"]
    assert (len(named), len(quoted)) == (0, 1)


# Password and code in one answer


STACK = """
auth  required  pam_python.so pam_totp.py combined=split
@include common-auth
auth  required  pam_python.so pam_totp.py combined=verify
account required pam_python.so pam_totp.py combined=verify
"""


@pytest.fixture
def stack(host: Host) -> Host:
    """A host with the three lines that one answer needs."""
    os.makedirs(host.paths.services, exist_ok=True)
    with open(f"{host.paths.services}/sshd", "w", encoding="ascii") as file:
        file.write(STACK)
    os.chmod(f"{host.paths.services}/sshd", 0o644)
    return host


def account(pamh: Pamh) -> object:
    return HOOKS["account"](pamh, ["combined=verify"])


def test_an_answer_is_split_into_password_and_code_and_the_code_decides(stack: Host) -> None:
    secret = stack.enroll()
    right = Pamh("alice", "correct horse" + stack.code(secret))
    assert authenticate(right, "combined=split") == Pamh.PAM_IGNORE
    assert right.authtok == "correct horse"
    assert authenticate(right, "combined=verify") == Pamh.PAM_SUCCESS
    assert account(right) == Pamh.PAM_IGNORE
    stack.later(STEP)
    wrong = Pamh("alice", "correct horse" + stack.wrong(secret))
    assert authenticate(wrong, "combined=split") == Pamh.PAM_IGNORE
    assert authenticate(wrong, "combined=verify") == Pamh.PAM_AUTH_ERR
    assert account(wrong) == Pamh.PAM_AUTH_ERR


def test_a_code_that_was_split_off_is_taken_once(stack: Host) -> None:
    secret = stack.enroll()
    pamh = Pamh("alice", "correct horse" + stack.code(secret))
    assert authenticate(pamh, "combined=split") == Pamh.PAM_IGNORE
    assert authenticate(pamh, "combined=verify") == Pamh.PAM_SUCCESS
    pamh.answers = [stack.code(secret, 1)]
    assert authenticate(pamh, "combined=verify") == Pamh.PAM_SUCCESS
    assert pamh.asked[1:] == ["Verification code: "]


def test_an_answer_without_a_code_is_a_password_and_no_code(stack: Host) -> None:
    stack.enroll()
    pamh = Pamh("alice", "correct horse")
    assert authenticate(pamh, "combined=split") == Pamh.PAM_IGNORE
    assert pamh.authtok == "correct horse"
    assert authenticate(pamh, "combined=verify") == Pamh.PAM_AUTH_ERR


def test_a_code_alone_is_a_password_and_no_code(stack: Host) -> None:
    secret = stack.enroll()
    pamh = Pamh("alice", stack.code(secret))
    assert authenticate(pamh, "combined=split") == Pamh.PAM_IGNORE
    assert pamh.authtok == stack.code(secret)
    assert authenticate(pamh, "combined=verify") == Pamh.PAM_AUTH_ERR


def test_the_answer_of_who_is_exempt_is_a_password_as_a_whole(stack: Host) -> None:
    stack.enroll()
    stack.change(lambda account: setattr(account.ledger, "exemption", [int(stack.wall) + 60, "lost phone"]))
    pamh = Pamh("alice", "tricky123456")
    assert authenticate(pamh, "combined=split") == Pamh.PAM_IGNORE
    assert pamh.authtok == "tricky123456"
    assert authenticate(pamh, "combined=verify") == Pamh.PAM_IGNORE


def test_the_answer_of_who_has_yet_to_enrol_is_a_password_as_a_whole(stack: Host) -> None:
    stack.configure('unenrolled = "deny"\n')
    pamh = Pamh("alice", "tricky123456")
    assert authenticate(pamh, "combined=split") == Pamh.PAM_IGNORE
    assert pamh.authtok == "tricky123456"
    assert authenticate(pamh, "combined=verify") == Pamh.PAM_AUTH_ERR


def test_the_answer_of_who_is_not_asked_is_a_password_as_a_whole(stack: Host) -> None:
    pamh = Pamh("bob", "tricky123456")
    assert authenticate(pamh, "combined=split") == Pamh.PAM_IGNORE
    assert pamh.authtok == "tricky123456"
    assert authenticate(pamh, "combined=verify") == Pamh.PAM_IGNORE
    assert account(pamh) == Pamh.PAM_IGNORE


def test_a_code_that_was_split_off_and_never_verified_denies(stack: Host, journal: Journal) -> None:
    secret = stack.enroll()
    pamh = Pamh("alice", "correct horse" + stack.code(secret))
    assert authenticate(pamh, "combined=split") == Pamh.PAM_IGNORE
    assert account(pamh) == Pamh.PAM_AUTH_ERR
    assert "reason=not-verified" in last(journal)[1]


def test_where_nothing_was_split_there_is_nothing_to_finish(stack: Host) -> None:
    assert account(Pamh("alice")) == Pamh.PAM_IGNORE


def test_verifying_without_having_split_denies(stack: Host) -> None:
    stack.enroll()
    assert authenticate(Pamh("alice"), "combined=verify") == Pamh.PAM_SERVICE_ERR


@pytest.mark.parametrize("line", range(1, 5))
def test_splitting_without_the_lines_that_verify_denies(line: int, stack: Host) -> None:
    lines = STACK.split("\n")
    if "include" not in lines[line]:
        del lines[line]
        with open(f"{stack.paths.services}/sshd", "w", encoding="ascii") as file:
            file.write("\n".join(lines))
        assert authenticate(Pamh("bob"), "combined=split") == Pamh.PAM_SERVICE_ERR


def test_no_answer_to_the_one_question_ends_the_conversation(stack: Host) -> None:
    stack.enroll(ALICE, state=ACTIVE)
    assert authenticate(Pamh("alice", None), "combined=split") == Pamh.PAM_CONV_ERR


def test_a_split_code_is_in_no_log(stack: Host, journal: Journal) -> None:
    secret = stack.enroll()
    answer = "correct horse" + stack.code(secret)
    pamh = Pamh("alice", answer)
    authenticate(pamh, "combined=split")
    authenticate(pamh, "combined=verify")
    for marker in ("correct", stack.code(secret), secret.hex()):
        assert marker not in str(journal)


def test_who_is_unknown_to_nss_is_refused_after_the_password(stack: Host) -> None:
    pamh = Pamh("mallory", "tricky123456")
    assert authenticate(pamh, "combined=split") == Pamh.PAM_IGNORE
    assert pamh.authtok == "tricky123456"
    assert authenticate(pamh, "combined=verify") == Pamh.PAM_USER_UNKNOWN
    assert account(pamh) == Pamh.PAM_AUTH_ERR


def test_who_is_enrolled_after_the_split_is_asked(stack: Host) -> None:
    pamh = Pamh("alice", "correct horse")
    assert authenticate(pamh, "combined=split") == Pamh.PAM_IGNORE
    pamh.answers = [stack.code(stack.enroll())]
    assert authenticate(pamh, "combined=verify") == Pamh.PAM_SUCCESS
    assert pamh.asked[1:] == ["Verification code: "]


def test_an_exception_in_the_account_line_denies(
    stack: Host, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = stack.enroll()
    pamh = Pamh("alice", "correct horse" + stack.code(secret))
    assert authenticate(pamh, "combined=split") == Pamh.PAM_IGNORE
    monkeypatch.setattr(stacks, "verification_is_certain", lambda *_: fail(Odd("the marker of a secret")))
    assert account(pamh) == Pamh.PAM_SERVICE_ERR
    assert "reason=internal-error" in last(journal)[1]
    assert "marker" not in str(journal)


def test_a_module_object_of_pam_python_that_fails_denies(journal: Journal) -> None:
    class Broken:
        @property
        def pam_totp_kept(self) -> str:
            raise Odd("the marker of a secret")

    pamh = Pamh("alice")
    pamh.module = Broken()
    assert pam_python.pam_sm_acct_mgmt(pamh, 0, [SCRIPT, "combined=verify"]) == Pamh.PAM_SERVICE_ERR
    assert pam_python.pam_sm_authenticate(pamh, 0, [SCRIPT]) == Pamh.PAM_SERVICE_ERR
    assert "marker" not in str(journal)


@pytest.mark.parametrize("name", ["PAM_PERM_DENIED", "exception", "", "__class__"])
def test_what_is_no_result_of_ours_denies(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pam_entry, "authenticate", lambda *_: name)
    assert authenticate(Pamh()) == Pamh.PAM_SERVICE_ERR


# The stack as it may be written: whether PAM can have let in without the code

PLAIN = "auth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\nauth required pam_permit.so\n"


@pytest.mark.parametrize("answer", ["right", "wrong"])
def test_where_the_stack_cannot_let_in_without_the_code_another_method_has_authenticated(
    answer: str, stack: Host
) -> None:
    secret = stack.enroll()
    with open(f"{stack.paths.services}/common-auth", "w", encoding="ascii") as file:
        file.write(PLAIN)
    os.chmod(f"{stack.paths.services}/common-auth", 0o644)
    pamh = Pamh("alice", "correct horse" + (stack.code(secret) if answer == "right" else stack.wrong(secret)))
    assert authenticate(pamh, "combined=split") == Pamh.PAM_IGNORE
    if answer == "wrong":
        assert authenticate(pamh, "combined=verify") == Pamh.PAM_AUTH_ERR
    assert account(pamh) == Pamh.PAM_IGNORE
