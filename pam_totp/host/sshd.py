"""The sshd of this host: what its settings are, whether they are in order, and having it read them again."""

from __future__ import annotations

import os
import signal

from pam_totp.host import programs, systemd
from pam_totp.host.clock import now
from pam_totp.host.programs import ProgramError

PROGRAM = "/usr/sbin/sshd"
_RUN = "/run/sshd"
_PID = "/run/sshd.pid"
_UNIT = "ssh.service"
# A login that no Match block is about.
_NEUTRAL = "user=nobody,host=client.invalid,addr=192.0.2.1,laddr=192.0.2.2,lport=1,rdomain="

# What a drop-in of ours says, by variant. sshd -T spells the keywords in lower case.
_COMMON = {"UsePAM": "yes", "KbdInteractiveAuthentication": "yes"}
SETTINGS = {
    "key": {
        **_COMMON,
        "PasswordAuthentication": "no",
        "AuthenticationMethods": "publickey,keyboard-interactive:pam",
    },
    "password": {
        **_COMMON,
        "PasswordAuthentication": "no",
        "AuthenticationMethods": "keyboard-interactive:pam",
    },
    "combined": {
        **_COMMON,
        "PasswordAuthentication": "yes",
        "AuthenticationMethods": "keyboard-interactive:pam password",
    },
}
HEAD = """\
# Written by pam-totp setup, which writes it anew each time; settings of your own belong into another file.
# sshd keeps the first value that it reads of each keyword, and reads this folder in the order of names: hence the 00.
"""
ROBOTS = """\

# These have their key alone, and are not asked for a code.
"""


def drop_in(variant: str, robots: list[str]) -> str:
    """The text of our drop-in; a robot is USER or USER@ADDRESS, with an address or a network."""
    text = HEAD + "".join(f"{keyword} {value}\n" for keyword, value in SETTINGS[variant].items())
    if robots:
        text += ROBOTS
    for robot in robots:
        user, _, address = robot.partition("@")
        where = f" Address {address}" if address else ""
        text += f"Match User {user}{where}\n    AuthenticationMethods publickey\n"
    return text


def check() -> None:
    """Have sshd itself look at its settings (``sshd -t``). Raises ProgramError with what it says."""
    _sshd("-t")


def effective(connection: str = "", config: str = "") -> dict[str, str]:
    """The settings in force, by keyword in lower case. Raises ProgramError.

    Those outside of all Match blocks, or those for a ``connection`` as sshd(8) has it after -C; of another ``config``
    file where one is named.
    """
    found: dict[str, str] = {}
    options = ("-f", config) if config else ()
    try:
        text = _sshd(*options, "-T", *(("-C", connection) if connection else ()))
    except ProgramError as error:
        # Where a Match block names a port, sshd wants to be told one.
        if connection or "connection test specification" not in str(error):
            raise
        text = _sshd(*options, "-T", "-C", _NEUTRAL)
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        found[keyword] = f"{found[keyword]} {value}" if keyword in found else value
    return found


def differences(variant: str) -> list[str]:
    """What sshd's effective settings lack of a variant, a sentence each. Raises ProgramError."""
    settings = effective()
    found = [
        f"sshd has {keyword} {settings.get(keyword.lower(), '-')} in force, not {value}"
        for keyword, value in SETTINGS[variant].items()
        if settings.get(keyword.lower()) != value
    ]
    # From OpenSSH 9.8 on; before, it is the name of the program.
    service = settings.get("pamservicename", "sshd")
    return [*found, f"sshd asks PAM for the service {service}, not sshd"] if service != "sshd" else found


def reload() -> str:
    """Have the running sshd read its settings again; returns how, or why there was no need. Raises ProgramError."""
    if systemd.running() and systemd.active(_UNIT):
        systemd.reload(_UNIT)
        return f"systemctl reload {_UNIT}"
    pid = _listening()
    if not pid:
        return ""
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise ProgramError(f"sshd (process {pid}) could not be told to read its settings: {error.strerror}") from None
    return f"kill -HUP {pid}"


def reload_command() -> str:
    """What has the running sshd read its settings again; empty where none runs."""
    if systemd.running() and systemd.active(_UNIT):
        return f"systemctl reload {_UNIT}"
    return f"kill -HUP $(cat {_PID})" if _listening() else ""


class Running:
    """An sshd that listens: its ``config``, where it is another than usual, and when it read it (since the epoch)."""

    __slots__ = ("config", "pid", "since")

    def __init__(self, pid: int, config: str, since: float) -> None:
        self.pid = pid
        self.config = config
        self.since = since


def running() -> list[Running]:
    """The sshds that listen for connections here."""
    found = []
    here, moment = _world("self"), now()
    boot = moment.wall - moment.uptime
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            program = os.path.basename(os.readlink(f"/proc/{name}/exe")).removesuffix(" (deleted)")
            if program != "sshd":
                continue
            with open(f"/proc/{name}/cmdline", encoding="utf-8", errors="replace") as file:
                words = file.read().replace("\0", " ").split()
            began = _stat(int(name))[1]
            elsewhere = _world(name) != here
        except OSError:
            continue  # it has ended
        # sshd: /usr/sbin/sshd -D -f /etc/ssh/other [listener] 0 of 10-100 startups
        if elsewhere or "[listener]" not in words:
            continue
        words = words[: words.index("[listener]")]
        since = boot + began
        config = words[words.index("-f") + 1] if "-f" in words[:-1] else ""
        if not config and _listening() == int(name):
            # It writes this file anew whenever it reads its configuration, in a process that stays the same.
            since = os.stat(_PID).st_mtime
        found.append(Running(int(name), config, since))
    return sorted(found, key=lambda each: each.pid)


def _world(process: str) -> tuple[str, str]:
    """What a process calls its root and its processes: in a container or a chroot another sshd is another host's."""
    return os.readlink(f"/proc/{process}/root"), os.readlink(f"/proc/{process}/ns/pid")


def login_began() -> float | None:
    """When the SSH login began in which we run: seconds since the boot, or None where we do not run in one.

    That is the start of the innermost sshd among our ancestors. A shell that came through a connection of before
    (ControlMaster) has the old one, and a terminal multiplexer that was started in an older login has none.
    """
    pid = os.getpid()
    while pid > 1:
        parent, started = _stat(pid)
        try:
            program = os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
        except OSError:
            program = ""
        if program in ("sshd", "sshd-session"):
            return started
        pid = parent
    return None


def _stat(pid: int) -> tuple[int, float]:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        # The name of the program is in brackets and can hold anything.
        fields = file.read().rpartition(")")[2].split()
    return int(fields[1]), int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _listening() -> int:
    """The process id of the sshd that listens, as it has written it; 0 where none does."""
    try:
        with open(_PID, encoding="ascii") as file:
            pid = int(file.read())
        program = os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
    except (OSError, ValueError):
        return 0
    return pid if program == "sshd" else 0


def _sshd(*words: str) -> str:
    if not os.path.exists(PROGRAM):
        raise ProgramError(f"{PROGRAM} is missing: install openssh-server")
    # sshd wants it, and it is there only while sshd runs.
    os.makedirs(_RUN, mode=0o755, exist_ok=True)
    return programs.run(PROGRAM, *words)
