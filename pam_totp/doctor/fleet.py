"""How a host of a fleet stands with its directory."""

from __future__ import annotations

from pam_totp.doctor.findings import Finding
from pam_totp.errors import PamTotpError
from pam_totp.fleet import agent, standing
from pam_totp.host import systemd
from pam_totp.login.attempt import duration

UNIT = "pam-totp-agent.service"
_STATES = {
    "silent": "fleet-silent",
    "refused": "fleet-refused",
    "expired": "fleet-expired",
    "behind": "fleet-behind",
    "new": "fleet-behind",
}
_SYNC = "pam-totp sync"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.host.clock import Moment
    from pam_totp.host.paths import Paths


def findings(paths: Paths, now: Moment) -> list[Finding]:
    """What there is to say; nothing on a host that has not joined."""
    try:
        found = standing.of(paths, now)
    except PamTotpError:
        return []  # is found elsewhere
    if found is None:
        return []
    told = []
    if found.state in _STATES:
        age = "" if found.age is None else f"nothing newer for {duration(found.age)}"
        text = "; ".join(each for each in (age, found.error, *found.problems) if each) or "nothing has come yet"
        told.append(Finding(_STATES[found.state], text, _SYNC))
    if found.cloned:
        told.append(Finding("fleet-cloned", agent.CLONED))
    if found.codes_off:
        told.append(Finding("fleet-policy-off", f"host {found.name}: it can be changed in the directory"))
    if systemd.running() and not systemd.active(UNIT):
        told.append(Finding("fleet-agent-off", UNIT, f"systemctl enable --now {UNIT}"))
    return told
