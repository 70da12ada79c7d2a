"""``pam-totp setup`` over real logins: each variant, a change of variant, a second run, and everything undone again."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.login.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.machine import Completed, Machine
    from tests.lab.ssh import Result
    from tests.login.host import Person

STACK = "/etc/pam.d/sshd"
DROP_IN = "/etc/ssh/sshd_config.d/00-pam-totp.conf"
EXAMPLES = "/usr/share/doc/pam-totp/examples"
VARIANTS = ("key", "password", "combined")
# As a file of a host that somebody has looked after: a line of its own, an odd mode and group.
LOCAL = "auth required pam_access.so\n"


@pytest.fixture
def host(fresh_machine: Machine) -> Iterator[Host]:
    """A host as apt leaves it, with sshd running and local changes to PAM's file."""
    fresh_machine.sh(
        f"""
        set -e
        sed -i 's/pam_unix.so nullok$/& nodelay/' /etc/pam.d/common-auth
        sed -i '/^@include common-auth/i {LOCAL.strip()}' {STACK}
        chmod 640 {STACK}
        chgrp adm {STACK}
        """
    )
    fresh_machine.sshd.start()
    host = Host(fresh_machine)
    yield host
    host.close()
    assert host.leaks() == []


def run_setup(host: Host, *words: str, check: bool = True) -> Completed:
    return host.machine.run(["pam-totp", "setup", *words], check=check)


def told(host: Host, *words: str) -> Any:
    return json.loads(run_setup(host, *words, "--yes", "--json").stdout)


def state(host: Host) -> str:
    """Every file of PAM's and sshd's, with content, mode and owner."""
    script = """
        find /etc/pam.d /etc/ssh -type f -exec stat -c '%n %a %U %G' {} + | sort
        find /etc/pam.d /etc/ssh -type f -exec sha256sum {} + | sort
    """
    return host.machine.sh(script).stdout


def log_in(person: Person, variant: str, code: str | None, **more: Any) -> Result:
    """Log in as a variant has it; None: without a code."""
    if variant == "key":
        return person.host.machine.login(person.user, key=True, code=code, **more)
    if variant == "password":
        return person.host.machine.login(person.user, password=person.user.password, code=code, **more)
    options = ("-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1")
    return person.host.machine.login(person.user, *options, password=person.user.password + (code or ""), **more)


def in_force(host: Host, variant: str) -> None:
    """The variant demands a code of who is enrolled, lets in who is not, and nothing leads around it."""
    alice, bob = host.person(), host.person(enrolled=False)
    assert log_in(bob, variant, None).ok
    assert not log_in(alice, variant, alice.wrong()).ok
    assert log_in(alice, variant, alice.code()).ok
    key_alone = host.machine.login(alice.user, "-o", "PreferredAuthentications=publickey", key=True)
    assert not key_alone.ok
    assert not log_in(alice, variant, None).ok
    assert host.machine.read(STACK).count(LOCAL) == 1
    assert run_setup(host, "--check").stdout == "sshd: in force\n"


@pytest.mark.engines
def test_each_variant_and_each_change_of_it_is_in_force_and_undo_brings_back_every_byte(
    host: Host, engine: str
) -> None:
    before = state(host)
    for variant in (*VARIANTS, "key"):
        done = told(host, "--variant", variant, "--engine", engine)
        assert f" {host.machine.module} " in host.machine.read(STACK)
        assert (done["changed"], done["variant"], done["files"]) == (True, variant, [STACK, DROP_IN])
        assert re.fullmatch(r"kill -HUP \d+", done["reloaded"])
        in_force(host, variant)
        after = state(host)
        again = told(host, "--variant", variant, "--engine", engine)
        assert (again["changed"], again["files"], again["reloaded"]) == (False, [], None)
        assert state(host) == after
    undone = told(host, "--undo")
    assert undone["changed"]
    assert state(host) == before
    alice = host.person()
    assert not host.machine.login(alice.user, key=True).asked_code
    assert told(host, "--undo")["changed"] is False


def test_a_dry_run_shows_the_change_and_makes_none(host: Host) -> None:
    before = state(host)
    done = run_setup(host, "--variant", "key", "--dry-run", check=False)
    assert done.returncode == 1
    assert "+auth required " in done.stdout
    assert "-@include common-auth" in done.stdout
    assert "+AuthenticationMethods publickey,keyboard-interactive:pam" in done.stdout
    assert state(host) == before
    run_setup(host, "--variant", "key", "--yes")
    assert run_setup(host, "--variant", "key", "--dry-run").stdout.startswith("nothing to change")


def test_at_a_terminal_it_asks_and_a_no_changes_nothing(host: Host) -> None:
    before = state(host)
    for answer, status in (("n", 1), ("y", 0)):
        with host.machine.terminal(["pam-totp", "setup", "--variant", "password"]) as session:
            session.expect(r"Put this in force\? \[y/N\] ")
            session.answer(answer)
            assert session.wait() == status
        assert (state(host) == before) == (answer == "n")
    refused = run_setup(host, "--undo", check=False)
    assert (refused.returncode, "add --yes" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("breakage", "said"),
    [
        ("echo Nonsense yes >/etc/ssh/sshd_config.d/50-broken.conf", "Nonsense"),
        (
            "echo 'AuthenticationMethods any' >/etc/ssh/sshd_config.d/00-a.conf",
            "has AuthenticationMethods any in force",
        ),
        ("sed -i '/^Include/d' /etc/ssh/sshd_config", "sshd has"),
        ("sed -i '/^auth.*pam_access/i auth sufficient pam_permit.so' /etc/pam.d/sshd", "can skip it"),
        ("sed -i 's/success=1/success=done/' /etc/pam.d/common-auth", "can skip it"),
        ("echo 'auth required pam_totp.so' >>/etc/pam.d/common-auth", "asks as well"),
        ("sed -i '/common-auth/d' /etc/pam.d/sshd", "it has no line @include common-auth"),
        ("mv /etc/pam-totp/key /root", "key"),
        ("echo windw=1 >/etc/pam-totp/config.toml", "windw"),
        (
            "mv /usr/lib/*/security/pam_totp.so /root 2>/dev/null; mv /usr/lib/security/pam_totp.py /root",
            "is installed",
        ),
    ],
)
def test_what_would_not_be_in_force_is_refused_and_nothing_is_left_changed(
    host: Host, breakage: str, said: str
) -> None:
    host.machine.sh(breakage)
    before = state(host)
    done = run_setup(host, "--variant", "password", "--yes", check=False)
    assert (done.returncode, said in done.stderr) == (3, True), done.stderr
    assert state(host) == before
    assert host.machine.run(["ls", "-A", "/var/lib/pam-totp/setup"], check=False).stdout in ("", "sshd.before\n")
    assert run_setup(host, "--check").stdout == ""


def test_files_that_were_copied_by_hand_are_taken_over_with_what_was_added_to_them(host: Host) -> None:
    """Both drop-ins of 0.1.0 at once, which was a trap: the one of the earlier variant was in force."""
    person = host.person()
    host.machine.sh(
        f"""
        set -e
        cp {EXAMPLES}/sshd_config.d/00-pam-totp-key-and-code.conf /etc/ssh/sshd_config.d/
        cp {EXAMPLES}/sshd_config.d/00-pam-totp-password-and-code.conf /etc/ssh/sshd_config.d/
        printf 'LoginGraceTime 5m\nMatch User {person} Address 127.0.0.7\n    AuthenticationMethods publickey\n' \
            >>/etc/ssh/sshd_config.d/00-pam-totp-key-and-code.conf
        cp {EXAMPLES}/pam.d/sshd-key-and-code {STACK}
        sed -i '1i {LOCAL.strip()}' {STACK}
        """
    )
    host.machine.sshd.restart()
    before = state(host)
    for variant in ("password", "key", "combined"):
        assert told(host, "--variant", variant)["changed"]
        in_force(host, variant)
        assert host.machine.sshd.settings()["logingracetime"] == "300"
        assert host.machine.login(person.user, key=True, source="127.0.0.7").ok
    told(host, "--undo")
    assert state(host) == before


def test_a_robot_and_root_from_the_bastion_have_their_key_alone(host: Host) -> None:
    alice, robot = host.person(), host.person(enrolled=False)
    host.machine.sh("install -d -m 700 /root/.ssh; cat /root/.ssh/$1.pub >/root/.ssh/authorized_keys", robot.name)
    words = ("--variant", "key", "--robot", robot.name, "--robot", "root@127.0.0.7", "--yes")
    run_setup(host, *words)
    batch = ("-o", "BatchMode=yes")
    assert host.machine.login(robot.user, *batch, key=True).ok
    assert host.machine.login("root", *batch, key=robot.name, source="127.0.0.7").ok
    assert not host.machine.login("root", *batch, key=robot.name).ok
    assert not host.machine.login(alice.user, *batch, key=True).ok
    # Another variant, and still the same robots: whoever is not named again is not shut out.
    assert told(host, "--variant", "password")["robots"] == [robot.name, "root@127.0.0.7"]
    assert host.machine.login(robot.user, *batch, key=True).ok
    assert told(host, "--no-robots")["robots"] == []
    assert not host.machine.login(robot.user, *batch, key=True).ok


def test_it_names_whom_it_would_shut_out(host: Host) -> None:
    machine = host.machine
    with_both, with_password, with_key = (machine.user(name, key=name != "bob") for name in ("alice", "bob", "carol"))
    machine.run(["usermod", "-p", "*", with_key.name])
    backup = machine.user("backup-robot")
    machine.sh(f"sed -i 's/^/command=\"true\" /' /home/{backup}/.ssh/authorized_keys")
    machine.sh("mkdir -p /root/.ssh && cat /home/alice/.ssh/authorized_keys >/root/.ssh/authorized_keys")
    expected = {
        "key": {"bob", "backup-robot", "root"},
        "password": {"carol", "backup-robot", "root"},
        "combined": {"carol", "backup-robot", "root"},
    }
    for variant, names in expected.items():
        done = json.loads(run_setup(host, "--variant", variant, "--dry-run", "--json", check=False).stdout)
        assert {each["user"] for each in done["kept_out"]} == names
        assert "PermitRootLogin" in next(each["reason"] for each in done["kept_out"] if each["user"] == "root")
    shown = run_setup(host, "--variant", "key", "--dry-run", check=False).stdout
    assert "  bob: has no key in authorized_keys" in shown
    assert "--robot USER@ADDRESS" in shown
    machine.write("/etc/pam-totp/config.toml", 'unenrolled = "deny"\n')
    done = json.loads(run_setup(host, "--variant", "key", "--dry-run", "--json", check=False).stdout)
    assert {each["user"] for each in done["kept_out"]} >= {with_both.name, with_password.name}


def test_a_local_edit_after_it_outlives_a_change_of_variant_and_the_undoing(host: Host) -> None:
    run_setup(host, "--variant", "key", "--yes")
    host.machine.sh(f"echo 'session optional pam_echo.so file=/etc/hello' >>{STACK}")
    run_setup(host, "--variant", "password", "--yes")
    run_setup(host, "--undo", "--yes")
    text = host.machine.read(STACK)
    assert text.endswith("session optional pam_echo.so file=/etc/hello\n")
    assert "\n@include common-auth\n" in text
    assert "pam-totp" not in text


def test_without_python_one_line_of_shell_undoes_it(host: Host) -> None:
    before = state(host)
    for variant in VARIANTS:
        run_setup(host, "--variant", variant, "--yes")
        host.machine.sh(f"sed -i -e '/ #pam-totp#$/d' -e 's/^#pam-totp# //' {STACK} && rm {DROP_IN}")
        assert state(host) == before


def test_another_file_in_the_place_of_pams_is_an_alert_and_is_put_back_where_that_was_asked_for(host: Host) -> None:
    original = host.machine.read(STACK)
    alice = host.person()
    run_setup(host, "--variant", "password", "--yes")
    mark = host.machine.mark()
    host.machine.write(STACK, original)
    lost = run_setup(host, "--check", check=False)
    assert (lost.returncode, "is missing" in lost.stdout) == (1, True)
    [alert] = [record for record in host.machine.log(mark) if "enforcement-lost" in record.message]
    assert str(alert).startswith("authpriv.alert ")
    assert "is missing" in alert.message
    # Put back by hand, and from now on by itself.
    run_setup(host, "--enforce", "--yes")
    assert log_in(alice, "password", alice.code()).ok
    host.machine.write(STACK, original)
    host.machine.sshd.remove("00-pam-totp")
    mark = host.machine.mark()
    assert run_setup(host, "--check").stdout.endswith("sshd: put back\n")
    alerts = [record for record in host.machine.log(mark) if record.severity == "alert"]
    assert [re.findall(r"action=(\S+)", record.message) for record in alerts] == [
        ["enforcement-lost"],
        ["enforcement-restored"],
    ]
    assert not log_in(alice, "password", alice.wrong()).ok
    run_setup(host, "--undo", "--yes")
    assert host.machine.read(STACK) == original


def test_an_sshd_that_asks_pam_for_another_service_is_an_alert(host: Host) -> None:
    run_setup(host, "--variant", "password", "--yes")
    host.machine.sshd.drop_in("99-service", "PAMServiceName login")
    mark = host.machine.mark()
    assert run_setup(host, "--check", check=False).returncode == 1
    [alert] = [record.message for record in host.machine.log(mark) if "enforcement-lost" in record.message]
    # Debian 12's sshd does not know the setting, and so does not start.
    assert "asks PAM for the service login" in alert or "Bad configuration option: PAMServiceName" in alert
    host.machine.sshd.remove("99-service")
    run_setup(host, "--undo", "--yes")


def test_without_systemd_a_set_up_that_undoes_itself_is_refused(host: Host) -> None:
    before = state(host)
    done = run_setup(host, "--variant", "key", "--revert-after", "10m", "--yes", check=False)
    assert (done.returncode, "systemd does not run here" in done.stderr) == (3, True)
    assert state(host) == before


def test_another_service_gets_its_lines_and_no_drop_in(host: Host) -> None:
    host.machine.write("/etc/pam.d/vpn", "@include common-auth\n@include common-account\n")
    before = state(host)
    done = told(host, "--service", "vpn", "--variant", "combined")
    assert done["files"] == ["/etc/pam.d/vpn"]
    assert host.machine.read("/etc/pam.d/vpn").count("combined=") == 3
    assert told(host, "--service", "vpn", "--undo")["changed"]
    assert state(host) == before
