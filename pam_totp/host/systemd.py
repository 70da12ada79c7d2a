"""What systemd does for this package: whether it runs, its units, and the timer that ends a set-up nobody has kept."""

from __future__ import annotations

import os

from pam_totp.host import programs

# Started by the timer, at boot, when one of the files changes, and by dpkg: pam-totp setup --check.
SERVICE = "pam-totp-pinned.service"
TIMER = "pam-totp-pinned.timer"
# Unseals the host key at boot: pam-totp key unseal --boot.
UNSEAL = "pam-totp-unseal.service"
_RUNNING = "/run/systemd/system"


def running() -> bool:
    """Whether systemd is this host's init (sd_booted(3))."""
    return os.path.isdir(_RUNNING)


def active(unit: str) -> bool:
    """Whether a unit is active, or on its way there."""
    state = programs.run("systemctl", "is-active", unit, fail=False).strip()
    return state in ("active", "reloading", "activating")


def enabled(unit: str) -> bool:
    """Whether a unit is started at boot."""
    return programs.run("systemctl", "is-enabled", unit, fail=False).strip() == "enabled"


def reload(unit: str) -> None:
    """Reload a unit. Raises ProgramError."""
    programs.run("systemctl", "reload", unit)


def enable(unit: str) -> None:
    """Start a unit, now and at each boot, as its files now are. Raises ProgramError."""
    programs.run("systemctl", "daemon-reload")
    programs.run("systemctl", "enable", "--quiet", unit)
    programs.run("systemctl", "restart", unit)


def disable(unit: str) -> None:
    """Stop a unit, and start it at no boot any more. Raises ProgramError."""
    programs.run("systemctl", "disable", "--quiet", "--now", unit)


def start_timer(seconds: int) -> None:
    """Have the service run after so many seconds; an earlier timer is gone. Raises ProgramError."""
    stop_timer()
    after = f"--on-active={seconds}s"
    programs.run("systemd-run", "--quiet", after, "--timer-property=AccuracySec=1s", f"--unit={SERVICE}")


def stop_timer() -> None:
    """Have no timer, whether there was one or not."""
    if running():
        programs.run("systemctl", "stop", TIMER, fail=False)
