"""Whether this host's clock is synchronised, as the kernel and the programs that set it say."""

from __future__ import annotations

import ctypes
import os

from pam_totp.host import programs

# Whichever program sets the clock tells the kernel (adjtimex(2)); chrony does only with rtcsync.
_NOT_SYNCHRONISED = 5  # TIME_ERROR
_NOT_TOLD = -1  # where a container forbids the question
_TIMESYNCD = "/run/systemd/timesync/synchronized"
_CHRONY = "/usr/bin/chronyc"
# Programs that keep a clock, with the command that has them do so.
KEEPERS = (
    (_CHRONY, "systemctl enable --now chrony && chronyc makestep"),
    ("/lib/systemd/systemd-timesyncd", "timedatectl set-ntp true && systemctl restart systemd-timesyncd"),
    ("/usr/sbin/ntpd", "systemctl enable --now ntpsec"),
    ("/usr/sbin/openntpd", "systemctl enable --now openntpd"),
)
_NONE = "apt-get install systemd-timesyncd && timedatectl set-ntp true"


def synchronised() -> bool:
    """Whether anything says that the clock is synchronised."""
    if _kernel() not in (_NOT_SYNCHRONISED, _NOT_TOLD) or os.path.exists(_TIMESYNCD):
        return True
    if os.path.exists(_CHRONY):
        said = programs.run(_CHRONY, "-n", "tracking", fail=False)
        return "Leap status" in said and "Not synchronised" not in said
    return False


def mend() -> str:
    """The command that has this host's clock kept."""
    return next((command for path, command in KEEPERS if os.path.exists(path)), _NONE)


def _kernel() -> int:
    """The state of the kernel's clock; asking for it changes nothing."""
    unchanged = ctypes.create_string_buffer(512)  # struct timex, whose modes are 0
    return int(ctypes.CDLL(None).adjtimex(unchanged))
