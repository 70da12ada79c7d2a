"""Put codes in force at sshd, or undo that: PAM's file, sshd's settings, reload, all of it or nothing.

Shows the change and whom it would keep out, and asks. Without --variant, what was set up stays, or comes back.
"""

from __future__ import annotations

import ipaddress
import json
import re
import sys

from pam_totp.cache.upkeep import Upkeep
from pam_totp.cli import common
from pam_totp.errors import PamTotpError, UsageError
from pam_totp.host import arrange, files, logins, pamfile, pinned, sshd, users
from pam_totp.host import config as configuration
from pam_totp.host.clock import now
from pam_totp.host.pinned import Pin, SetupError
from pam_totp.host.stack import STARTED_BY_USERS
from pam_totp.login import coverage, log
from pam_totp.login.attempt import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from pam_totp.host.arrange import Changes
    from pam_totp.host.paths import Paths

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?")
_SERVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SHOWN = 20
# Seconds that another set-up is waited for by what runs by itself.
_MORE_PATIENCE = 120.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """[sshd] [--variant V] and what goes with it; or --undo, --keep, --check."""
    parser.add_argument("what", choices=("sshd",), nargs="?", default="sshd", help="what to set up (default: sshd)")
    parser.add_argument(
        "--variant", choices=pamfile.VARIANTS, help="public key + code, password + code, or both in one"
    )
    parser.add_argument("--service", metavar="NAME", default="sshd", help="PAM service (default: %(default)s)")
    parser.add_argument("--engine", choices=tuple(pamfile.ENGINES), help="PAM module that the line names")
    parser.add_argument(
        "--robot",
        metavar="USER[@ADDRESS]",
        action="append",
        help="asked for no code, its key is enough; can be repeated",
    )
    parser.add_argument("--no-robots", action="store_true", help="name no robots any more")
    parser.add_argument("--enforce", action="store_true", help="put it back by itself whenever it is found to be gone")
    parser.add_argument("--no-enforce", action="store_true", help="only log an alert then")
    parser.add_argument("--revert-after", metavar="TIME", help="undo it after this time, like 10m, unless it is kept")
    parser.add_argument("--keep", action="store_true", help="keep it: from a login that came after it")
    parser.add_argument("--undo", action="store_true", help="bring back what was there before the first set-up")
    parser.add_argument("--check", action="store_true", help="say whether it is in force; alert and put back if not")
    parser.add_argument("--dry-run", action="store_true", help="show the change, and change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Set up, undo, keep, or check."""
    others = [name for name in ("undo", "keep", "check") if getattr(arguments, name)]
    wanted = ("variant", "engine", "robot", "no_robots", "enforce", "no_enforce", "revert_after")
    if len(others) > 1 or (others and any(getattr(arguments, name) for name in wanted)):
        raise UsageError(f"--{others[0]} goes with nothing else that says what is to be in force: leave the others out")
    if arguments.dry_run and others not in ([], ["undo"]):
        raise UsageError(f"--{others[0]} changes no file by itself: leave --dry-run out")
    if not _SERVICE.fullmatch(arguments.service) or arguments.service.startswith("common-"):
        raise UsageError(
            f"{arguments.service!r} is not a service: name one file of {paths.services} that no other takes in"
        )
    try:
        if arguments.check:
            return _check(paths)
        if arguments.keep:
            return _keep(arguments, paths)
        return _undo(arguments, paths) if arguments.undo else _set_up(arguments, paths)
    except files.UnsafeFileError as error:
        raise SetupError(str(error)) from None


# -- setting up


def _set_up(arguments: argparse.Namespace, paths: Paths) -> int:
    former = pinned.load(paths, arguments.service)
    pin = _wanted(arguments, former)
    seconds = None if arguments.revert_after is None else common.duration_argument(arguments.revert_after)
    if seconds is not None and pin.service != pinned.SSHD:
        raise UsageError("--revert-after is for sshd: leave it out for another service")
    # With a key, a cache or a configuration that is broken everybody would be refused.
    with Upkeep(paths) as accounts:
        accounts.check_key()
        config = configuration.load(paths.config, paths.owner)
        standings = coverage.everybody(accounts, config, paths, now()) if pin.service == pinned.SSHD else []
    changes = arrange.changes(paths, pin)
    settings = sshd.effective() if pin.service == pinned.SSHD else {}
    kept_out = logins.shut_out(pin.variant, pin.robots, settings) if settings else []
    robots = {robot.partition("@")[0] for robot in pin.robots}
    known = {*dict(kept_out), *robots}
    kept_out += [(each.name, each.why) for each in standings if each.refused and each.name not in known]
    report = _Report(arguments, pin, changes, kept_out)
    changed = bool(changes) or former is None or _differ(former, pin)
    if not changes and not changed:
        if seconds is not None:
            raise SetupError("it is in force already, so there is nothing to undo later: leave --revert-after out")
        report.end(changed=False, text=f"nothing to change: {_named(pin)} is in force")
        return 0
    report.show()
    if arguments.dry_run:
        report.end(changed=changed, text="nothing was changed: this was a dry run")
        return 1
    if not arguments.yes and not common.sure("Put this in force? [y/N] "):
        report.end(changed=False, text="nothing changed")
        return 1
    with common.one_setup(paths):
        if arrange.changes(paths, pin) != changes:
            raise SetupError("a file was changed meanwhile: run it again to see the new change")
        how = arrange.put_in_force(paths, pin, changes, seconds, now)
    until = f", undone in {seconds} s unless kept" if seconds else ""
    common.note("setup", f"{_named(pin)}{until}", service=pin.service)
    report.end(changed=True, text=_next(pin, how, seconds), reloaded=how)
    return 0


def _wanted(arguments: argparse.Namespace, former: Pin | None) -> Pin:
    """What the command line asks for; what it does not say stays as it was. Raises UsageError, or SetupError."""
    variant = arguments.variant or (former.variant if former else None)
    if variant is None:
        raise UsageError("nothing is set up yet: add --variant key, password or combined; see pam_totp(8)")
    if arguments.service != pinned.SSHD and (variant == "key" or arguments.robot):
        raise UsageError("only sshd says which key has passed: take --variant password or combined for another service")
    if (arguments.robot and arguments.no_robots) or (arguments.enforce and arguments.no_enforce):
        raise UsageError("that says one thing and its contrary: leave one of them out")
    engine = arguments.engine or arrange.engine()
    if not arrange.installed(pamfile.ENGINES[engine]):
        raise SetupError(f"{pamfile.ENGINES[engine]} is not installed: install it, or leave --engine out")
    if engine == "pam_python" and arguments.service in STARTED_BY_USERS:
        raise UsageError(
            f"users start {arguments.service} themselves, and with pam_python that is not safe: see pam_totp(8)"
        )
    robots = former.robots if former and not arguments.no_robots else []
    if arguments.robot:
        robots = [_robot(text) for text in arguments.robot]
    enforce = arguments.enforce or (former is not None and former.enforce and not arguments.no_enforce)
    revert = former.revert if former else None
    return Pin(arguments.service, variant, engine, list(dict.fromkeys(robots)), enforce, revert)


def _robot(text: str) -> str:
    """USER or USER@ADDRESS as sshd's Match takes it. Raises UsageError."""
    name, at, address = text.partition("@")
    if not _NAME.fullmatch(name) or users.find(name) is None:
        raise UsageError(f"--robot {text!r}: this host has no such user: write USER or USER@ADDRESS")
    if not at:
        return name
    try:
        return f"{name}@{ipaddress.ip_network(address) if '/' in address else ipaddress.ip_address(address)}"
    except ValueError as error:
        raise UsageError(f"--robot {text!r}: {error}: write an address or a network, like 192.0.2.0/24") from None


def _differ(one: Pin, other: Pin) -> bool:
    return (one.variant, one.engine, one.robots, one.enforce) != (
        other.variant,
        other.engine,
        other.robots,
        other.enforce,
    )


def _named(pin: Pin) -> str:
    return f"{pin.service}, variant {pin.variant}" + (f", robots {' '.join(pin.robots)}" if pin.robots else "")


def _next(pin: Pin, how: str, seconds: int | None) -> str:
    lines = [f"in force: {_named(pin)}"]
    if pin.service != pinned.SSHD:
        return "\n".join([*lines, "Keep this session open, and try it before you close it."])
    if not how:
        lines.append("No running sshd was found: it reads its settings when it starts.")
    lines.append("Keep this session open, and log in from a second terminal.")
    if seconds is not None:
        lines.append(f"In that login, run: sudo pam-totp setup --keep (else it is undone in {duration(seconds)})")
    else:
        lines.append("If that fails, run here: pam-totp setup --undo")
    return "\n".join(lines)


class _Report:
    """What is shown of a change: as text while it goes on, or as one JSON document at the end."""

    def __init__(
        self, arguments: argparse.Namespace, pin: Pin | None, changes: Changes, kept_out: list[tuple[str, str]]
    ) -> None:
        self._json = arguments.json
        if self._json and not (arguments.yes or arguments.dry_run):
            raise UsageError("--json asks nothing: add --yes or --dry-run")
        self._pin = pin
        self._service = arguments.service
        self._changes = changes
        self._kept_out = kept_out

    def show(self) -> None:
        """Print the change and whom it keeps out."""
        if self._json:
            return
        for path, (old, new) in self._changes.items():
            common.show_change(path, old, new)
        if self._pin is None or self._pin.service != pinned.SSHD:
            return
        if self._kept_out:
            print(f"\nThis keeps out of SSH ({len(self._kept_out)}):")
            for name, reason in self._kept_out[:_SHOWN]:
                print(f"  {name}: {reason}")
            if len(self._kept_out) > _SHOWN:
                print(f"  and {len(self._kept_out) - _SHOWN} more; --dry-run --json lists them all")
        print(
            "\nIt also keeps out programs that log in without anybody who types: ssh -o BatchMode=yes, sftp -b, rsync, "
            "Ansible.\nTo have a user's key suffice, best from one address only (root from a bastion, too), add:\n"
            "  --robot USER@ADDRESS\n"
        )

    def end(self, *, changed: bool, text: str, reloaded: str = "") -> None:
        """Print how it ended."""
        if not self._json:
            print(text)
            return
        document: dict[str, Any] = {"changed": changed, "service": self._service, "files": sorted(self._changes)}
        if self._pin is not None:
            document |= {
                "variant": self._pin.variant,
                "engine": self._pin.engine,
                "robots": self._pin.robots,
                "enforce": self._pin.enforce,
                "kept_out": [{"user": name, "reason": reason} for name, reason in self._kept_out],
                "to_be_kept": self._pin.revert is not None,
            }
        print(json.dumps(document | {"reloaded": reloaded or None}))


# -- undoing, keeping


def _undo(arguments: argparse.Namespace, paths: Paths) -> int:
    changes = arrange.undoing(paths, arguments.service)
    report = _Report(arguments, None, changes, [])
    recorded = arguments.service in pinned.services(paths)
    if not changes and not recorded:
        report.end(changed=False, text=f"nothing to undo: setup has changed nothing of {arguments.service}")
        return 0
    report.show()
    if arguments.dry_run:
        report.end(changed=True, text="nothing was changed: this was a dry run")
        return 1
    if not arguments.yes and not common.sure("Undo this? [y/N] "):
        report.end(changed=False, text="nothing changed")
        return 1
    with common.one_setup(paths):
        if arrange.undoing(paths, arguments.service) != changes:
            raise SetupError("a file was changed meanwhile: run it again to see the new change")
        how = arrange.undo(paths, arguments.service, changes)
    common.note("setup-undo", service=arguments.service)
    report.end(changed=True, text=f"undone: {arguments.service} is as it was before pam-totp setup", reloaded=how)
    return 0


def _keep(arguments: argparse.Namespace, paths: Paths) -> int:
    with common.one_setup(paths):
        pin = pinned.load(paths, arguments.service)
        if pin is None or pin.revert is None:
            print("nothing to keep: no set-up is waiting to be undone")
            return 0
        moment, since, began = now(), pin.revert.since, sshd.login_began()
        if pin.revert.due(moment) or since is None:
            print("pam-totp: it is too late: the set-up is being undone", file=sys.stderr)
            return 1
        if began is None or began <= since:
            print(
                "pam-totp: not kept: this is no SSH login that began after the set-up; log in anew and say it there, "
                "not in a shell that was open before (screen, tmux, a shared connection)",
                file=sys.stderr,
            )
            return 1
        arrange.keep(paths, pin)
    common.note("setup-keep", service=pin.service)
    print(f"kept: {_named(pin)}")
    return 0


# -- what the timer, the path unit, the boot and dpkg run


def _check(paths: Paths) -> int:
    """Undo what is due, and see whether the rest is in force; 0 where it is."""
    code = 0
    # Most hosts that have the package installed and nothing set up end here.
    for service in pinned.services(paths):
        # Ended by systemd, because a file has changed again, it still says what it has done.
        with common.one_setup(paths, _MORE_PATIENCE), arrange.uninterrupted():
            try:
                code = max(code, _checked(paths, service))
            except (PamTotpError, files.UnsafeFileError, OSError) as error:
                common.note("enforcement-lost", str(error), service=service, priority=log.ALERT)
                print(f"pam-totp: {service}: {error}", file=sys.stderr)
                code = 3
    return code


def _checked(paths: Paths, service: str) -> int:
    pin = pinned.load(paths, service)
    if pin is None:
        return 0
    if pin.revert is not None and pin.revert.due(now()):
        common.note("setup-revert", "nobody has kept it", service=service)
        arrange.revert(paths, pin)
        print(f"{service}: undone, because nobody has kept it")
        return 0
    missing = pinned.losses(paths, service)
    if not missing:
        print(f"{service}: in force")
        return 0
    common.note("enforcement-lost", "; ".join(missing), service=service, priority=log.ALERT)
    print("\n".join(f"{service}: not in force: {each}" for each in missing))
    if not pin.enforce:
        print("To put it back: pam-totp setup; to give it up: pam-totp setup --undo")
        return 1
    arrange.put_in_force(paths, pin, arrange.changes(paths, pin), None, now)
    common.note("enforcement-restored", _named(pin), service=service, priority=log.ALERT)
    print(f"{service}: put back")
    return 0
