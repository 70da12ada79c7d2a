"""Handing up what was enrolled on a host before it joined, so that it is good in the whole fleet.

Nothing is changed here by that: when the directory has taken an authenticator, it comes back with the next pass, under
its id, and is the directory's from then on. What is not taken stays this host's own.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from pam_totp.cache.accounts import LOCAL, Account
from pam_totp.errors import FleetError
from pam_totp.fleet import events, tree

SECONDS = 20.0
# The directory's words for why it has not taken one, as administrators read them.
REASONS = {
    "unknown-person": "the directory has nobody of this name who may use this host",
    "enrolled-already": "enrolled in the directory already",
    "has-a-role": "has a role in the directory, where it takes an invitation",
    "too-many": "has as many authenticators in the directory as one can have",
    "not-opened": "the directory's keeper cannot open it: see its log",
}
_ID_DIGITS = 32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.cache.accounts import Accounts, Authenticator
    from pam_totp.fleet.events import Event
    from pam_totp.fleet.identity import Identity
    from pam_totp.fleet.web import Web
    from pam_totp.host.clock import Moment


@dataclass
class Ready:
    """A user of this host who can be handed up; ``there`` is the directory's name of the user."""

    name: str
    there: str
    authenticators: list[Authenticator] = field(repr=False)

    @property
    def labels(self) -> str:
        """What the authenticators are called."""
        return ", ".join(each.label for each in self.authenticators)


@dataclass
class Plan:
    """Who can be handed up, and who stays as they are: name and reason."""

    ready: list[Ready] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)


def plan(accounts: Accounts) -> Plan:
    """Who is enrolled on this host alone. Raises CacheError."""
    found = Plan()
    for account in accounts.all():
        if not isinstance(account, Account):
            found.left.append(("?", str(account)))
            continue
        own = [each for each in account.active if each.source == LOCAL]
        fleet = account.ledger.fleet
        if not own:
            continue
        if fleet is None:
            found.left.append((account.name, REASONS["unknown-person"]))
        elif fleet["revoked"]:
            found.left.append((account.name, "was taken out of the directory"))
        elif fleet["held"]:
            found.left.append((account.name, REASONS["enrolled-already"]))
        elif any(len(each.identifier) != _ID_DIGITS for each in own):
            found.left.append((account.name, "was enrolled with an older version: enrol anew"))
        else:
            found.ready.append(Ready(account.name, fleet["name"], own))
    return found


def hand_up(server: Web, identity: Identity, one: Ready, now: Moment) -> dict[str, str]:
    """Hand up a user's authenticators. Returns why the directory did not take one, by label; empty: all are taken.

    Raises FleetError where the directory cannot be asked; then it may be done again.
    """
    left, asked = {}, {}
    waiting: list[Event] = []
    for each in one.authenticators:
        try:
            sealed = tree.seal_enrolment(
                tree.Enrolment(identity.host, one.there, each.identifier, each.label, each.secret), identity.box
            )
        except FleetError as error:
            # Such as a key that was taken over from another module, and is shorter than the fleet's.
            left[each.label] = str(error)
            continue
        event = events.new("uploaded", int(now.wall), one.there)
        event |= {"authenticator": each.identifier, "sealed": base64.b64encode(sealed).decode("ascii")}
        asked[event["id"]] = each.label
        waiting.append(event)
    if not waiting:
        return left
    answer = server.post("/api/v1/events", {"events": waiting}, SECONDS)
    if answer.status == 400:
        raise FleetError("the directory is of an older version, and takes none: upgrade it", "fleet-answer")
    if answer.status != 200:
        raise FleetError(f"the directory takes none: it answers {answer.status}", "fleet-answer")
    fields = answer.fields()
    taken, refused = fields.get("taken"), fields.get("refused")
    if not isinstance(taken, list) or not isinstance(refused, dict):
        raise FleetError("the directory's answer is not understood: upgrade it", "fleet-answer")
    for identifier, label in asked.items():
        reason = str(refused.get(identifier, "" if identifier in taken else "not taken"))
        # It was handed up before, and the answer was lost.
        if reason not in ("", "known-already"):
            left[label] = REASONS.get(reason, "".join(sign if sign.isprintable() else "?" for sign in reason[:80]))
    return left
