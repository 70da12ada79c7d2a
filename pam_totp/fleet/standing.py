"""How a host stands with its directory: for ``pam-totp fleet``, doctor and metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from pam_totp.cache.accounts import Account, Accounts
from pam_totp.errors import CacheError
from pam_totp.fleet import agent
from pam_totp.fleet import identity as identities
from pam_totp.login import central

# A directory that is there is heard of every 15 s; this is longer than it takes to restart one.
LATE_SECONDS = 900
STATES = ("fresh", "behind", "refused", "expired", "silent", "new")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.host.clock import Moment
    from pam_totp.host.paths import Paths


@dataclass
class Standing:
    """What there is to say. Times in seconds, since the epoch where they are moments.

    ``state``: "fresh"; "behind" (not reached for some time, or something waits); "refused" (what was published was not
    good); "expired" (the manifest is past its date); "silent" (for longer than ``max_offline``: only break-glass users
    get in); "new" (nothing has come yet).
    """

    url: str
    directory: str
    host: str
    name: str
    state: str
    epoch: int
    sequence: int
    age: int | None
    expires: int | None
    max_offline: int | None
    policy: str
    codes_off: bool
    last_success: int | None
    reason: str
    error: str
    users: int
    revoked: int
    unbound: int
    pending: int
    cloned: bool
    problems: list[str] = field(default_factory=list)


def of(paths: Paths, now: Moment) -> Standing | None:
    """How it stands now; None where it has not joined. Raises CacheError."""
    with Accounts(paths) as accounts:
        identity = identities.load(accounts)
        if identity is None:
            return None
        last = identities.last(accounts)
        demanded = central.load(accounts) or central.Central()
        known = [each for each in accounts.all() if isinstance(each, Account) and each.ledger.fleet is not None]
        unbound = sum(each.uid < 0 for each in known)
    told = agent.recall(paths)
    problems, reached, tried = told.get("problems"), told.get("succeeded"), told.get("tried")
    reason, error = str(told.get("reason", "")), str(told.get("error", ""))
    reached = reached if isinstance(reached, int) else None
    try:
        pending = len(agent.queue_of(paths).waiting())
    except CacheError:
        pending = 0
    fleets = [each.ledger.fleet for each in known if each.ledger.fleet is not None]
    found = Standing(
        url=identity.url,
        directory=identity.directory,
        host=identity.host,
        name=identity.name,
        state="new",
        epoch=last.epoch if last else 0,
        sequence=last.sequence if last else 0,
        age=demanded.age(now) if last else None,
        expires=last.expires if last else None,
        max_offline=demanded.max_offline,
        policy=_policy(demanded),
        codes_off=demanded.policy and not demanded.mfa,
        last_success=reached,
        reason=reason,
        error=error,
        users=sum(not each["revoked"] for each in fleets),
        revoked=sum(bool(each["revoked"]) for each in fleets),
        unbound=unbound,
        pending=pending,
        cloned=told.get("cloned") == identity.host,
        problems=[str(each) for each in problems] if isinstance(problems, list) else [],
    )
    if last is not None:
        late = reached is None or not isinstance(tried, int) or now.wall - reached > LATE_SECONDS
        found.state = "behind" if late or found.problems or not last.applied or reason else "fresh"
        if now.wall > last.expires:
            found.state = "expired"
    if reason in REFUSED:
        found.state = "refused"
    if demanded.silent(now):
        found.state = "silent"
    return found


REFUSED = frozenset(
    f"fleet-{word}"
    for word in (
        *("size", "format", "signature", "records", "content", "directory", "host", "epoch", "sequence", "hash"),
        *("seal", "kind", "incomplete", "denied"),
    )
)


def _policy(demanded: central.Central) -> str:
    if not demanded.policy:
        return ""
    if not demanded.mfa:
        return "no codes are asked for"
    return f"unenrolled = {demanded.unenrolled}; claims {'on' if demanded.claims else 'off'}"
