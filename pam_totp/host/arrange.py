"""Putting a variant in force and taking it back: which files change, and changing all of them or none."""

from __future__ import annotations

import glob
import os
import signal
from contextlib import contextmanager

from pam_totp.errors import ConfigError, PamTotpError
from pam_totp.host import pamfile, pinned, rewrite, sshd, systemd
from pam_totp.host.pinned import Pin, Revert, SetupError
from pam_totp.host.rewrite import State

# The one drop-in of setup's, and those that are copied by hand. A name with - sorts before one with a full stop.
DROP_IN = "00-pam-totp.conf"
BY_HAND = "00-pam-totp-*.conf"
# Where a PAM module can be on Debian.
_MODULE_PLACES = ("/lib/*/security", "/usr/lib/*/security", "/lib/security", "/usr/lib/security")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pam_totp.host.clock import Moment
    from pam_totp.host.paths import Paths

    Changes = dict[str, tuple[State, State]]


def installed(module: str) -> bool:
    """Whether every file is there that a line with this module needs."""
    return all(any(glob.glob(f"{place}/{name}") for place in _MODULE_PLACES) for name in module.split())


def engine() -> str:
    """The engine that a line is to name: the first that is installed. Raises SetupError."""
    for name, module in pamfile.ENGINES.items():
        if installed(module):
            return name
    raise SetupError("no PAM module of pam-totp is installed: install the package pam-totp again")


def changes(paths: Paths, pin: Pin) -> Changes:
    """The files that have to be changed to put a pin in force, as they are and as they shall be, sshd's first.

    Raises SetupError, UnsafeFileError, or OSError.
    """
    found: Changes = {}
    if pin.service == pinned.SSHD:
        for path in sorted(glob.glob(f"{paths.drop_ins}/{BY_HAND}")):
            old = rewrite.look(path, paths.owner)
            found[path] = (old, old.with_text(_without_settings(old.text)))
        path = f"{paths.drop_ins}/{DROP_IN}"
        old = rewrite.look(path, paths.owner)
        found[path] = (old, (old if old.content is not None else State(b"")).with_text(_drop_in(pin)))
    path = pinned.pam_path(paths, pin.service)
    old = rewrite.look(path, paths.owner)
    if old.content is None:
        raise SetupError(f"{path} is missing: {pin.service} has to be installed first")
    try:
        text = pamfile.applied(old.text, pin.variant, pin.engine)
        pinned.asked(paths, pin, text, alone=True)
    except ConfigError as error:
        raise SetupError(f"{path}: {error}: put the lines in by hand where they belong, as pam_totp(8) says") from None
    found[path] = (old, old.with_text(text))
    return {path: (old, new) for path, (old, new) in found.items() if old != new}


def undoing(paths: Paths, service: str) -> Changes:
    """The files that have to be changed to have what was there before ``setup``.

    A file that somebody else has changed since keeps these other changes and loses ours only.
    Raises SetupError, UnsafeFileError, or OSError.
    """
    was = pinned.before(paths, service)
    ours = f"{paths.drop_ins}/{DROP_IN}"
    candidates = [pinned.pam_path(paths, service)]
    if service == pinned.SSHD:
        candidates = [*glob.glob(f"{paths.drop_ins}/{BY_HAND}"), *([ours] if os.path.exists(ours) else []), *candidates]
    found = {}
    for path in dict.fromkeys((*was, *candidates)):
        now = rewrite.look(path, paths.owner)
        if path == ours:
            new = was.get(path, State())
        elif now.content is None:
            new = was[path] if path == pinned.pam_path(paths, service) and path in was else now
        elif path in was and pamfile.undone(now.text) == pamfile.undone(was[path].text):
            new = was[path]
        else:
            new = now.with_text(pamfile.undone(now.text))
        if now != new:
            found[path] = (now, new)
    return found


def carry_out(changes: Changes, last: Callable[[], None]) -> None:
    """Write all of these, and then do the ``last`` thing; if anything fails, everything is put back as it was.

    Raises what failed.
    """
    done: list[str] = []
    try:
        for path, (_, new) in changes.items():
            done.append(path)
            rewrite.put(path, new)
        last()
    except BaseException:
        for path in reversed(done):
            rewrite.put(path, changes[path][0])
        raise


def _drop_in(pin: Pin) -> str:
    return sshd.drop_in(pin.variant, pin.robots)


def _without_settings(text: str) -> str:
    """A drop-in that was copied by hand, with its lines that ours now has out of force; what was added to it stays."""
    lines = pamfile.undone(text).split("\n")
    for number, line in enumerate(lines):
        words = line.replace("=", " ").split()
        if words and words[0].lower() == "match":
            break
        if words and words[0].lower() in {keyword.lower() for keyword in sshd.SETTINGS["key"]}:
            lines[number] = f"{pamfile.MARK} {line}"
    return "\n".join(lines)


def put_in_force(paths: Paths, pin: Pin, changes: Changes, seconds: int | None, now: Callable[[], Moment]) -> str:
    """Do what ``changes`` has found, in the order sshd's files, ``sshd -t``, PAM's file, and reload; or change nothing.

    With ``seconds`` it is undone after that time, unless it is kept before. Returns how sshd was reloaded. Raises
    what keeps it from being done: SetupError, ProgramError, UnsafeFileError or OSError.
    """
    if seconds is not None and not systemd.running():
        raise SetupError("systemd does not run here, and nothing else would undo it later: leave --revert-after out")
    former = pinned.load(paths, pin.service)
    olds = {path: old for path, (old, _) in changes.items()}
    pin.revert = _revert(former, olds, seconds, now())
    pinned.remember(paths, pin.service, olds)
    with uninterrupted():
        pinned.save(paths, pin)
        try:
            if seconds is not None:
                systemd.start_timer(seconds)
            how = _carry_out_in_order(paths, pin, changes)
        except BaseException:
            _as_before(paths, pin.service, former, now())
            raise
        if pin.revert is not None:
            pin.revert.since = now().uptime
            pinned.save(paths, pin)
    return how


def _revert(former: Pin | None, olds: dict[str, State], seconds: int | None, now: Moment) -> Revert | None:
    """What is to come back unless it is kept. What nobody has kept of an earlier set-up is undone as well."""
    earlier = former.revert if former else None
    if earlier is not None:
        states = {**olds, **earlier.states}
        boot_id, until, former = earlier.boot_id, earlier.until, earlier.former
    elif seconds is None:
        return None
    else:
        states, boot_id, until = olds, now.boot_id, now.uptime
    if seconds is not None:
        boot_id, until = now.boot_id, now.uptime + seconds
    return Revert(boot_id, until, states, former)


def _as_before(paths: Paths, service: str, former: Pin | None, now: Moment) -> None:
    """Put the record and the timer back after a set-up that failed."""
    if former is None:
        pinned.forget(paths, service)
    else:
        pinned.save(paths, former)
    systemd.stop_timer()
    if former is not None and former.revert is not None:
        systemd.start_timer(max(1, int(former.revert.until - now.uptime)))


def _carry_out_in_order(paths: Paths, pin: Pin, changes: Changes) -> str:
    stack = pinned.pam_path(paths, pin.service)
    for_pam = {path: change for path, change in changes.items() if path == stack}
    for_sshd = {path: change for path, change in changes.items() if path != stack}
    how = ""

    def look_again_and_reload() -> None:
        nonlocal how
        if missing := pinned.losses(paths, pin.service):
            raise SetupError(f"it would not be in force: {'; '.join(missing)}")
        if pin.service == pinned.SSHD:
            how = sshd.reload()

    def check() -> None:
        if pin.service == pinned.SSHD:
            sshd.check()
            if missing := sshd.differences(pin.variant):
                raise SetupError(
                    f"{'; '.join(missing)}: see which file of sshd's says so, before {paths.drop_ins}/{DROP_IN} does "
                    "(sshd_config has to take in sshd_config.d at its top)"
                )
        carry_out(for_pam, look_again_and_reload)

    carry_out(for_sshd, check)
    return how


def undo(paths: Paths, service: str, changes: Changes) -> str:
    """Do what ``undoing`` has found, or change nothing; and forget what was to be in force.

    Returns how sshd was reloaded. Raises ProgramError, or OSError.
    """
    how = ""

    def check_and_reload() -> None:
        nonlocal how
        if service == pinned.SSHD:
            sshd.check()
            how = sshd.reload()

    with uninterrupted():
        pin = _readable(paths, service)
        carry_out(changes, check_and_reload)
        pinned.forget(paths, service)
        if pin is not None and pin.revert is not None:
            systemd.stop_timer()
    return how


def revert(paths: Paths, pin: Pin) -> None:
    """Bring back what was in force before a set-up that nobody has kept, whatever has become of the files since.

    Raises OSError; or ProgramError where sshd could not be reloaded: the files are back then all the same.
    """
    if pin.revert is None:
        return
    with uninterrupted():
        for path, state in pin.revert.states.items():
            rewrite.put(path, state)
        if pin.revert.former is not None:
            pinned.save(paths, pin.revert.former)
        else:
            pinned.forget(paths, pin.service)
        systemd.stop_timer()
        sshd.check()
        sshd.reload()


def keep(paths: Paths, pin: Pin) -> None:
    """Have a set-up stay. Raises OSError."""
    pin.revert = None
    pinned.save(paths, pin)
    systemd.stop_timer()


def _readable(paths: Paths, service: str) -> Pin | None:
    """The record, or None where it is broken, too: what undoes must work without."""
    try:
        return pinned.load(paths, service)
    except PamTotpError:
        return None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Have signals that end a process wait: a connection that breaks does not leave half of the change."""
    signals = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE}
    former = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
