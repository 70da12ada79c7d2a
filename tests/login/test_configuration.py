"""A configuration that is emptied or vanishes drops no rule: everybody is refused until somebody says what is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.login.host import CONFIG
from tests.login.test_disk import full_without_a_journal, read_only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.login.host import Host
    from tests.login.test_disk import Trouble

pytestmark = pytest.mark.usefixtures("password_and_code")

DENY = 'unenrolled = "deny"\n'


@pytest.fixture(autouse=True)
def none(host: Host) -> Iterator[None]:
    """No configuration after a test."""
    yield
    host.machine.sh('rm -f "$1" && pam-totp config reset --yes', CONFIG)


def reasons(host: Host, mark: int) -> list[tuple[str, str]]:
    return [(line["outcome"], line["reason"]) for line in host.decisions(mark)]


@pytest.mark.parametrize("how", [': >"$1"', 'echo >"$1"', 'truncate -s 0 "$1"'])
def test_an_emptied_file_refuses_everybody(how: str, host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    host.machine.write(CONFIG, DENY)
    host.machine.sh(how, CONFIG)
    mark = host.machine.mark()
    assert not bob.log_in().ok
    assert not alice.log_in(alice.code()).ok
    assert reasons(host, mark) == [("misconfigured", "bad-config")] * 2
    assert "is empty" in host.machine.run(["pam-totp", "config", "check"], check=False).stderr
    host.machine.write(CONFIG, DENY)
    assert alice.log_in(alice.code()).ok
    assert not bob.log_in().ok


@pytest.mark.parametrize("seen", ["by a login", "by config check"])
def test_a_file_that_vanishes_refuses_everybody_until_that_is_meant(seen: str, host: Host) -> None:
    alice, bob = host.person(), host.person(enrolled=False)
    host.machine.write(CONFIG, DENY)
    if seen == "by a login":
        assert not bob.log_in().ok
    else:
        host.machine.run(["pam-totp", "config", "check"])
    host.machine.run(["rm", CONFIG])
    mark = host.machine.mark()
    assert not bob.log_in().ok
    assert not alice.log_in(alice.code()).ok
    assert host.machine.run(["pam-totp", "config", "check"], check=False).returncode == 3
    assert not bob.log_in().ok
    assert reasons(host, mark) == [("misconfigured", "config-missing")] * 3
    host.machine.run(["pam-totp", "config", "reset", "--yes"])
    assert bob.log_in().ok
    assert alice.log_in(alice.code()).ok


def test_a_file_that_is_moved_away_with_its_directory_is_missed_by_the_key_alone(host: Host) -> None:
    bob = host.person(enrolled=False)
    host.machine.write(CONFIG, DENY)
    assert not bob.log_in().ok
    host.machine.run(["mv", "/etc/pam-totp", "/root/pam-totp"])
    mark = host.machine.mark()
    assert not bob.log_in().ok
    assert reasons(host, mark) == [("unavailable", "key-missing")]
    host.machine.sh("mkdir -m 755 /etc/pam-totp && cp -a /root/pam-totp/key /etc/pam-totp && rm -r /root/pam-totp")
    assert not bob.log_in().ok
    assert reasons(host, mark)[1:] == [("misconfigured", "config-missing")]


@pytest.mark.parametrize("trouble", [full_without_a_journal, read_only])
def test_where_it_cannot_be_noted_the_file_holds_and_nobody_is_locked_out(trouble: Trouble, host: Host) -> None:
    alice, bob, carol = host.person(), host.person(enrolled=False), host.person(enrolled=False)
    host.run_is_old()
    with trouble(host):
        assert bob.log_in().ok
        host.machine.write(CONFIG, DENY)
        assert not bob.log_in().ok
        assert not carol.log_in().ok
        alice.log_in(alice.code())
    # With space again the next login notes it.
    assert not bob.log_in().ok
    host.machine.run(["rm", CONFIG])
    mark = host.machine.mark()
    assert not bob.log_in().ok
    assert reasons(host, mark) == [("misconfigured", "config-missing")]


def test_a_login_while_the_file_is_edited_sees_the_old_one_or_the_new_one(host: Host) -> None:
    bob = host.person(enrolled=False)
    host.machine.write(CONFIG, DENY)
    host.machine.write("/root/editor", 'echo "# $ROUND" >>"$1"\n')
    script = """
        for round in 1 2 3 4 5 6 7 8 9 10; do
            ROUND=$round EDITOR="sh /root/editor" pam-totp config edit
        done
    """
    editing = host.machine.popen(["sh", "-c", script])
    mark = host.machine.mark()
    while editing.poll() is None:
        assert not bob.log_in().ok
    assert editing.communicate()[0].count("good (0 rules)") == 10
    assert set(reasons(host, mark)) == {("refused", "not-enrolled")}
    assert host.machine.read(CONFIG) == DENY + "".join(f"# {number}\n" for number in range(1, 11))
