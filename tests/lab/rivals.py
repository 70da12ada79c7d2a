"""What the module is measured against, and a machine in which all of them are set up for the same users."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypedDict

from tests.lab.machine import ENVIRONMENT
from tests.lab.setup import EXAMPLES
from tests.lab.sshd import RELAXED
from tests.lab.warm import SOCKET, Warm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.lab.machine import Machine

HERE = Path(__file__).parent
FIRST_UID = 100_001
KEY = "/root/.ssh/bench"
ASKPASS = "/run/lab/askpass"
FIRST_PORT = 2201
OURS_LINE = "auth       required     pam_totp.so first_factor=publickey"

# ssh(1) runs this for the answer to the one prompt that there should be.
ANSWER = """\
#!/bin/sh
case $1 in
*"Verification code"* | *"One-time password"*) ;;
*) exit 1 ;;
esac
if [ -n "${HOLD-}" ]; then
    : >"$HOLD/asked"
    until [ -e "$HOLD/go" ]; do sleep 0.002; done
    sleep "$PAUSE"
    date +%s.%N >&2
fi
if [ -n "${SECRET-}" ]; then
    printf '%s\\n' "$SECRET" | oathtool --totp --base32 -
else
    printf '%s\\n' "$CODE"
fi
"""

ASKS = """\
def pam_sm_authenticate(pamh, flags, argv):
    pamh.conversation(pamh.Message(pamh.PAM_PROMPT_ECHO_OFF, "Verification code: "))
    return pamh.PAM_SUCCESS


def pam_sm_setcred(pamh, flags, argv):
    return pamh.PAM_IGNORE
"""

ENROL = r"""
set -e
umask 077
rm -rf /etc/pam-totp/key /var/lib/pam-totp/cache.db*
test ! -e /run/pam-totp || find /run/pam-totp -mindepth 1 ! -name login.sock -delete
pam-totp init --anew >/dev/null
/usr/bin/python3 -I /run/lab/fill.py "$1" "$2" >/root/secrets
awk '{ print "HOTP/T30/6\t" $1 "\t-\t" $2 }' /root/secrets >/etc/users.oath
"""

ACCOUNTS = r"""
set -e
head -n "$1" /root/secrets >/root/some
awk -v OFS=: -v uid="$2" '{ print $1, "x", uid + NR - 1, 100, "", "/home/" $1, "/bin/bash" }' /root/some >>/etc/passwd
awk '{ print $1 ":*:19000:0:99999:7:::" }' /root/some >>/etc/shadow
"""

# google-authenticator's file is what its own program writes with --time-based --disallow-reuse --rate-limit=3
# --rate-time=30 --window-size=3.
GOOGLE_FILES = r"""
set -e
head -n "$1" /root/secrets >/root/some
while read -r name _ secret; do
    mkdir -p "/home/$name"
    rm -f "/home/$name/.google_authenticator"
    printf '%s\n' "$secret" '" RATE_LIMIT 3 30' '" WINDOW_SIZE 3' '" DISALLOW_REUSE' '" TOTP_AUTH' \
        >"/home/$name/.google_authenticator"
    chmod 400 "/home/$name/.google_authenticator"
    chown -R "$name:users" "/home/$name"
done </root/some
"""

SERVE = r"""
set -e
mkdir -p "$1"
echo $$ >"$1/cgroup.procs"
shift
exec unshare --mount --propagation private -- sh -c '
    set -e
    mount --bind "/etc/pam.d/sshd.$1" /etc/pam.d/sshd
    test -z "$2" || mount --bind /dev/null "$2"
    shift 2
    exec /usr/sbin/sshd "$@"
' sh "$@"
"""

# The listener, and after an interruption also its sessions.
END = r"""
exec 2>&-
while pids=$(cat "$1/cgroup.procs") && [ -n "$pids" ]; do
    kill $pids
    sleep 0.01
done
rmdir "$1"
"""


REST = "account required pam_permit.so\nsession required pam_permit.so\n"
SUDOERS = """\
Defaults timestamp_timeout=0, !lecture
%users ALL=(root) ALL
"""


class Command(TypedDict):
    """What the stopwatch runs."""

    argv: Sequence[str]
    env: Mapping[str, str]
    input: str


@dataclass(frozen=True)
class Rival:
    """A second factor: its name in files and in JSON, its title in tables, and its PAM line.

    `asks` is false where there is no second factor; `checks` also where no code is wrong. A `cold` one does not see the
    socket of the warm process: its sshd never does, and what else runs has it hidden meanwhile (`hidden`).
    """

    name: str
    title: str
    line: str
    asks: bool = True
    checks: bool = True
    cold: bool = False


NONE = Rival("none", "no second factor", "auth required pam_permit.so", asks=False, checks=False)
GOOGLE = Rival("google_authenticator", "pam_google_authenticator", "auth required pam_google_authenticator.so")
OATH = Rival("oath", "pam_oath", "auth required pam_oath.so usersfile=/etc/users.oath window=20 digits=6")
STOCK = Rival("pam_python", "pam_totp in pam_python", OURS_LINE.replace("pam_totp.so", "pam_python.so pam_totp.py"))
# What pam_python itself takes, which is Python's start twice: no script can be faster.
ASKING = Rival("pam_python_asks", "pam_python that only asks", "auth required pam_python.so asks.py", checks=False)
COLD = Rival("pam_totp_cold", "pam_totp, cold", OURS_LINE, cold=True)
OURS = Rival("pam_totp", "pam_totp, warm", OURS_LINE)
RIVALS = (NONE, GOOGLE, OATH, ASKING, STOCK, COLD, OURS)


@dataclass(frozen=True)
class Person:
    """An enrolled user and the secret in base32."""

    name: str
    secret: str


class Field:
    """A machine with `enrolled` users in every rival's files, of whom `real` have an account and a home.

    The PAM services are named after the rivals, and `sshd.NAME` are those for sshd.
    """

    def __init__(self, machine: Machine, enrolled: int, real: int) -> None:
        self.machine = machine
        self.enrolled = enrolled
        self._real = min(enrolled, real)
        self._unspent: list[Person] = []
        for script in ("fill.py", "stopwatch.py"):
            machine.write(f"/run/lab/{script}", (HERE / script).read_text(encoding="utf-8"))
        machine.write(ASKPASS, ANSWER, mode=0o755)
        machine.write("/usr/lib/security/asks.py", ASKS)
        example = machine.read(f"{EXAMPLES}/pam.d/sshd-key-and-code")
        if OURS_LINE not in example:
            raise AssertionError("the PAM example has another line now: put it into tests/lab/rivals.py")
        for rival in RIVALS:
            machine.write(f"/etc/pam.d/sshd.{rival.name}", example.replace(OURS_LINE, rival.line))
            # For pamtester, and for sudo, which knows of no key.
            line = rival.line.replace(" first_factor=publickey", "")
            machine.write(f"/etc/pam.d/{rival.name}", f"{line}\nauth required pam_permit.so\n{REST}")
            machine.sh('ln /bin/true "$1"', _command(rival))
        machine.write("/etc/sudoers.d/bench", SUDOERS + "".join(map(_sudoers, RIVALS)), mode=0o440)
        self._enroll()
        machine.sh(ACCOUNTS, str(self._real), str(FIRST_UID))
        self._give_google()

    def person(self) -> Person:
        """A user who has not logged in yet. When all with an account have, everybody is enrolled anew."""
        if not self._unspent:
            self._enroll()
            self._give_google()
        return self._unspent.pop()

    def people(self, count: int) -> list[Person]:
        """Several such users."""
        return [self.person() for _ in range(count)]

    def give_back(self, people: list[Person]) -> None:
        """Take users for such who have not logged in yet."""
        self._unspent += people

    def _enroll(self) -> None:
        self.machine.sh(ENROL, str(self.enrolled), str(FIRST_UID), timeout=3600)
        lines = self.machine.sh('head -n "$1" /root/secrets', str(self._real)).stdout.splitlines()
        self._unspent = [Person(name, secret) for name, _, secret in map(str.split, lines)]

    def _give_google(self) -> None:
        self.machine.sh(GOOGLE_FILES, str(self._real), timeout=120)


class Servers:
    """An sshd for each rival, on a port of its own: the same program, the same settings, another /etc/pam.d/sshd.

    A warm helper is there, in the group of the rival that uses it.

    A context manager. Each server is in a control group of its own, which counts what its sessions use.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._started: list[Rival] = []
        self._group = f"/run/lab/cgroup/pam-totp-bench-{secrets.token_hex(4)}"

    def __enter__(self) -> Self:
        machine = self._machine
        machine.sh(
            """
            set -e
            ip route change local 127.0.0.1 dev lo table local proto kernel scope host src 127.0.0.1 quickack 1
            ip route change local 127.0.0.0/8 dev lo table local proto kernel scope host src 127.0.0.1 quickack 1
            mkdir -p -m 700 /root/.ssh /run/lab/cgroup
            mount -t cgroup2 cgroup2 /run/lab/cgroup
            ssh-keygen -q -t ed25519 -N '' -f "$1"
            cp "$1.pub" /etc/ssh/bench_keys
            cp "$2/sshd_config.d/00-pam-totp-key-and-code.conf" /etc/ssh/sshd_config.d/
            """,
            KEY,
            EXAMPLES,
        )
        relaxed = [f"{key} {value}\n" for key, value in RELAXED.items() if machine.sshd.knows(f"{key}={value}")]
        machine.sshd.drop_in("10-bench", "".join(["AuthorizedKeysFile /etc/ssh/bench_keys\n", *relaxed]))
        machine.run(["mkdir", self.group(OURS)])
        self._warm = Warm(machine, group=self.group(OURS)).__enter__()
        try:
            for rival in RIVALS:
                self._start(rival)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        while self._started:
            rival = self._started.pop()
            self._machine.sh(END, self.group(rival), check=False, timeout=30)
        self._warm.__exit__()

    def _start(self, rival: Rival) -> None:
        pid_file = _pid_file(rival)
        options = ["-p", str(_port(rival)), "-o", f"PidFile={pid_file}"]
        if not rival.asks:
            options += ["-o", "AuthenticationMethods=publickey"]
        self._started.append(rival)
        self._machine.sh(SERVE, self.group(rival), rival.name, SOCKET if rival.cold else "", *options)
        self._machine.sh('until test -s "$1"; do sleep 0.01; done', pid_file, timeout=10)

    def group(self, rival: Rival) -> str:
        """The control group of a rival's server."""
        return f"{self._group}-{rival.name}"


@contextmanager
def hidden(machine: Machine, rival: Rival) -> Iterator[None]:
    """Where a rival is cold, the socket of the warm process is not there meanwhile."""
    if not rival.cold:
        yield
        return
    machine.run(["mv", SOCKET, f"{SOCKET}.hidden"])
    try:
        yield
    finally:
        machine.run(["mv", f"{SOCKET}.hidden", SOCKET])


def login(rival: Rival, person: Person, answer: Mapping[str, str]) -> Command:
    """The ssh login of a user, answered with {"CODE": code}, or with {"SECRET": secret} to compute it late."""
    argv = ["/usr/bin/ssh", "-p", str(_port(rival)), "-i", KEY, "-o", "IdentitiesOnly=yes"]
    argv += ["-o", "NumberOfPasswordPrompts=1", f"{person.name}@127.0.0.1", "true"]
    environment = {**ENVIRONMENT, "SSH_ASKPASS": ASKPASS, "SSH_ASKPASS_REQUIRE": "force"}
    if rival.asks:
        environment |= answer
    return {"argv": argv, "env": environment, "input": ""}


def transaction(rival: Rival, person: Person, operation: str, code: str) -> Command:
    """A PAM transaction by pamtester; in an empty environment, as sshd's is."""
    argv = ["/usr/bin/pamtester", "-I", "rhost=127.0.0.1", "-ESSH_AUTH_INFO_0=publickey ssh-ed25519 AAAA\n"]
    return {"argv": [*argv, rival.name, person.name, operation], "env": {}, "input": f"{code}\n"}


def sudo(rival: Rival, person: Person, code: str) -> Command:
    """`sudo true` of a user, with the rival's PAM line alone."""
    argv = ["/usr/bin/setpriv", f"--reuid={person.name}", "--regid=users", "--init-groups", "/usr/bin/sudo"]
    return {"argv": [*argv, "-S", "-p", "", _command(rival)], "env": ENVIRONMENT, "input": f"{code}\n"}


def _command(rival: Rival) -> str:
    return f"/usr/local/bin/true-{rival.name}"


def _sudoers(rival: Rival) -> str:
    return f"Defaults!{_command(rival)} pam_service={rival.name}\n"


def _port(rival: Rival) -> int:
    return FIRST_PORT + RIVALS.index(rival)


def _pid_file(rival: Rival) -> str:
    return f"/run/sshd-{rival.name}.pid"
