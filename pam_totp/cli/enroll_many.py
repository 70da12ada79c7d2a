"""``pam-totp enroll`` for the users of a list or a group: for all of them or for none, with a page for each."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack

from pam_totp.cache.accounts import ACTIVE, PENDING, Accounts
from pam_totp.cli import common, many
from pam_totp.errors import UsageError
from pam_totp.factors import enroll as enrolment
from pam_totp.factors import handout, otp
from pam_totp.host import config as configuration
from pam_totp.host.clock import now

_COLUMNS = ("user", "label", "secret")
_ENROLLED, _WAITING = "enrolled already", "pending already"

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.cache.accounts import Account
    from pam_totp.cli.many import Done, Handout, Row
    from pam_totp.host.config import Config
    from pam_totp.host.paths import Paths


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Enrol. Raises UsageError (ManyError) where somebody cannot be: then nothing was changed."""
    label = enrolment.check_label(arguments.label)
    config = configuration.load(paths.config, paths.owner)
    found = many.rows(arguments, _COLUMNS)
    if not (arguments.handout or arguments.json) and any(row.secret is None for row in found):
        raise UsageError("the new keys would be shown to nobody: add --handout DIR or --json")
    if arguments.active and any(row.secret is None for row in found):
        raise UsageError("--active is for secrets that users have in their apps already: the list has some without")
    with ExitStack() as leave:
        pages = leave.enter_context(many.Handout(arguments.handout, paths.owner)) if arguments.handout else None
        accounts = leave.enter_context(Accounts(paths))
        enrol = _Enrol(found, label, config, replace=arguments.replace, active=arguments.active)
        # First without locks: to draw the pages takes longest, and no login is to wait for it.
        draft = many.each(accounts, many.progress("keys", found), enrol)
        if pages is not None:
            for _, account, how in many.progress("pages", draft):
                if how in (PENDING, ACTIVE):
                    pages.write(account.name, enrol.page(account))
            pages.sync()
        leave.enter_context(many.locked(accounts, (row.user.name for row in found)))
        done = many.each(accounts, found, enrol)
        if _results(done) != _results(draft):
            raise UsageError(many.MEANWHILE)
        new = [each for each in done if each[2] in (PENDING, ACTIVE)]
        many.save(accounts, [account for _, account, _ in new], pages)
        pending = [each for each in new if each[2] == PENDING]
        many.note_unasked(accounts, config, paths, pending, "the first code", ("enroll", "invite"))
    for row, account, how in new:
        common.record("enroll", account, f"label {enrol.label(row)}, {how}")
    _show(done, enrol, pages, as_json=arguments.json)
    return 0


class _Enrol:
    """Gives each user of a list an authenticator: with the same key, however often it is done."""

    def __init__(self, found: list[Row], label: str, config: Config, *, replace: bool, active: bool) -> None:
        self._keys = {row.user.name: row.secret or os.urandom(otp.SECRET_BYTES) for row in found}
        self._label = label
        self._config = config
        self._replace = replace
        self._active = active
        self._now = int(now().wall)

    def label(self, row: Row) -> str:
        """The label of the authenticator that a user of the list gets."""
        return row.label or self._label

    def __call__(self, row: Row, account: Account) -> str:
        """Put it into the account; how that went. Raises UsageError."""
        # Who is enrolled needs nothing, unless the list names a further authenticator.
        if account.active and (row.label is None or row.label in [each.label for each in account.active]):
            return _ENROLLED
        if account.pending is not None and not self._replace:
            return _WAITING
        made = enrolment.begin(account, self.label(row), self._now, self._keys[row.user.name])
        if not self._active:
            return PENDING
        if not account.active:
            # Strangers may have guessed at a pending key; they do not lock out who begins now.
            account.ledger.unlock(otp.step_at(self._now), self._config.window)
        enrolment.activate(account, made)
        return ACTIVE

    def fields(self, account: Account) -> dict[str, str]:
        """What is told of the authenticator that was put in, which is the last one."""
        made = account.authenticators[-1]
        key, uri = enrolment.base32(made.secret), enrolment.uri(account, made, self._config)
        return {"label": made.label, "state": made.state, "secret": key, "uri": uri}

    def page(self, account: Account) -> str:
        """The page for the user."""
        fields = self.fields(account)
        pending = fields["state"] == PENDING
        return handout.of_key(account.name, many.host_name(), fields["secret"], fields["uri"], pending=pending)


def _results(done: list[Done]) -> list[tuple[str, str, set[str]]]:
    """What was done, and to which authenticators; but for the new one, which is another each time."""
    found = []
    for _, account, how in done:
        kept = account.authenticators[:-1] if how in (PENDING, ACTIVE) else account.authenticators
        found.append((account.name, how, {each.identifier for each in kept}))
    return found


def _show(done: list[Done], enrol: _Enrol, pages: Handout | None, *, as_json: bool) -> None:
    if not as_json:
        words = {PENDING: PENDING, ACTIVE: ACTIVE, _ENROLLED: _ENROLLED, _WAITING: f"{_WAITING} (--replace voids that)"}
        many.tell(done, words, pages)
        return
    for _, account, how in done:
        fields = enrol.fields(account) if how in (PENDING, ACTIVE) else {}
        page = {"page": pages.path(account.name)} if pages is not None and fields else {}
        print(json.dumps({"user": account.name, "result": how, **fields, **page}))
