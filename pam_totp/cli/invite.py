"""Print a one-time invitation code that lets a user enrol at the SSH prompt; or list who is invited.

Only a hash is kept. It is used up when the enrolment is finished. One user's new invitation voids the earlier one; of
many users, those who are invited already are left out.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack

from pam_totp.cache.accounts import Account, Accounts
from pam_totp.cli import common, many
from pam_totp.errors import UsageError
from pam_totp.factors import handout, invitation
from pam_totp.host import config as configuration
from pam_totp.host.clock import now
from pam_totp.login.attempt import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.cli.many import Done, Handout
    from pam_totp.host.clock import Moment
    from pam_totp.host.paths import Paths

_DEFAULT = "72h"
_NEW, _ENROLLED, _INVITED = "invited", "enrolled already", "invited already"


def arguments(parser: argparse.ArgumentParser) -> None:
    """[USER | --from FILE | --group G] [--valid DURATION] [--handout DIR] [--replace] [--json]."""
    parser.add_argument("user", metavar="USER", nargs="?", help="without, and without a list: list who is invited")
    many.arguments(parser, "a list of names, or CSV or JSON lines with user")
    parser.add_argument("--valid", metavar="TIME", help=f"for how long, like {_DEFAULT} (default) or 7d")
    parser.add_argument("--replace", action="store_true", help="with many: void earlier invitations, too")
    parser.add_argument("--json", action="store_true", help="with many, or the list: one JSON object a line")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Invite, or list."""
    several = many.wanted(arguments)
    if arguments.replace and not several:
        raise UsageError(
            "--replace goes with --from or --group: one user's new invitation always voids the earlier one"
        )
    if arguments.user is None and not several:
        if arguments.valid is not None:
            raise UsageError("say who: give a USER, --from FILE or --group G")
        return _list(paths, arguments.json)
    until = int(now().wall) + common.duration_argument(_DEFAULT if arguments.valid is None else arguments.valid)
    if several:
        return _many(arguments, paths, until)
    if arguments.json:
        raise UsageError("--json goes with --from, --group, or the list: leave it out")
    with common.changing(paths, arguments.user) as (accounts, account):
        if account.active:
            raise UsageError(f"{account.name} is enrolled already: see pam-totp status {account.name}")
        code = invitation.issue(account, until, accounts.sealer)
    _record(account, until)
    print(code)
    print(f"valid until {common.minute(until)} UTC", file=sys.stderr)
    return 0


def _many(arguments: argparse.Namespace, paths: Paths, until: int) -> int:
    """Invite many; what cannot be done for one is done for nobody."""
    config = configuration.load(paths.config, paths.owner)
    found = many.rows(arguments, ("user",))
    moment = now()
    codes: dict[str, str] = {}
    with ExitStack() as leave:
        pages = leave.enter_context(many.Handout(arguments.handout, paths.owner)) if arguments.handout else None
        accounts = leave.enter_context(Accounts(paths))

        def invite(_: many.Row, account: Account) -> str:
            if account.active:
                return _ENROLLED
            if _outstanding(account, moment) and not arguments.replace:
                return _INVITED
            codes[account.name] = invitation.issue(account, until, accounts.sealer, codes.get(account.name))
            return _NEW

        # First without locks: no login is to wait until the pages are on the disk.
        draft = many.each(accounts, many.progress("invitations", found), invite)
        if pages is not None:
            host, end = many.host_name(), f"{common.minute(until)} UTC"
            for name, code in codes.items():
                pages.write(name, handout.of_invitation(name, host, code, end))
            pages.sync()
        leave.enter_context(many.locked(accounts, (row.user.name for row in found)))
        done = many.each(accounts, found, invite)
        if [how for *_, how in done] != [how for *_, how in draft]:
            raise UsageError(many.MEANWHILE)
        invited = [account for _, account, how in done if how == _NEW]
        many.save(accounts, invited, pages)
        new = [each for each in done if each[2] == _NEW]
        many.note_unasked(accounts, config, paths, new, "an invitation", ("invite",))
    for account in invited:
        _record(account, until)
    _show(done, codes, until, pages, as_json=arguments.json)
    return 0


def _show(done: list[Done], codes: dict[str, str], until: int, pages: Handout | None, *, as_json: bool) -> None:
    """Print the codes, unless they are on pages, and how it went."""
    if as_json:
        for _, account, how in done:
            of_new = {"code": codes[account.name], "until": common.rfc3339(until)} if how == _NEW else {}
            page = {"page": pages.path(account.name)} if pages is not None and how == _NEW else {}
            print(json.dumps({"user": account.name, "result": how, **of_new, **page}))
        return
    if pages is None and codes:
        common.table(("USER", "INVITATION"), list(codes.items()))
    words = {
        _NEW: f"invited, valid until {common.minute(until)} UTC",
        _ENROLLED: _ENROLLED,
        _INVITED: f"{_INVITED} (--replace voids that)",
    }
    many.tell(done, words, pages)


def _record(account: Account, until: int) -> None:
    common.record("invite", account, f"until {common.rfc3339(until)}")


def _outstanding(account: Account, moment: Moment) -> bool:
    return account.ledger.invitation is not None and moment.wall < account.ledger.invitation[1] and not account.active


def _list(paths: Paths, as_json: bool) -> int:
    moment = now()
    with Accounts(paths) as accounts:
        found = [each for each in accounts.all() if isinstance(each, Account) and _outstanding(each, moment)]
    ends = [(each.name, each.ledger.invitation[1]) for each in found if each.ledger.invitation]
    if as_json:
        for name, until in ends:
            print(json.dumps({"user": name, "until": common.rfc3339(until)}))
    elif ends:
        rows = [(name, common.minute(until), duration(max(1, int(until - moment.wall)))) for name, until in ends]
        common.table(("USER", "UNTIL (UTC)", "LEFT"), rows)
    else:
        print("nobody is invited")
    return 0
