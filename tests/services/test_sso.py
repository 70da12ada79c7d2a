"""Web single sign-on: LemonLDAP::NG asks for the code, and two applications, SAML and OpenID Connect, take its word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import sso as lab
from tests.lab.browser import Browser
from tests.lab.sso import BACKENDS, CONFIGURATION, OIDC, SAML, Sso
from tests.lab.verify import Verify
from tests.login.host import Host, Person, steady

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Machine


# The root with Chromium and LemonLDAP::NG takes minutes to build.
pytestmark = pytest.mark.full

PACKAGES = lab.PACKAGES
NOT_ACCEPTED = "Invalid verification code"
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def verify(host: Host) -> Iterator[Verify]:
    """The verify service."""
    with Verify(host.machine) as running:
        yield running


@pytest.fixture(scope="module")
def sso(host: Host, verify: Verify) -> Iterator[Sso]:
    """The portal and the applications; the portal asks for codes."""
    with Sso(host.machine) as running:
        running.protect("--may-know")
        yield running


@pytest.fixture
def browser(host: Host) -> Iterator[Browser]:
    """A browser that has never been here."""
    with Browser(host.machine) as running:
        yield running


def files(machine: Machine) -> str:
    """All of the portal's settings and the verify service's clients: owners, modes and contents."""
    script = 'find "$@" -type f -exec stat -c "%U %G %a" {} + -exec sha256sum {} + 2>/dev/null || true'
    return machine.sh(script, CONFIGURATION, "/etc/lemonldap-ng", "/etc/pam-totp/verify").stdout


def log(host: Host, mark: int) -> list[tuple[str, str, str]]:
    """The outcome, the reason and the source of each decision since a mark."""
    return [(line["outcome"], line["reason"], line["rhost"]) for line in host.decisions(mark)]


@pytest.mark.parametrize(("site", "name"), [(SAML, "alice"), (OIDC, "carol")], ids=["saml", "oidc"])
def test_password_then_code_then_in(
    site: str, name: str, host: Host, sso: Sso, browser: Browser, pytestconfig: pytest.Config
) -> None:
    alice = host.enroll(Person(host, host.machine.user(name), ""))
    steps = ("password", "code", "in") if pytestconfig.getoption("pictures") and site == SAML else ()
    pictures = {step: DOCS / f"sso-{step}.png" for step in steps}
    steady(15)
    told, mark = sso.assertions(), host.machine.mark()
    # As far as the code: nobody has been told who this is, and the application lets nobody in.
    assert sso.log_in(browser, alice.name, site=site).asked
    assert sso.assertions() == told
    assert not sso.is_in(browser, site)

    spent = alice.code()
    login = sso.log_in(browser, alice.name, spent, site=site, pictures=pictures)
    assert (login.asked, login.user) == (True, alice.name)
    assert sso.assertions() == told + 1
    assert log(host, mark) == [("accepted", "code", "127.0.0.1")]

    # The other application takes the portal's word, without a code.
    other = sso.log_in(browser, alice.name, site=OIDC if site == SAML else SAML)
    assert (other.asked, other.user) == (False, alice.name)

    # The code is used up, here and at SSH.
    with Browser(host.machine) as elsewhere:
        again = sso.log_in(elsewhere, alice.name, spent, site=site)
    assert (again.user, again.message) == ("", NOT_ACCEPTED)
    assert not alice.log_in(spent).ok


def test_a_code_that_was_used_at_ssh_is_refused(host: Host, sso: Sso, browser: Browser) -> None:
    alice = host.person()
    steady(15)
    spent, told = alice.code(), sso.assertions()
    assert alice.log_in(spent).ok
    login = sso.log_in(browser, alice.name, spent)
    assert (login.asked, login.user, login.message) == (True, "", NOT_ACCEPTED)
    assert sso.assertions() == told


def test_a_wrong_code_and_a_wrong_password_are_refused(host: Host, sso: Sso, browser: Browser) -> None:
    alice = host.person()
    told, mark = sso.assertions(), host.machine.mark()
    login = sso.log_in(browser, alice.name, password="wrong")
    assert (login.asked, login.user) == (False, "")
    assert log(host, mark) == []  # without the password nobody is asked about
    login = sso.log_in(browser, alice.name, alice.wrong(), site=OIDC)
    assert (login.asked, login.user, login.message) == (True, "", NOT_ACCEPTED)
    assert sso.assertions() == told
    assert [reason for _, reason, _ in log(host, mark)] == ["wrong-code"]


def test_the_policy_decides_about_who_is_not_enrolled(host: Host, sso: Sso) -> None:
    bob = host.person(enrolled=False)
    told = sso.assertions()
    with host.config('[[rule]]\nservices = ["lemonldap"]\nunenrolled = "deny"\n'), Browser(host.machine) as browser:
        login = sso.log_in(browser, bob.name, "123456")
        assert (login.user, login.message) == ("", NOT_ACCEPTED)
    with host.config("nonsense = 1"), Browser(host.machine) as browser:
        assert not sso.log_in(browser, bob.name, "123456").ok
    assert sso.assertions() == told
    with Browser(host.machine) as browser:  # the default: whoever is not enrolled needs no code
        assert sso.log_in(browser, bob.name, "-").user == bob.name


def test_without_may_know_everybody_has_to_have_a_code(host: Host, sso: Sso) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    sso.unprotect()
    sso.protect()
    try:
        with Browser(host.machine) as browser:
            assert sso.log_in(browser, bob.name, "123456").message == NOT_ACCEPTED
        with Browser(host.machine) as browser:
            assert sso.log_in(browser, alice.name, alice.code()).ok
    finally:
        sso.unprotect()
        sso.protect("--may-know")


def test_a_rule_of_the_portals_own_says_who_is_asked_and_stays(host: Host, sso: Sso) -> None:
    alice, robot = host.person(), host.person(enrolled=False)
    sso.settings({"rest2fActivation": f'$uid ne "{robot}"'})
    sso.protect()  # once more
    try:
        with Browser(host.machine) as browser:
            login = sso.log_in(browser, robot.name)
            assert (login.asked, login.user) == (False, robot.name)
        with Browser(host.machine) as browser:
            assert sso.log_in(browser, alice.name).asked
    finally:
        sso.settings({"rest2fActivation": 1})
        sso.restart()


def test_another_backend_checks_the_password(host: Host, sso: Sso, browser: Browser) -> None:
    person = host.enroll(Person(host, host.machine.user("dwho", password="-"), ""))
    sso.settings(BACKENDS["Demo"])
    sso.restart()
    try:
        login = sso.log_in(browser, "dwho", person.code(), password="dwho", site=OIDC)
    finally:
        sso.settings(BACKENDS["PAM"])
        sso.restart()
    assert (login.asked, login.user) == (True, "dwho")


def test_undoing_brings_back_what_was_there_to_the_byte(host: Host, sso: Sso) -> None:
    alice = host.person()
    sso.unprotect()
    before = files(host.machine)
    with Browser(host.machine) as browser:
        login = sso.log_in(browser, alice.name)
        assert (login.asked, login.user) == (False, alice.name)
    for _ in range(2):  # the second time, the portal sees other settings under the same number
        sso.protect("--may-know")
        assert files(host.machine) != before
        with Browser(host.machine) as browser:
            assert sso.log_in(browser, alice.name).asked
        with Browser(host.machine) as browser:
            assert sso.log_in(browser, alice.name, alice.wrong()).message == NOT_ACCEPTED
        sso.unprotect()
        assert files(host.machine) == before
    sso.protect("--may-know")


def test_nobody_else_can_read_the_token(host: Host, sso: Sso, browser: Browser) -> None:
    alice = host.person()
    assert sso.log_in(browser, alice.name).asked
    url = str(sso.settings()["rest2fVerifyUrl"])
    token = url.split(":")[2].partition("@")[0]
    assert token.startswith("lemonldap.")
    look = "exec grep -rlsF -f - /etc /var /run /tmp /proc/[0-9]*/cmdline /proc/[0-9]*/environ"
    assert host.machine.sh(look, input=f"{token}\n", user=alice.user, check=False).stdout == ""
    mine = host.machine.sh(look, input=f"{token}\n", check=False).stdout
    assert CONFIGURATION in mine
    assert not [path for path in mine.split() if path.startswith("/var/log")]


def test_logging_out_at_the_portal_ends_it_everywhere(host: Host, sso: Sso, browser: Browser) -> None:
    alice = host.person()
    assert sso.log_in(browser, alice.name, alice.code()).ok
    assert sso.log_in(browser, alice.name, site=OIDC).ok
    sso.log_out(browser)
    assert not sso.is_in(browser, SAML)
    assert not sso.is_in(browser, OIDC)
    assert sso.log_in(browser, alice.name, alice.code(1)).asked


@pytest.mark.parametrize(
    ("site", "path"),
    [
        (SAML, "mellon/logout?ReturnTo=https%3A%2F%2Fsaml.example.com%2F"),
        (OIDC, "redirect?logout=https%3A%2F%2Foidc.example.com%2F"),
    ],
    ids=["saml", "oidc"],
)
def test_logging_out_of_an_application_ends_the_portals_session(
    site: str, path: str, host: Host, sso: Sso, browser: Browser
) -> None:
    alice = host.person()
    assert sso.log_in(browser, alice.name, alice.code(), site=site).ok
    browser.open(f"{site}{path}")
    assert not sso.is_in(browser, site)
    assert sso.log_in(browser, alice.name, alice.code(1), site=site).asked


def test_without_the_service_nobody_gets_in(host: Host, sso: Sso, verify: Verify, browser: Browser) -> None:
    alice = host.person()
    told = sso.assertions()
    verify.__exit__()
    try:
        login = sso.log_in(browser, alice.name, alice.code())
    finally:
        verify.__enter__()
    assert (login.asked, login.user) == (True, "")
    assert sso.assertions() == told
