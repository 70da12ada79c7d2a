"""What users do with their own authenticators, over a Conversation: status, enroll, recovery, remove.

A record that has an active authenticator is changed only after a code, which is throttled and spent as at a login. A
first enrolment needs what it would need at the prompt of sshd. Nothing is kept before it is confirmed: breaking off,
or the end of this process at any moment, changes nothing.
"""

from __future__ import annotations

import json

from pam_totp.cache import summary
from pam_totp.cache.accounts import MOST_AUTHENTICATORS, Accounts
from pam_totp.cache.ledger import guesses_a_day
from pam_totp.errors import CacheError
from pam_totp.factors import enroll as enrolment
from pam_totp.factors import recovery
from pam_totp.login import dialogue, log, login, policy
from pam_totp.login.attempt import Attempt, Outcome, duration, joined, refusal

# What the log calls it, and whom wrong codes are charged to.
SERVICE = "self"
# How long a connection lasts, and all that is done in it.
SECONDS = 600
# What policy is asked about a first enrolment: a login there, of which neither the address nor the keys are known.
_LOGIN = "sshd"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.cache.accounts import Account
    from pam_totp.host.clock import Moment
    from pam_totp.login.policy import Decision, Facts


class Visit(Attempt):
    """One user's visit. The attempt's request names the user and this service, and nothing else is known."""

    __slots__ = ()

    def seconds_in_all(self) -> int:
        """How long a connection lasts."""
        return SECONDS

    def facts(self, account: Account, accounts: Accounts) -> Facts:
        """What policy decides on."""
        facts = super().facts(account, accounts)
        facts.source = SERVICE
        facts.service = _LOGIN
        return facts

    def first_enrolment(self, account: Account, facts: Facts, now: Moment) -> Decision:
        """What a first enrolment needs here (policy.self_enrolment)."""
        return policy.self_enrolment(account, self.config, facts, now)


def status(visit: Visit, as_json: bool) -> int:
    """Tell what is kept about the user; no secret is among it."""
    account, facts = _read(visit)
    now = visit.clock()
    if as_json:
        visit.conversation.tell(json.dumps(summary.fields(account, now, visit.config.window)))
        return 0
    lines = [f"{account.name}: {summary.state(account, now)}"]
    lines += [
        f"  {each.label}  ({each.state}, since {summary.minute(each.created)} UTC)" for each in account.authenticators
    ]
    if account.active:
        a_day = guesses_a_day(len(account.active), visit.config.window)
        wait = account.ledger.wait(SERVICE, now, a_day)
        last = account.ledger.last_success
        lines.append("no code was accepted yet" if last is None else f"last accepted code: {summary.minute(last)} UTC")
        lines.append(f"recovery codes left: {recovery.left(account.ledger)}")
        lines += [f"wrong codes since then: {account.ledger.row}"] if account.ledger.row else []
        if account.ledger.locked:
            lines.append("locked after too many wrong codes: ask your administrator to unlock it")
        elif wait:
            lines.append(f"the next code is looked at in {duration(wait)}")
    else:
        lines.append(_first_step(visit.first_enrolment(account, facts, now), account))
    visit.conversation.tell("\n".join(lines))
    return 0


def enroll(visit: Visit, label: str) -> int:
    """Set up a further authenticator, or the first; one with the same label is replaced by it."""
    account, facts = _read(visit)
    if len([each for each in account.active if each.label != label]) >= MOST_AUTHENTICATORS:
        visit.conversation.tell(f"You have {len(account.active)} authenticators, which is the most: remove one first.")
        return 1
    if account.active:
        if not _proven(visit, account, facts):
            return 1
        outcome, codes = _further(visit, account, label)
    else:
        decision = visit.first_enrolment(account, facts, visit.clock())
        if decision.action == "refuse":
            return int(not _told(visit, refusal(decision, account)))
        outcome, codes = dialogue.first(visit, account, facts, decision, label, "")
    if outcome.reason in ("not-confirmed", "no-answer"):
        visit.conversation.tell("That was not the right code either. Nothing was changed.")
        return 1
    if outcome.verdict != "accepted":
        return int(not _told(visit, outcome))
    own = "" if dialogue.ISSUED_DETAIL in outcome.detail else f"label {label}"
    _record(visit, account, "self-enroll", joined(own, outcome.detail))
    if codes:
        dialogue.show_recovery_codes(visit, account.name, codes)
    done = "The authenticator is set up: from now on its codes are good for logins."
    visit.conversation.tell(f"{outcome.message}\n{done}".lstrip())
    return 0


def _further(visit: Visit, account: Account, label: str) -> tuple[Outcome, list[str]]:
    shown = enrolment.fresh(label, int(visit.clock().wall))

    def ready(found: Account, accounts: Accounts) -> bool:
        del accounts
        # The user may take minutes, and what was proven was proven of this record. One that meanwhile was reset, or
        # in which somebody else has enrolled, takes no key.
        if _keys(found) != _keys(account):
            return False
        found.authenticators = [*found.active, shown]
        return True

    outcome, codes = dialogue.show_until_confirmed(visit, account, shown, "", ready)
    if outcome.verdict == "accepted" and account.issued is not None:
        outcome.add_detail(dialogue.VOID_DETAIL)
        outcome.message = dialogue.VOID
    return outcome, codes


def issue_recovery_codes(visit: Visit) -> int:
    """Show new recovery codes, in the place of all earlier ones."""
    account, facts = _read(visit)
    if not account.active:
        visit.conversation.tell("You have no authenticator yet. Set one up first: pam-totp self enroll")
        return 1
    if not _proven(visit, account, facts):
        return 1
    account, _ = _read(visit)
    codes = dialogue.issue_recovery_codes(visit, account.name)
    if codes and (void := recovery.voided(account.ledger)):
        visit.conversation.tell(void)
    if not codes:
        visit.conversation.tell(dialogue.CHANGED)
        return 1
    _record(visit, account, "self-recovery", f"{len(codes)} new codes")
    dialogue.show_recovery_codes(visit, account.name, codes)
    return 0


def remove(visit: Visit, label: str | None) -> int:
    """Remove the authenticator with a label, which need not be given where there is one only."""
    account, facts = _read(visit)
    labels = sorted({each.label for each in account.authenticators})
    if label is None and len(labels) == 1:
        label = labels[0]
    if label not in labels:
        visit.conversation.tell(
            f"Say which one, with --label: {', '.join(labels)}" if labels else "You have no authenticator."
        )
        return 1
    last = bool(account.active) and all(each.label == label for each in account.active)
    if last and policy.required(account, visit.config, facts, visit.clock()):
        visit.conversation.tell(
            "This is your last authenticator, and logins need one here. Set up another one first, with another label: "
            "pam-totp self enroll --label LABEL"
        )
        return 1
    if not account.active and account.issued is not None:
        # Nobody has proven to be its owner, and every program of the user's could come here.
        visit.conversation.tell("Your administrator made this key for you: ask your administrator to remove it.")
        return 1
    if account.active and not _proven(visit, account, facts):
        return 1
    with Accounts(visit.paths) as accounts, accounts.lock(account.name):
        found = accounts.find(visit.user)
        changed = _keys(found) != _keys(account) or not enrolment.remove(found, label)
        if not changed:
            accounts.save(found)
    if changed:
        visit.conversation.tell(dialogue.CHANGED)
        return 1
    _record(visit, account, "self-remove", f"label {label}")
    none = "" if found.active else " None is left: you are not asked for a code any more."
    visit.conversation.tell(f"The authenticator {label!r} is removed.{none}")
    return 0


def _first_step(decision: Decision, account: Account) -> str:
    if decision.action == "refuse":
        return refusal(decision, account).message
    within = f", within {duration(decision.seconds)}" if decision.reason == "grace" else ""
    invited = ", with your invitation" if decision.action == "invite" else ""
    key = (
        "set up an authenticator app"
        if account.issued is None
        else "confirm your administrator's key, or set up another"
    )
    return f"To {key}{within}{invited}: pam-totp self enroll"


def _read(visit: Visit) -> tuple[Account, Facts]:
    with Accounts(visit.paths) as accounts:
        account = accounts.find(visit.user)
        return account, visit.facts(account, accounts)


def _keys(account: Account) -> set[tuple[str, str]]:
    return {(each.identifier, each.state) for each in account.authenticators}


def _proven(visit: Visit, account: Account, facts: Facts) -> bool:
    """Whether the user has typed a good code, or recovery code; it is charged either way."""
    decision = policy.demand(account, visit.config, facts, visit.clock())
    if decision.action == "refuse":
        return _told(visit, refusal(decision, account))
    return _told(visit, login.ask(visit, account, facts, decision))


def _told(visit: Visit, outcome: Outcome) -> bool:
    """Log how asking for a code ended, tell the user, and say whether the code was good."""
    text = log.decision(visit.request, outcome)
    good = outcome.verdict == "accepted"
    if not good:
        try:
            with Accounts(visit.paths) as accounts:
                accounts.record_event(int(visit.clock().wall), outcome.account, text, visit.config.refusals)
        except CacheError:
            pass  # for pam-totp status only; it is in the log
    if outcome.message:
        visit.conversation.tell(outcome.message)
    return good


def _record(visit: Visit, account: Account, action: str, detail: str) -> None:
    log.send(log.NOTICE, "pam-totp", log.line(user=account.name, action=action, by=visit.user.name, detail=detail))
