"""The steps of `./run vagrant`, in their order: what an administrator would try on a machine of their own."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from typing import TYPE_CHECKING

from tests.lab.code import wrong
from tests.lab.vagrant.guest import Guest, Login
from tests.lab.vagrant.phone import Phone
from tests.lab.vagrant.project import MESSAGE, Project
from tests.lab.vagrant.transcript import Transcript, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable

    Statuses = dict[str, dict[str, object]]

PASSWORD = "correct horse"
STRANGERS = [f"/root/.ssh/stranger{number}" for number in range(1, 9)]
TRIES = 3  # per connection
ROUNDING = 2  # seconds
ENFORCED = Wanted(asked=True, ok=True, reason="accepted code")
NOT_ASKED = Wanted(asked=False, ok=True, reason="skipped not-enrolled")

USE = """
pam-totp setup --variant "${1%%-*}" --yes
# It is reloaded, which this slow box takes a moment for: a restart is over once it listens.
systemctl restart ssh
"""
# carol and dave, as the Vagrantfile makes its users; strangers' keys for those whom somebody guesses at.
PEOPLE = """
set -e
for user in carol dave; do
    useradd --create-home --shell /bin/bash "$user"
    install -d -o "$user" -g "$user" -m 700 "/home/$user/.ssh"
    install -o "$user" -g "$user" -m 600 /home/vagrant/.ssh/authorized_keys "/home/$user/.ssh/"
done
tee -a /home/bob/.ssh/authorized_keys >>/home/carol/.ssh/authorized_keys
printf '%s:correct horse\\n' alice dave | chpasswd
# Debian 13's sshd refuses an address by itself after a few failures; the strangers share one with everybody.
if sshd -t -o PerSourcePenalties=no 2>/dev/null; then
    echo 'PerSourcePenalties no' >/etc/ssh/sshd_config.d/10-penalties.conf
    systemctl restart ssh
fi
"""
UNITS = """
systemctl is-system-running --wait
systemctl --failed --plain --no-legend
for file in $(dpkg -L pam-totp | grep -E '/systemd/system/[^/@]+$'); do
    unit=${file##*/}
    # Not a service that something else starts, nor one that has run and is done.
    [ "$(systemctl is-enabled "$unit") $(systemctl show --property=Type --value "$unit")" = 'enabled ' ] || continue
    set -- "$@" "$unit"
done
for unit in "$@" ssh.service; do
    echo "$(systemctl show --property=ActiveEnterTimestampMonotonic --value "$unit")" \\
        "$unit $(systemctl show --property=ActiveState --value "$unit")"
done
"""
# sshd may do nearly everything, but run no other program than its own, shells and what checks passwords.
PROFILE = """
abi <abi/3.0>,
include <tunables/global>

profile sshd /usr/sbin/sshd flags=(attach_disconnected) {
  capability,
  dbus,
  mount,
  network,
  ptrace,
  signal,
  umount,
  unix,
  / r,
  /** rwlk,
  /usr/** mr,
  /usr/sbin/sshd ix,
  /usr/lib/openssh/* ix,
  /usr/sbin/unix_chkpwd Ux,
  /usr/bin/{bash,dash,sh} Ux,
  RULE
}
"""
# As pam_totp(8) has them.
ALLOWED = "/run/pam-totp/login.sock rw,\n  /usr/bin/python3.* Ux,"
WARM = "systemctl $1 pam-totp-login.socket pam-totp-login.service"
CONFINE = """
set -e
cat >/etc/apparmor.d/lab-sshd
apparmor_parser --replace /etc/apparmor.d/lab-sshd
systemctl restart ssh
cat "/proc/$(systemctl show --property=MainPID --value ssh)/attr/current"
"""
APPARMOR = """
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends apparmor </dev/null 2>&1
cat /sys/module/apparmor/parameters/enabled
"""
SET_FREE = """
set -e
apparmor_parser --remove /etc/apparmor.d/lab-sshd
rm /etc/apparmor.d/lab-sshd
systemctl restart ssh
"""
REACH = """
set -- $(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' | head -n 1)
timeout 30 /usr/lib/apt/apt-helper -o Acquire::Retries=0 download-file "$1dists/$2/InRelease" /tmp/reached 2>&1 |
    tail -n 1
test -s /tmp/reached && echo reached
rm -f /tmp/reached
"""


class Story:
    """Runs the steps of a project, the first of which is `vagrant up`."""

    def __init__(self, project: Project, transcript: Transcript) -> None:
        self._project = project
        self._guest = Guest(project.host)
        self._transcript = transcript
        self._phones: dict[str, Phone] = {}

    def run(self) -> None:
        """All of them. Raises MachineError or SessionError where it cannot go on."""
        self._up()
        self._key_and_code()
        self._guesses()
        self._confined()
        self._password_and_code()
        self._offline()
        self._reboot()
        self._clock()
        self._snapshot()
        self._destroy()

    # -- the sections

    def _up(self) -> None:
        self._transcript.section("vagrant up, as anybody would")
        self._project.vagrant("validate", quiet=True)
        start = time.monotonic()
        said = self._project.up()
        took = time.monotonic() - start
        secrets = dict(re.findall(r"otpauth://totp/[^:?]*:(\w+)\?secret=([A-Z2-7]+)", said))
        self._phones = {user: Phone(secret) for user, secret in secrets.items()}
        ahead = self._guest.clock()
        words = [line.removeprefix("==> default:")[1:] for line in said.partition(MESSAGE)[2].splitlines()[2:]]
        self._fact(
            "the Vagrantfile installs the package, enrols alice and bob, and says how to log in",
            sorted(secrets) == ["alice", "bob"],
            f"{self._project.box} is up after {took:.0f} s, with its clock {ahead:+.1f} s from this computer's",
            *filter(None, words),
        )
        for key in STRANGERS:
            self._project.host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
        keys = "".join(self._project.host.read(f"{key}.pub") for key in STRANGERS)
        self._guest.root(PEOPLE, input=keys)
        self._guest.mark()

    def _key_and_code(self) -> None:
        self._transcript.section("Public key + code, as the Vagrantfile leaves it")
        alice, bob = self._phones["alice"], self._phones["bob"]
        first = self._login("alice types the right code", "alice", ENFORCED, alice.read)
        self._login(
            "the same code again", "alice", Wanted(asked=True, ok=False, reason="refused spent-code"), *first.typed
        )
        self._login(
            "a wrong code",
            "alice",
            Wanted(asked=True, ok=False, reason="refused wrong-code"),
            wrong(alice.secret),
        )
        self._login(
            "bob's phone is a step slow: its code of now is that of half a minute ago", "bob", ENFORCED, bob.slow
        )
        self._login(
            "a code of five minutes from now",
            "bob",
            Wanted(asked=True, ok=False, reason="refused code-of-another-time"),
            bob.far,
        )
        self._login("dave has not enrolled", "dave", NOT_ASKED)
        enrolled = self._guest.root("pam-totp enroll carol --no-confirm --json")
        carol = self._phones["carol"] = Phone(str(json.loads(enrolled)["secret"]))
        self._login(
            "carol has been given a key, and has not confirmed it with a code yet",
            "carol",
            Wanted(asked=False, ok=True, reason="skipped pending"),
        )
        self._guest.root("pam-totp confirm carol", input=carol.read() + "\n")
        self._login("carol has confirmed it; her phone is a step fast", "carol", ENFORCED, carol.fast)
        self._login("somebody without a key", "alice", Wanted(asked=False, ok=False, reason=""), key=None)

    def _guesses(self) -> None:
        self._transcript.section("Guessing")
        # One is bob's own of before.
        self._guess("bob", 23)
        self._login(
            "24 wrong codes a day are all that strangers have, wherever they come from",
            "bob",
            Wanted(asked=False, ok=False, reason="refused throttled"),
            key=STRANGERS[0],
        )
        self._login("bob himself is not held up by them", "bob", ENFORCED, self._phones["bob"].read)
        self._guest.root("printf 'lock_after = 10\\n' >/etc/pam-totp/config.toml")
        self._guess("carol", 10)
        self._login(
            "with lock_after = 10 that has locked her account for them",
            "carol",
            Wanted(asked=False, ok=False, reason="refused locked"),
            key=STRANGERS[0],
        )
        self._login("carol herself is not locked out", "carol", ENFORCED, self._phones["carol"].read)

    def _confined(self) -> None:
        self._transcript.section("sshd confined by AppArmor")
        refused = Wanted(asked=False, ok=False, reason="error helper-failed")
        said = self._guest.root(APPARMOR, timeout=600).splitlines()
        self._fact("the kernel has it", said[-1:] == ["Y"], *said[-3:])
        self._guest.root(WARM, "stop")
        self._confine("not what pam_totp(8) says", "")
        self._login("a helper is not warm, and cannot be started: nobody gets in", "alice", refused)
        self._login("not even who has not enrolled", "dave", refused)
        self._confine("that", ALLOWED)
        self._login("a helper can be started", "alice", ENFORCED, self._phones["alice"].read)
        self._login("dave has not enrolled", "dave", NOT_ASKED)
        self._guest.root(WARM, "start")
        self._login("and there is a warm one again", "carol", ENFORCED, self._phones["carol"].read)
        self._guest.root(SET_FREE)

    def _confine(self, what: str, rule: str) -> None:
        said = self._guest.root(CONFINE, input=PROFILE.replace("RULE", rule)).strip()
        self._fact(f"the profile, which is enforced, allows {what}", said == "sshd (enforce)", said)

    def _password_and_code(self) -> None:
        self._transcript.section("Password + code")
        self._guest.root(USE, "password-and-code")
        alice = self._phones["alice"]
        self._login("dave has not enrolled: his password is enough", "dave", NOT_ASKED, password=PASSWORD)
        first = self._login("alice: password and code", "alice", ENFORCED, alice.read, password=PASSWORD)
        self._login(
            "the same code again",
            "alice",
            Wanted(asked=True, ok=False, reason="refused spent-code"),
            *first.typed,
            password=PASSWORD,
        )
        self._login(
            "a wrong password: nobody learns whether there is a code",
            "alice",
            Wanted(asked=False, ok=False, reason=""),
            password="wrong",
        )

    def _offline(self) -> None:
        self._transcript.section("Cut off: only the cable to the box itself is left")
        alice = self._phones["alice"]
        before = self._guest.root(REACH).splitlines()
        self._project.host.disconnect()
        after = self._guest.root(REACH, check=False).splitlines()
        self._fact(
            "the box has lost its way out",
            before[-1:] == ["reached"] and after[-1:] != ["reached"],
            *(f"before: {line}" for line in before[-1:]),
            *(f"now: {line}" for line in after[-1:]),
        )
        self._login(
            "offline, a wrong code is refused",
            "alice",
            Wanted(asked=True, ok=False, reason="refused wrong-code"),
            wrong(alice.secret),
            password=PASSWORD,
        )
        self._login("offline, alice gets in with the right code", "alice", ENFORCED, alice.read, password=PASSWORD)
        self._project.host.connect()

    def _reboot(self) -> None:
        self._transcript.section("A reboot")
        self._guest.root(USE, "key-and-code")
        # Wide enough for a code of before the reboot to be refused for nothing but that it is spent.
        self._guest.root("printf 'lock_after = 10\\nwindow = 10\\n' >/etc/pam-totp/config.toml")
        alice, carol = self._phones["alice"], self._phones["carol"]
        first = self._login("alice, just before", "alice", ENFORCED, alice.read)
        before = self._status()
        start = time.monotonic()
        self._guest.reboot()
        units = self._guest.root(UNITS, check=False).splitlines()
        self._fact(
            "every unit is up, and ours were before sshd",
            units[0] == "running" and _in_order(units[1:]),
            f"back after {time.monotonic() - start:.0f} s, {units[0]}",
            *units[1:],
        )
        after = self._status()
        self._fact(
            "failures, waits and locks are as they were",
            _alike(before, after) and after["carol"]["state"] == "locked",
            *(f"{user}: {json.dumps(status[user])}" for user in ("bob", "carol") for status in (before, after)),
        )
        self._login(
            "the code of before the reboot, with window = 10",
            "alice",
            Wanted(asked=True, ok=False, reason="refused spent-code"),
            *first.typed,
        )
        self._login("alice types a new one", "alice", ENFORCED, alice.read)
        self._login(
            "whoever guesses at bob must wait",
            "bob",
            Wanted(asked=False, ok=False, reason="refused throttled"),
            key=STRANGERS[0],
        )
        self._login(
            "carol is locked where she has not logged in from",
            "carol",
            Wanted(asked=False, ok=False, reason="refused locked"),
            key=STRANGERS[0],
        )
        self._guest.root("pam-totp unlock carol")
        self._login("until an administrator unlocks her", "carol", ENFORCED, carol.read, key=STRANGERS[0])

    def _clock(self) -> None:
        self._transcript.section("A wrong clock")
        self._guest.root("rm /etc/pam-totp/config.toml; pam-totp config reset --yes")
        alice = self._phones["alice"]
        self._guest.set_clock(300)
        tried = self._login(
            "the box's clock is five minutes fast: alice's code of now is refused",
            "alice",
            Wanted(asked=True, ok=False, reason="refused code-of-another-time"),
            alice.read,
        )
        said = self._guest.root("pam-totp check alice || :", input=f"{tried.typed[0]}\n")
        self._fact("pam-totp check tells why", "right but 300 s behind" in said, said.strip())
        self._guess("carol", TRIES)
        self._guest.set_clock(25 * 3600)
        self._login(
            "a day fast: the half minute that the stranger has to wait is not over by that",
            "carol",
            Wanted(asked=False, ok=False, reason="refused throttled"),
            key=STRANGERS[0],
        )
        self._guest.set_clock(0)
        used = time.time()
        first = self._login("put right", "alice", ENFORCED, alice.read)
        self._guest.set_clock(used - time.time())
        self._login(
            "set back to when that code was good: it stays spent",
            "alice",
            Wanted(asked=True, ok=False, reason="refused spent-code"),
            *first.typed,
        )
        self._guest.set_clock(0)
        self._login("put right again", "alice", ENFORCED, alice.read)

    def _snapshot(self) -> None:
        self._transcript.section("A snapshot of the running box, memory included")
        bob = self._phones["bob"]
        bob.wait()
        self._guest.hang_up()
        self._project.vagrant("snapshot", "save", "before", timeout=300)
        first = self._login("bob logs in after it was taken", "bob", ENFORCED, bob.read)
        self._login("his code is spent", "bob", Wanted(asked=True, ok=False, reason="refused spent-code"), *first.typed)
        self._guest.hang_up()
        self._project.vagrant("snapshot", "restore", "before", timeout=300)
        self._guest.wait_for_root()
        self._guest.mark()
        behind = self._guest.clock()
        self._login(
            "a limit: restored, the box knows nothing of that, and its clock is back too; the code is good once more",
            "bob",
            ENFORCED,
            *first.typed,
        )
        self._login("and then spent", "bob", Wanted(asked=True, ok=False, reason="refused spent-code"), *first.typed)
        self._guest.set_clock(0)
        self._fact("the clock was slow after the restore, and is put right", behind < -1, f"{behind:+.1f} s")
        self._login("bob's next code", "bob", ENFORCED, bob.read)

    def _destroy(self) -> None:
        self._guest.hang_up()
        self._project.vagrant("destroy", "-f")
        left = self._project.host.run(["pgrep", "-c", "qemu"], check=False).stdout.strip()
        self._fact("vagrant destroy leaves nothing running", left == "0")

    # -- their parts

    def _login(
        self,
        title: str,
        user: str,
        wanted: Wanted,
        *codes: str | Callable[[], str],
        password: str = "",
        key: str | None = "",
    ) -> Login:
        # With a password no key is tried: the way in is the password's.
        used = None if password else key
        login = self._guest.login(user, *codes, password=password, key=used, logged=1 if wanted.reason else 0)
        options = f"-i {key.rpartition('/')[2]} " if key else ""
        self._transcript.login(title, f"ssh -F .vagrant/ssh-config {options}{user}@default", login, wanted)
        return login

    def _guess(self, user: str, count: int) -> None:
        """Type wrong codes, as many in a connection as it allows, and then from another key."""
        start = time.monotonic()
        wrong_code = wrong(self._phones[user].secret)
        refused = 0
        for key in STRANGERS[: -(-count // TRIES)]:
            guesses = [wrong_code] * min(TRIES, count - refused)
            login = self._guest.login(user, *guesses, key=key, logged=len(guesses))
            refused += sum("outcome=refused reason=wrong-code" in line for line in login.log) - login.ok
        self._fact(
            f"strangers with keys of {user}'s type {count} wrong codes",
            refused == count,
            f"{refused} refused in {time.monotonic() - start:.0f} s, {TRIES} for each key",
        )

    def _fact(self, title: str, right: bool, *lines: str) -> None:
        self._transcript.fact(title, right, *lines, wanted="it has to be so")

    def _status(self) -> Statuses:
        """Of those who have to wait, or are locked: what must not change."""
        said = json.loads(self._guest.root("pam-totp status bob carol --json"))
        return {entry["user"]: {key: entry[key] for key in ("state", "failures", "retry_at")} for entry in said}


def _alike(before: Statuses, after: Statuses) -> bool:
    """Whether these are the same; bob's wait is kept in whole seconds of two clocks, the boot's and the wall's."""
    ends = [status["bob"]["retry_at"] for status in (before, after)]
    if None in ends:
        return False
    first, second = (datetime.fromisoformat(str(end)).timestamp() for end in ends)
    moved = {**after, "bob": {**after["bob"], "retry_at": ends[0]}}
    return before == moved and abs(first - second) <= ROUNDING


def _in_order(lines: list[str]) -> bool:
    """Whether each unit ("MICROSECONDS UNIT STATE", ours first, sshd last) is active, and ours were before sshd."""
    units = [line.split() for line in lines]
    if not units or any(len(unit) != 3 or unit[2] != "active" for unit in units):
        return False
    *ours, (sshd, name, _) = units
    return bool(ours) and name == "ssh.service" and all(int(unit[0]) <= int(sshd) for unit in ours)
