"""Check or edit the configuration file, or say that there is to be none.

check: whether the file is understood, whether every rule can be reached, and who would be refused. edit: change it in
an editor; only what is understood is put in force, in one step. reset: the defaults are to hold from now on; asks, and
removes no file.
"""

from __future__ import annotations

import os
import shlex
import sys

from pam_totp.cache.accounts import Accounts
from pam_totp.cli import common
from pam_totp.errors import ConfigError, DamageError, NameServiceError, PamTotpError, UsageError
from pam_totp.host import config as configuration
from pam_totp.host import files, programs, users
from pam_totp.host.clock import now
from pam_totp.login import coverage, rules

_EDITORS = ("/usr/bin/editor", "/usr/bin/vi")
_LIMIT = 1 << 20

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.config import Config, Rule
    from pam_totp.host.paths import Paths
    from pam_totp.login.coverage import Standing


def arguments(parser: argparse.ArgumentParser) -> None:
    """WHAT [--yes]."""
    parser.add_argument(
        "what", metavar="check|edit|reset", choices=("check", "edit", "reset"), help="what to do, see above"
    )
    parser.add_argument("--yes", action="store_true", help="with edit and reset: do not ask")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Check, edit or reset; 1 where a rule can never be reached, or nothing was changed."""
    if arguments.what == "check":
        return _check(paths)
    return _edit(paths, arguments.yes) if arguments.what == "edit" else _reset(paths, arguments.yes)


def _check(paths: Paths) -> int:
    config = configuration.load(paths.config, paths.owner)
    try:
        with Accounts(paths) as accounts:
            accounts.configured.require(config.found, paths.config)
            if config.found:
                _note(accounts, present=True)
    except ConfigError:
        raise
    except PamTotpError:
        pass  # a file can be checked without key and cache; the next login notes that it is there
    return _report(config, paths)


def _edit(paths: Paths, yes: bool) -> int:
    before = _content(paths.config, paths.owner)
    mode = 0o644 if before is None else os.stat(paths.config).st_mode & 0o777
    copy = f"{paths.config}.edit"
    try:
        files.write_new(copy, before or b"", 0o600)
    except FileExistsError:
        raise UsageError(f"{copy} is there: somebody else is editing, or broke off; remove it if nobody is") from None
    try:
        config = _edited(copy, before, paths)
        if config is None or not (yes or _meant(config, paths)):
            print("nothing changed")
            return 1
        if _content(paths.config, paths.owner) != before:
            raise UsageError(f"{paths.config} was changed by somebody else meanwhile: start again")
        os.chmod(copy, mode)
        files.sync(copy)
        os.rename(copy, paths.config)
        files.sync_directory(os.path.dirname(copy))
    finally:
        if os.path.lexists(copy):
            os.unlink(copy)
    with Accounts(paths) as accounts:
        _note(accounts, present=True)
    common.note("config-edit")
    return _report(config, paths)


def _edited(copy: str, before: bytes | None, paths: Paths) -> Config | None:
    """The settings that somebody has made of a copy of the file; None where nobody wants them."""
    while True:
        try:
            editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or _editor())
            code = programs.interactive(*editor, copy)
        except (ValueError, programs.ProgramError) as error:
            raise UsageError(f"{error}: set EDITOR") from None
        if code or _content(copy, paths.owner) == before:
            return None
        try:
            return configuration.load(copy, paths.owner)
        except ConfigError as error:
            print(f"pam-totp: {str(error).replace(copy, paths.config)}", file=sys.stderr)
        if not sys.stdin.isatty() or not common.sure("Edit again? [y/N] "):
            return None


def _meant(config: Config, paths: Paths) -> bool:
    """Whether these settings are to hold, though they refuse somebody whom those before do not."""
    try:
        before = {
            each.name for each in _standings(configuration.load(paths.config, paths.owner), paths) if each.refused
        }
    except ConfigError:
        before = set()  # nobody was let in
    after = _standings(config, paths)
    newly = coverage.named(after, lambda each: each.refused and each.name not in before)
    if newly == "nobody":
        return True
    print(f"These settings refuse, of {len(after)} users who can log in over SSH: {newly}")
    return common.sure("Put them in force all the same? [y/N] ")


def _standings(config: Config, paths: Paths) -> list[Standing]:
    """Everybody who can log in; nobody where key, cache or a name service are broken, which is told elsewhere."""
    try:
        with Accounts(paths) as accounts:
            return coverage.everybody(accounts, config, paths, now())
    except PamTotpError as error:
        print(f"pam-totp: who would be refused cannot be told: {error}", file=sys.stderr)
        return []


def _reset(paths: Paths, yes: bool) -> int:
    if os.path.lexists(paths.config):
        raise UsageError(f"{paths.config} is there, and holds: remove it first, if the defaults are to hold")
    question = "Let the defaults hold from now on? Then nobody who is not enrolled is asked for a code. [y/N] "
    if not yes and not common.sure(question):
        print("nothing changed")
        return 1
    with Accounts(paths) as accounts:
        _note(accounts, present=False)
    common.note("config-reset")
    print(f"no {paths.config}: the defaults hold")
    return 0


def _note(accounts: Accounts, present: bool) -> None:
    """Note whether there is a file to be. Raises CacheError."""
    try:
        known = accounts.configured.known()
    except DamageError:
        known = not present
    # A cache of the first schema does not hold it; its migration looks for itself.
    if known is not None and known is not present:
        accounts.configured.note(present)


def _editor() -> str:
    return next((each for each in _EDITORS if os.path.exists(each)), _EDITORS[-1])


def _content(path: str, owner: int) -> bytes | None:
    """What is in a file; None where there is none. Raises ConfigError."""
    try:
        return files.read(path, owner, _LIMIT, private=False)
    except FileNotFoundError:
        return None
    except files.UnsafeFileError as error:
        raise ConfigError(f"the configuration is not safe: {error}") from None


def _report(config: Config, paths: Paths) -> int:
    """Say what there is to say about the rules, and who would be refused; 1 where a rule can never be reached."""
    for key in config.obsolete:
        print(f"{key} means nothing any more: remove it; a key is kept only once it is confirmed")
    code = 0
    for index, rule in enumerate(config.rules):
        earlier = config.rules[:index]
        takers = rules.takers(rule, earlier)
        if takers:
            some = _named(takers)
            print(f"rule {rule.number} is never reached: {some} every login that it could match")
            code = 1
            continue
        for other in earlier:
            if rules.overlap(other, rule) and _differ(other, rule):
                first, second = other.number, rule.number
                print(f"rules {first} and {second} overlap: where both match, rule {first} decides")
    for rule in config.rules:
        _report_users(rule)
    named = [str(rule.number) for rule in config.rules if rule.networks]
    if named:
        print(
            f"rules that name networks ({', '.join(named)}) need addresses: keep UseDNS no, the default, in sshd_config"
        )
    for line in coverage.told(_standings(config, paths)):
        print(line)
    if not code:
        count = "1 rule" if len(config.rules) == 1 else f"{len(config.rules)} rules"
        print(f"{paths.config}: good ({count})" if config.found else f"no {paths.config}: the defaults hold")
        common.caution(paths)
    return code


def _report_users(rule: Rule) -> None:
    """Say where a rule names nobody: it is compared with the names that NSS itself gives."""
    for name in rule.users:
        try:
            user = users.find(name)
        except NameServiceError as error:
            print(f"rule {rule.number}: whether there is a user {name!r} is not known: {error}")
            continue
        if user is None:
            print(f"rule {rule.number} names the user {name!r}, whom this host does not know")
        elif user.name != name:
            print(f"rule {rule.number} names the user {name!r}, whom NSS spells {user.name!r}: write that")


def _differ(one: Rule, other: Rule) -> bool:
    return (one.mfa, one.unenrolled, one.remember) != (other.mfa, other.unenrolled, other.remember)


def _named(found: list[Rule]) -> str:
    if len(found) == 1:
        return f"rule {found[0].number} takes"
    return f"the rules {', '.join(str(each.number) for each in found)} together take"
