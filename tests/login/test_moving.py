"""docs/moving.md, command by command: pam_google_authenticator or pam_oath is in force, and users log in meanwhile."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import pam
from tests.lab.code import STEP, code
from tests.lab.ssh import CODE

if TYPE_CHECKING:
    from tests.lab.machine import Machine
    from tests.lab.user import User

PAGE = Path(__file__).resolve().parents[2] / "docs" / "moving.md"
STACK = "/etc/pam.d/sshd"
GOOGLE = "auth required pam_google_authenticator.so nullok"
OATH = "auth required pam_oath.so usersfile=/etc/users.oath window=20 digits=6"
OATH_PROMPT = r"One-time password \(OATH\) for `\w+': ?"
# As `google-authenticator` asks, with the answers that it suggests.
MAKE = "google-authenticator -t -d -f -r 3 -R 30 -w 3 -e 5 -q"


def sections() -> dict[str, list[str]]:
    """The command blocks under each heading."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        title: re.findall(r"^```sh\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


class Rollover:
    """A host with the other module in force, and the blocks of a section of the page."""

    def __init__(self, machine: Machine, line: str, section: str) -> None:
        self.machine = machine
        self._blocks = iter(sections()[section])
        machine.sh(
            """
            sed -i 's/pam_unix.so nullok$/& nodelay/' /etc/pam.d/common-auth
            sed -i "/^@include common-auth/a $2" "$1"
            """,
            STACK,
            line,
        )
        machine.sshd.drop_in("10-other", "KbdInteractiveAuthentication yes\nPasswordAuthentication no\n")
        machine.sshd.start()

    def run(self, *, check: bool = True) -> str:
        """Run the next block as root; what it printed."""
        done = self.machine.sh("set -e\n" + next(self._blocks), check=check)
        return done.stdout + done.stderr

    def done(self) -> None:
        """Nothing of the section was left out."""
        assert next(self._blocks, None) is None

    def google(self, name: str) -> tuple[User, str]:
        """A user who has run google-authenticator, and the secret."""
        user = self.machine.user(name, key=False)
        self.machine.sh(f"cd; echo -1 | HOME=/home/{name} {MAKE}", user=user)
        return user, self.machine.read(f"/home/{name}/.google_authenticator").split("\n")[0]

    def scratch(self, name: str) -> list[str]:
        return re.findall(r"^\d{8}$", self.machine.read(f"/home/{name}/.google_authenticator"), re.MULTILINE)

    def log_in(self, user: User, *prompts: str, answer: str = "") -> bool:
        """Log in with the password and the same answer to all these prompts, which must be those that come."""
        with self.machine.ssh(user, "-o", "NumberOfPasswordPrompts=1") as ssh:
            ssh.expect("Password: ")
            ssh.answer(user.password)
            for prompt in prompts:
                ssh.expect(prompt)
                ssh.answer(answer)
            return ssh.wait() == 0

    def ours(self, user: User, answer: str) -> str:
        """What our module alone says to a code."""
        return pam.pamtester(self.machine, pam.alone(self.machine), user, answers=[answer]).code

    def side_by_side(self, line: str, user: User, answer: str) -> str:
        """What a stack of both modules says to the same code."""
        name = pam.service(self.machine, line, f"auth required {self.machine.module}", name="both")
        return pam.pamtester(self.machine, name, user, answers=[answer, answer]).code


def soon(secret: str) -> str:
    """The code of the next step, which all of them accept already."""
    return code(secret, time.time() + STEP)


def test_every_section_with_commands_is_tried() -> None:
    assert {title for title, blocks in sections().items() if blocks} == {
        "From google-authenticator",
        "From pam_oath",
        "One user at a time",
    }


def test_a_host_moves_from_google_authenticator_while_users_log_in(fresh_machine: Machine) -> None:
    host = Rollover(fresh_machine, GOOGLE, "From google-authenticator")
    (alice, secret), (bob, bobs), (carol, carols) = (host.google(name) for name in ("alice", "bob", "carol"))
    dave = fresh_machine.user("dave", key=False)
    used = code(secret)
    assert host.log_in(alice, CODE, answer=used)
    assert host.log_in(dave)

    shown = host.run()
    assert "would import 3 authenticators of 3 users; nothing was changed" in shown
    assert secret not in shown
    assert host.run() == "imported 3 authenticators of 3 users\n"
    # A code that was used there is used up here; the next one is right for both.
    assert host.ours(alice, used) == "PAM_AUTH_ERR"
    following = soon(secret)
    assert host.side_by_side(GOOGLE, alice, following) == "PAM_SUCCESS"
    assert host.log_in(dave)

    host.run()
    late = code(carols)
    assert host.log_in(carol, CODE, CODE, answer=late)
    bobs_scratch = host.scratch("bob")
    assert host.log_in(bob, CODE, CODE, answer=bobs_scratch[0])
    host.run()
    assert host.log_in(bob, CODE, answer=code(bobs))
    assert not host.log_in(carol, CODE, answer=late)
    # Scratch codes: one that was used is used up, another is good once.
    assert not host.log_in(bob, CODE, answer=bobs_scratch[0])
    assert host.log_in(bob, CODE, answer=bobs_scratch[1])
    assert not host.log_in(bob, CODE, answer=bobs_scratch[1])
    assert host.log_in(dave)

    host.run()
    assert fresh_machine.sh("ls /home/*/.google_authenticator", check=False).stdout == ""
    assert not host.log_in(alice, CODE, answer=following)  # used side by side above
    assert fresh_machine.run(["pam-totp", "status"]).stdout.count(" active ") == 3
    host.done()


def test_a_host_moves_from_pam_oath_while_users_log_in(fresh_machine: Machine) -> None:
    host = Rollover(fresh_machine, OATH, "From pam_oath")
    secrets = {name: bytes([number]) * 20 for number, name in enumerate(("alice", "bob", "carol"), 1)}
    alice, bob, carol = (fresh_machine.user(name, key=False) for name in secrets)
    base32 = {name: base64.b32encode(secret).decode() for name, secret in secrets.items()}
    lines = [f"HOTP/T30/6\t{name}\t-\t{secret.hex()}\n" for name, secret in secrets.items()]
    fresh_machine.write("/etc/users.oath", "".join(lines), mode=0o600)
    dave = fresh_machine.user("dave", key=False)
    # Of the step before: pam_oath notes how far it was without saying in which direction.
    used = code(base32["alice"], time.time() - STEP)
    assert host.log_in(alice, OATH_PROMPT, answer=used)
    assert not host.log_in(dave)

    assert "would import 3 authenticators of 3 users; nothing was changed" in host.run()
    assert host.run() == "imported 3 authenticators of 3 users\n"
    assert host.ours(alice, used) == "PAM_AUTH_ERR"
    assert host.side_by_side(OATH, alice, soon(base32["alice"])) == "PAM_SUCCESS"

    host.run()
    late = code(base32["carol"])
    assert host.log_in(carol, CODE, OATH_PROMPT, answer=late)
    host.run()
    assert host.log_in(bob, CODE, answer=code(base32["bob"]))
    assert not host.log_in(carol, CODE, answer=late)

    host.run()
    assert not host.log_in(dave)
    host.run()
    assert fresh_machine.run(["test", "-e", "/etc/users.oath"], check=False).returncode == 1
    host.done()


def test_users_move_one_at_a_time(fresh_machine: Machine) -> None:
    host = Rollover(fresh_machine, GOOGLE, "One user at a time")
    (alice, secret), (bob, bobs) = (host.google(name) for name in ("alice", "bob"))
    fresh_machine.run(["pam-totp", "setup", "--variant", "password", "--yes"])
    host.run()
    assert host.log_in(alice, CODE, answer=code(secret))
    assert host.log_in(bob, CODE, answer=code(bobs))
    assert [line.split()[0] for line in fresh_machine.run(["pam-totp", "status"]).stdout.splitlines()[1:]] == ["alice"]
    host.done()


# As many users as the largest hosts have, in the host's own passwd and in a users file of pam_oath.
MANY = r"""
awk -v OFS=: 'BEGIN { for (n = 0; n < 10000; n++) print "u" n, "x", 100000 + n, 100, "", "/", "/bin/sh" }' >>/etc/passwd
umask 077
awk 'BEGIN { for (n = 0; n < 10000; n++) printf "HOTP/T30/6 u%d - %040x\n", n, n + 1 }' >/root/users.oath
"""


def test_ten_thousand_users_move_in_less_than_ten_seconds_and_it_shows_how_far_it_is(fresh_machine: Machine) -> None:
    fresh_machine.sh(MANY)
    command = "TIMEFORMAT='took %U %S'; time pam-totp import --format oath /root/users.oath"
    with fresh_machine.terminal(["bash", "-c", command], timeout=120) as session:
        session.expect(r"read: 5000 of 10000")
        session.expect(r"imported 10000 authenticators of 10000 users")
        assert session.wait() == 0, session.screen
        # The processor's time: what else this machine does is no reason to fail.
        [took] = re.findall(r"took ([\d.]+) ([\d.]+)", session.screen)
    assert sum(map(float, took)) < 10
    secret = base64.b32encode((4321).to_bytes(20, "big")).decode()
    result = pam.pamtester(fresh_machine, pam.alone(fresh_machine), "u4320", answers=[code(secret)])
    assert result.code == "PAM_SUCCESS"
