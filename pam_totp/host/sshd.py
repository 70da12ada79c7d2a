"""The sshd of this host: what its settings are, whether they are in order, and having it read them again."""

from __future__ import annotations

import os
import signal

from pam_totp.host import programs, systemd
from pam_totp.host.programs import ProgramError

PROGRAM = "/usr/sbin/sshd"
_RUN = "/run/sshd"
_PID = "/run/sshd.pid"
_UNIT = "ssh.service"

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


def effective() -> dict[str, str]:
    """The settings in force outside of all Match blocks, by keyword in lower case. Raises ProgramError."""
    found: dict[str, str] = {}
    for line in _sshd("-T").splitlines():
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


def _sshd(option: str) -> str:
    if not os.path.exists(PROGRAM):
        raise ProgramError(f"{PROGRAM} is missing: install openssh-server")
    # sshd wants it, and it is there only while sshd runs.
    os.makedirs(_RUN, mode=0o755, exist_ok=True)
    return programs.run(PROGRAM, option)
