"""What the module returns in each situation, which sshd hides: the table of the design, section 4, row by row."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.lab.pam import PamResult, alone, pamtester
from tests.login.transactions import Transaction, transactions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.login.host import Host, Person

CACHE = "/var/lib/pam-totp"
DB = f"{CACHE}/cache.db"
KEY = "/etc/pam-totp/key"
PUBLIC_KEY = {"SSH_AUTH_INFO_0": "publickey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI\n"}
UNKNOWN = "nobody-here"


def attempt(
    host: Host,
    user: Person | str,
    *answers: str,
    words: str = "",
    env: dict[str, str] | None = None,
    rhost: str = "192.0.2.1",
) -> PamResult:
    """One authentication that returns what the module returns."""
    service = alone(host.machine, f"{host.machine.module} {words}")
    return pamtester(host.machine, service, str(user), answers=answers, env=env, rhost=rhost)


def asked(result: PamResult) -> bool:
    """Whether the question for the code was shown."""
    return "Verification code:" in result.screen


HALF_WRITTEN = f"""
PRAGMA journal_mode = PERSIST;
PRAGMA cache_size = 1;
BEGIN IMMEDIATE;
UPDATE roster SET entries = zeroblob(41);
.system rm -rf /root/hot && mkdir /root/hot && cp -a {CACHE}/* /root/hot
ROLLBACK;
"""


@contextmanager
def moved(host: Host, path: str) -> Iterator[None]:
    """Have something out of its place for a while."""
    host.machine.run(["mv", path, "/root/moved"])
    try:
        yield
    finally:
        host.machine.sh('rm -rf "$1" && mv /root/moved "$1"', path)


@contextmanager
def kept(host: Host) -> Iterator[None]:
    """Whatever happens to the cache meanwhile, have it as it was again."""
    host.machine.sh('rm -rf /root/kept && cp -a "$1" /root/kept', CACHE)
    try:
        yield
    finally:
        host.machine.sh('rm -rf "$1"/* && cp -a /root/kept/* "$1"', CACHE)


@contextmanager
def read_only(host: Host) -> Iterator[None]:
    """The cache on a read-only mount."""
    host.machine.sh('mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"', CACHE)
    try:
        yield
    finally:
        host.machine.run(["umount", CACHE])


# -- PAM_SUCCESS


def test_a_valid_code_returns_success(host: Host) -> None:
    alice = host.person()
    assert attempt(host, alice, alice.code()).code == "PAM_SUCCESS"


def test_a_valid_code_after_a_public_key_returns_success(host: Host) -> None:
    alice = host.person()
    assert attempt(host, alice, alice.code(), words="first_factor=publickey", env=PUBLIC_KEY).code == "PAM_SUCCESS"


def test_a_valid_code_that_is_charged_in_run_only_returns_success(host: Host) -> None:
    alice = host.person()
    code = alice.code()
    shifted = ["unshare", "--time", "--boottime", "100000", "--fork"]
    host.run_is_old()
    with read_only(host):
        service = alone(host.machine)
        first = pamtester(host.machine, service, alice.name, answers=[code], prefix=shifted)
        second = pamtester(host.machine, service, alice.name, answers=[code], prefix=shifted)
    assert (first.code, second.code) == ("PAM_SUCCESS", "PAM_AUTH_ERR")


# -- PAM_AUTH_ERR


def test_wrong_replayed_and_malformed_codes_return_auth_err_and_look_alike(host: Host) -> None:
    alice = host.person()
    code = alice.code()
    # Elsewhere: where it was accepted, a code that was used already is called so.
    assert attempt(host, alice, code, rhost="192.0.2.2").code == "PAM_SUCCESS"
    results = [attempt(host, alice, answer) for answer in (code, alice.wrong(), "12345", "")]
    assert {result.code for result in results} == {"PAM_AUTH_ERR"}
    assert len({result.screen for result in results}) == 1
    assert "That code was not accepted." in results[0].screen


def test_who_must_wait_gets_auth_err_without_a_prompt_and_is_told_the_time_left(host: Host) -> None:
    alice = host.person()
    host.guess(alice, *["192.0.2.1"] * 3)
    result = attempt(host, alice, alice.code())
    assert result.code == "PAM_AUTH_ERR"
    assert not asked(result)
    assert re.search(r"Try again in ([12]?\d|30) s\.", result.screen)


def test_who_is_locked_gets_auth_err_without_a_prompt(host: Host) -> None:
    alice = host.person()
    with host.config("lock_after = 10"):
        host.guess(alice, *(f"192.0.2.{10 + number // 2}" for number in range(10)))
    result = attempt(host, alice, alice.code())
    assert result.code == "PAM_AUTH_ERR"
    assert not asked(result)
    assert "this account is locked" in result.screen


@pytest.mark.parametrize("info", [None, "", "publickey ssh-ed25519\n", "hostbased ssh-ed25519 AAAA\n"])
def test_without_a_public_key_everybody_gets_auth_err_before_anything_else_is_looked_at(
    host: Host, info: str | None
) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    env = {} if info is None else {"SSH_AUTH_INFO_0": info}
    results = [attempt(host, user, "123456", words="first_factor=publickey", env=env) for user in (alice, bob, UNKNOWN)]
    with host.config("nonsense"), moved(host, KEY):
        results.append(attempt(host, alice, "123456", words="first_factor=publickey", env=env))
    assert {result.code for result in results} == {"PAM_AUTH_ERR"}
    assert not any(map(asked, results))


def test_who_is_not_enrolled_where_policy_says_deny_gets_auth_err_and_is_told_what_to_do(host: Host) -> None:
    bob, carol = host.person(enrolled=False), host.person(pending=True)
    with host.config('unenrolled = "deny"'):
        results = [attempt(host, user) for user in (bob, carol)]
    assert {result.code for result in results} == {"PAM_AUTH_ERR"}
    assert all("Ask your administrator to enrol you." in result.screen for result in results)
    assert not any(map(asked, results))


# -- PAM_IGNORE


@pytest.mark.parametrize("pending", [False, True], ids=["proven absent", "pending"])
def test_who_is_not_asked_by_decision_returns_ignore(host: Host, pending: bool) -> None:
    bob = host.person(enrolled=False, pending=pending)
    result = attempt(host, bob)
    assert result.code == "PAM_IGNORE"
    assert not asked(result)


def test_who_is_exempt_returns_ignore_until_the_exemption_ends(host: Host) -> None:
    alice = host.person()
    host.machine.run(["pam-totp", "exempt", alice.name, "--until", "2099-12-31", "--reason", "new phone"])
    result = attempt(host, alice)
    assert result.code == "PAM_IGNORE"
    assert not asked(result)
    host.machine.run(["pam-totp", "exempt", alice.name, "--end"])
    assert attempt(host, alice, alice.code()).code == "PAM_SUCCESS"


# -- PAM_USER_UNKNOWN


@pytest.mark.parametrize("name", [UNKNOWN, "..", "a/b", "root:x", "x" * 300, "0", "naïve"])
def test_a_name_that_nss_does_not_know_returns_user_unknown_and_leaves_no_trace(host: Host, name: str) -> None:
    script = "find /var/lib/pam-totp /run/pam-totp -type f -exec sha256sum {} + | sort"
    before = host.machine.sh(script).stdout
    result = attempt(host, name, "123456")
    assert result.code == "PAM_USER_UNKNOWN"
    assert not asked(result)
    assert host.machine.sh(script).stdout == before


# -- PAM_CONV_ERR


@pytest.mark.parametrize("manner", ["nothing", "refuse", "abort"])
def test_a_conversation_that_gives_no_answer_returns_conv_err_and_is_no_guess(host: Host, manner: str) -> None:
    alice = host.person()
    (result,) = transactions(host.machine, Transaction(alice.name, manner=manner))
    assert result.code == "PAM_CONV_ERR"
    assert host.status(alice)["failures"] == 0
    assert attempt(host, alice, alice.code()).code == "PAM_SUCCESS"


# -- PAM_AUTHINFO_UNAVAIL


def unavailable(host: Host, person: Person, reason: str) -> None:
    """The module returns PAM_AUTHINFO_UNAVAIL without a question, and logs this reason."""
    mark = host.machine.mark()
    result = attempt(host, person, person.code())
    assert result.code == "PAM_AUTHINFO_UNAVAIL"
    assert not asked(result)
    assert [line["reason"] for line in host.decisions(mark)] == [reason]


def test_a_missing_cache_returns_authinfo_unavail(host: Host) -> None:
    alice = host.person()
    with moved(host, DB):
        unavailable(host, alice, "cache-missing")
    assert attempt(host, alice, alice.code()).code == "PAM_SUCCESS"


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        pytest.param('dd if=/dev/zero of="$1" bs=4k count=1 conv=notrunc 2>&1', "cache-unusable", id="malformed"),
        pytest.param('mv "$1" "$1.x"; mkdir "$1"', "cache-unsafe", id="no file"),
        pytest.param('chmod 640 "$1"', "cache-unsafe", id="wrong mode"),
        pytest.param('chown daemon "$1"', "cache-unsafe", id="wrong owner"),
        pytest.param(
            'sqlite3 "$1" "DELETE FROM account WHERE name = \'$2\'"', "cache-damaged", id="roster and rows disagree"
        ),
        pytest.param(
            'sqlite3 "$1" "UPDATE authenticator SET secret = zeroblob(61) WHERE name = \'$2\'"',
            "cache-damaged",
            id="record does not open",
        ),
    ],
)
def test_a_cache_that_is_not_as_it_was_left_returns_authinfo_unavail(host: Host, break_it: str, reason: str) -> None:
    alice = host.person()
    with kept(host):
        host.machine.sh(break_it, DB, alice.name)
        unavailable(host, alice, reason)
    assert attempt(host, alice, alice.code()).code == "PAM_SUCCESS"


def test_a_missing_key_returns_authinfo_unavail(host: Host) -> None:
    alice = host.person()
    with moved(host, KEY):
        unavailable(host, alice, "key-missing")
    assert attempt(host, alice, alice.code()).code == "PAM_SUCCESS"


def test_a_wrong_key_returns_authinfo_unavail(host: Host) -> None:
    alice = host.person()
    with moved(host, KEY):
        host.machine.write(KEY, f"pam-totp-key-1 {'ab' * 16} {'cd' * 32}\n", mode=0o400)
        unavailable(host, alice, "cache-damaged")
    assert attempt(host, alice, alice.code()).code == "PAM_SUCCESS"


def test_a_hot_journal_returns_authinfo_unavail_on_a_read_only_disk_and_is_rolled_back_on_a_writable_one(
    host: Host,
) -> None:
    alice = host.person()
    with kept(host):
        # As a machine leaves it that loses its power in the middle of a write: a part of the pages is overwritten.
        host.machine.sh(f"sqlite3 {DB} >/dev/null && cp -a /root/hot/* {CACHE}", input=HALF_WRITTEN)
        with read_only(host):
            unavailable(host, alice, "cache-hot-journal")
        assert attempt(host, alice, alice.code()).code == "PAM_SUCCESS"


def test_a_lock_that_another_login_holds_for_too_long_returns_authinfo_unavail(host: Host) -> None:
    alice = host.person()
    assert attempt(host, alice, alice.wrong()).code == "PAM_AUTH_ERR"
    code = alice.code()
    mark = host.machine.mark()
    holder = "for lock in /run/pam-totp/*.lock; do flock $lock sleep 30 & done; wait"
    with host.machine.popen(["sh", "-c", holder]) as process:
        host.machine.sh("until ! flock -n $(ls /run/pam-totp/*.lock | tail -n 1) true; do sleep 0.01; done")
        result = attempt(host, alice, code)
        host.machine.sh("pkill -x sleep")
        process.communicate()
    assert result.code == "PAM_AUTHINFO_UNAVAIL"
    assert [line["reason"] for line in host.decisions(mark)] == ["lock-timeout"]
    assert attempt(host, alice, code).code == "PAM_SUCCESS"


def test_an_attempt_that_can_be_charged_nowhere_returns_authinfo_unavail_whether_the_code_is_right_or_wrong(
    host: Host,
) -> None:
    alice = host.person()
    code, wrong = alice.code(), alice.wrong()
    with read_only(host), host.machine.tmpfs("/run/pam-totp", size="2m"):
        host.machine.sh("dd if=/dev/zero of=/run/pam-totp/fill bs=4k 2>&1", check=False)
        results = [attempt(host, alice, answer) for answer in (code, wrong)]
    assert [result.code for result in results] == ["PAM_AUTHINFO_UNAVAIL"] * 2
    assert results[0].screen == results[1].screen
    assert attempt(host, alice, code).code == "PAM_SUCCESS"


def test_a_recovery_code_that_cannot_be_spent_durably_returns_authinfo_unavail_and_stays_good(host: Host) -> None:
    alice = host.person()
    code = host.machine.run(["pam-totp", "recovery", alice.name]).stdout.split()[0]
    host.confidential |= {code, code.replace("-", "")}
    with read_only(host):
        assert attempt(host, alice, code).code == "PAM_AUTHINFO_UNAVAIL"
    assert [attempt(host, alice, code).code for _ in range(2)] == ["PAM_SUCCESS", "PAM_AUTH_ERR"]


# -- PAM_SERVICE_ERR


@pytest.mark.parametrize("text", ["window = ", "colour = 1", "window = 99", 'prompt = ""'])
def test_a_bad_configuration_returns_service_err(host: Host, text: str) -> None:
    alice = host.person()
    with host.config(text):
        result = attempt(host, alice, alice.code())
    assert result.code == "PAM_SERVICE_ERR"
    assert not asked(result)


@pytest.mark.parametrize("word", ["first_factor=password", "first_factor", "nullok", "debug"])
def test_an_unknown_module_argument_returns_service_err(host: Host, word: str) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    mark = host.machine.mark()
    results = [attempt(host, user, "123456", words=word, env=PUBLIC_KEY) for user in (alice, bob)]
    assert {result.code for result in results} == {"PAM_SERVICE_ERR"}
    assert not any(map(asked, results))
    assert all("tell your administrator" in result.screen for result in results)
    assert [line["user"] for line in host.decisions(mark)] == [alice.name, bob.name]


def test_anything_unforeseen_returns_service_err_and_the_log_says_where_it_happened(host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    mark = host.machine.mark()
    # Without /proc there is no boot id, and none of the code expects that.
    without_proc = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    service = alone(host.machine)
    results = [
        pamtester(host.machine, service, user.name, answers=["123456"], prefix=without_proc) for user in (alice, bob)
    ]
    assert {result.code for result in results} == {"PAM_SERVICE_ERR"}
    assert not any(map(asked, results))
    lines = host.decisions(mark)
    assert [line["reason"] for line in lines] == ["internal-error"] * 2
    assert all(line["detail"].startswith("FileNotFoundError at ") for line in lines)
