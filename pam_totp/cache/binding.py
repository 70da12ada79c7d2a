"""Keeping the host key sealed: what it is bound to while the host is off, and what is wrong with that.

A sealed key is a credential of systemd, ``/etc/pam-totp/key.cred``, in the place of the plain file. A boot unseals it
to a file below ``/run``. What it was bound to is kept in the cache, sealed: so one that is bound to less is noticed.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from pam_totp.cache import keys, store
from pam_totp.cache.roster import Roster
from pam_totp.cache.volatile import Volatile
from pam_totp.errors import CacheError, HostKeyError, LockTimeoutError, PamTotpError
from pam_totp.host import credentials, files, systemd
from pam_totp.host.credentials import HOST, TPM2
from pam_totp.host.programs import ProgramError

LOCK = "key"  # no token has this form
_FACT = "bound"
_LIMIT = 1 << 16

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pam_totp.cache.seal import Sealer
    from pam_totp.host.credentials import Bound
    from pam_totp.host.paths import Paths


class Problem:
    """Something that is wrong with the key: a stable id, "error" or "warning", what it is, and what mends it."""

    __slots__ = ("identifier", "mend", "severity", "text")

    def __init__(self, identifier: str, severity: str, text: str, mend: str) -> None:
        self.identifier = identifier
        self.severity = severity
        self.text = text
        self.mend = mend


class State:
    """How the key of a host is kept, as it really is.

    ``path`` is the file that logins read, None where there is none; ``sealed`` is the credential, None where the key is
    in the clear. ``bound`` is what that is bound to (None: not known), ``recorded`` what it was bound to by ``seal``.
    """

    __slots__ = ("bound", "path", "problems", "recorded", "rotated", "sealed", "tpm2")

    def __init__(self) -> None:
        self.path: str | None = None
        self.sealed: str | None = None
        self.bound: Bound | None = frozenset()
        self.recorded: Bound = frozenset()
        self.rotated = False
        self.tpm2 = credentials.tpm2_there()
        self.problems: list[Problem] = []


# -- the files


def sealed_path(paths: Paths) -> str:
    """Where the credential is."""
    return f"{paths.key}{keys.SEALED}"


def place(paths: Paths) -> str:
    """The file of the key that logins read: the plain one, or the unsealed one. Raises HostKeyError."""
    for path in (paths.key, paths.unsealed):
        if os.path.lexists(path) or os.path.lexists(f"{path}{keys.NEXT}"):
            return path
    keys.find(paths)
    raise HostKeyError("the host key came and went: try again", "key-missing")


def present(paths: Paths) -> bool:
    """Whether there is a key in any form."""
    names = (paths.key, f"{paths.key}{keys.NEXT}", sealed_path(paths), paths.unsealed)
    return any(os.path.lexists(name) for name in names)


def unfinished(paths: Paths) -> bool:
    """Whether a rotation goes on, or one or a sealing was killed before its end."""
    names = (paths.key, paths.unsealed, sealed_path(paths))
    return any(os.path.lexists(f"{name}{suffix}") for name in names for suffix in (keys.NEXT, keys.FORMER))


def destroy(path: str) -> None:
    """Take a key away and overwrite it. Raises OSError."""
    # Under another name first: a login must not read what is half overwritten.
    if os.path.lexists(path):
        os.rename(path, f"{path}{keys.FORMER}")
        files.sync_directory(os.path.dirname(path))
    files.wipe(f"{path}{keys.FORMER}")


def finish(paths: Paths, *, ended: bool = False) -> bool:
    """Destroy a former key, and whether there was one; with ``ended``, first put the next one in its place.

    Raises OSError.
    """
    found = False
    # The sealed one first: what a boot unseals must never be the key that is gone.
    for path in (sealed_path(paths), paths.key, paths.unsealed):
        former, following = f"{path}{keys.FORMER}", f"{path}{keys.NEXT}"
        if os.path.lexists(following) and (ended or os.path.lexists(former)):
            # Between the two names a login finds the next one.
            if os.path.lexists(path):
                os.rename(path, former)
            os.rename(following, path)
            files.sync_directory(os.path.dirname(path))
        if os.path.lexists(former) and present(paths):
            files.wipe(former)
            found = True
    return found


@contextmanager
def alone(paths: Paths) -> Iterator[Volatile]:
    """Nobody else rotates, seals or unseals meanwhile. Raises CacheError."""
    volatile = Volatile(paths.run, paths.owner)
    try:
        lock = volatile.lock(LOCK, 1.0)
    except LockTimeoutError:
        raise CacheError(
            "the key is being changed by another process: wait until that has ended", "cache-busy"
        ) from None
    with lock:
        yield volatile


# -- sealing and unsealing


def seal(paths: Paths, *, without_tpm2: bool = False) -> tuple[Bound, bool]:
    """Put a credential in the place of the plain key; returns what it is bound to, and whether that is new.

    Raises HostKeyError, CacheError or ProgramError: the key is then where it was.
    """
    with alone(paths), _opened(paths) as (opened, sealer):
        _require_no_rotation(paths)
        finish(paths)
        path, content = _current(paths, opened, sealer)
        wanted = frozenset({HOST, TPM2} if credentials.tpm2_there() and not without_tpm2 else {HOST})
        recorded = _recorded(opened, sealer)
        if recorded - wanted and not without_tpm2:
            raise HostKeyError(
                "the key was bound to a TPM2, and this host has none now, so nothing was changed: "
                "if it is to be bound to less, run pam-totp key seal --without-tpm2"
            )
        if path == paths.unsealed and recorded == wanted and _opens_as(paths, content, wanted):
            return wanted, False
        files.replace(sealed_path(paths), _sealed(content, wanted), 0o400)
        with opened.transaction():
            opened.put_fact(_FACT, sealer.seal("+".join(sorted(wanted)).encode("ascii"), "fact", _FACT))
        _put_unsealed(paths, content, "")
        destroy(paths.key)
    return wanted, True


def seal_next(paths: Paths) -> None:
    """Where the key is kept sealed, seal the next one beside it, bound to the same. Raises as ``seal``."""
    if place(paths) == paths.unsealed:
        to = credentials.bound(_credential(paths, ""))
        if not to:
            raise HostKeyError(f"{sealed_path(paths)} is bound to nothing that is known here: run pam-totp key seal")
        content = keys.read(f"{paths.unsealed}{keys.NEXT}", paths.owner)
        files.replace(f"{sealed_path(paths)}{keys.NEXT}", _sealed(content, to), 0o400)


def unseal(paths: Paths) -> bool:
    """Put the plain key in the place of the credential; False where it is plain. Raises as ``seal``."""
    with alone(paths), _opened(paths) as (opened, sealer):
        _require_no_rotation(paths)
        finish(paths)
        path, content = _current(paths, opened, sealer)
        if path == paths.key and not os.path.lexists(sealed_path(paths)):
            return False
        if path == paths.unsealed:
            files.replace(paths.key, content, 0o400)
        with opened.transaction():
            opened.put_fact(_FACT, sealer.seal(b"", "fact", _FACT))
        destroy(sealed_path(paths))
        destroy(paths.unsealed)
    return True


def unseal_at_boot(paths: Paths) -> bool:
    """Unseal the credential, and that of a rotation, to ``/run``; False where there is none.

    Raises HostKeyError or ProgramError.
    """
    found = False
    for suffix in ("", keys.NEXT):
        if os.path.lexists(f"{sealed_path(paths)}{suffix}"):
            content = _credential(paths, suffix)
            if credentials.bound(content) == frozenset():
                raise HostKeyError(f"{sealed_path(paths)}{suffix} is bound to nothing: anybody may have made it")
            plain = credentials.decrypt(content)
            keys.parse(plain, f"what is sealed in {sealed_path(paths)}{suffix}")
            _put_unsealed(paths, plain, suffix)
            found = True
    return found


def _sealed(content: bytes, to: Bound) -> bytes:
    """A credential that is bound to this and opens here: both are tried. Raises HostKeyError or ProgramError."""
    sealed = credentials.encrypt(content, to)
    real = credentials.bound(sealed)
    if real != to:
        what = "something else" if real is None else credentials.words(real)
        raise HostKeyError(f"systemd-creds has bound the key to {what}, not to {credentials.words(to)}: not sealed")
    if credentials.decrypt(sealed) != content:
        raise HostKeyError("systemd-creds does not open what it has sealed: the key is not sealed")
    return sealed


def _opens_as(paths: Paths, content: bytes, wanted: Bound) -> bool:
    try:
        sealed = _credential(paths, "")
        return credentials.bound(sealed) == wanted and credentials.decrypt(sealed) == content
    except (HostKeyError, ProgramError):
        return False


def restored(paths: Paths, content: bytes) -> bool:
    """Whether it is this key that is sealed here, and opens: it is then where logins find it.

    A plain file of it would give to a thief of the disk what sealing keeps from him. Raises HostKeyError or OSError.
    """
    if os.path.lexists(paths.key) or unfinished(paths):
        return False
    try:
        to = credentials.bound(_credential(paths, ""))
    except HostKeyError:
        return False
    if not to or not _opens_as(paths, content, to):
        return False
    _put_unsealed(paths, content, "")
    return True


def _credential(paths: Paths, suffix: str) -> bytes:
    path = f"{sealed_path(paths)}{suffix}"
    try:
        files.check_parents(path, paths.owner)
        return files.read(path, paths.owner, _LIMIT)
    except files.UnsafeFileError as error:
        raise HostKeyError(f"the sealed key is not safe: {error}") from None
    except OSError as error:
        raise HostKeyError(f"the sealed key {path} cannot be read: {error.strerror}") from None


def _put_unsealed(paths: Paths, content: bytes, suffix: str) -> None:
    os.makedirs(os.path.dirname(paths.unsealed), mode=0o700, exist_ok=True)
    try:
        files.check_parents(paths.unsealed, paths.owner)
    except files.UnsafeFileError as error:
        raise HostKeyError(f"the key cannot be unsealed: {error}") from None
    files.replace(f"{paths.unsealed}{suffix}", content, 0o400)


def _require_no_rotation(paths: Paths) -> None:
    if any(os.path.lexists(f"{name}{keys.NEXT}") for name in (paths.key, paths.unsealed, sealed_path(paths))):
        raise HostKeyError("a rotation has not ended: run pam-totp key rotate first, which ends it")


@contextmanager
def _opened(paths: Paths) -> Iterator[tuple[store.Store, Sealer]]:
    with store.Store(paths.cache, paths.owner) as opened:
        if opened.schema == 1:
            raise CacheError("the cache is of an older version: run pam-totp migrate", "cache-version")
        yield opened, keys.find(paths, opened.key_id())


def current(paths: Paths) -> bytes:
    """The content of the file that logins read. Raises HostKeyError where that is not the key of this cache."""
    with _opened(paths) as (opened, sealer):
        return _current(paths, opened, sealer)[1]


def _current(paths: Paths, opened: store.Store, sealer: Sealer) -> tuple[str, bytes]:
    # An older key put beside the right one must never take its place.
    path = place(paths)
    content = keys.read(path, paths.owner)
    if not Roster(opened, sealer).opens() or keys.load(path, paths.owner).key_id != sealer.key_id:
        raise HostKeyError(f"{path} is not the key of this cache: restore the right one in its place", "key-wrong")
    return path, content


def _recorded(opened: store.Store, sealer: Sealer) -> Bound:
    value = opened.fact(_FACT)
    words = "" if value is None else sealer.open(value, "fact", _FACT).decode("ascii", "replace")
    return frozenset(words.split("+") if words else ())


# -- looking


def look(paths: Paths) -> State:
    """How the key is kept, and what is wrong with that. Raises nothing of ours: what cannot be said is a problem."""
    state = State()
    try:
        state.path = place(paths)
        with _opened(paths) as (opened, sealer):
            state.rotated = opened.key_id() is not None
            state.recorded = _recorded(opened, sealer)
            if not Roster(opened, sealer).opens():
                raise HostKeyError("the host key does not belong to this cache: restore both from the same backup")
    except PamTotpError as error:
        state.problems.append(Problem("key-unusable", "error", str(error), ""))
    if os.path.lexists(sealed_path(paths)):
        state.sealed = sealed_path(paths)
        _look_at_credential(paths, state)
    if state.bound is not None and state.recorded - state.bound:
        was, now = credentials.words(state.recorded), credentials.words(state.bound)
        text = f"the key was bound to {was}, and is bound to {now} now"
        state.problems.append(Problem("key-bound-to-less", "error", text, "pam-totp key seal"))
    if unfinished(paths):
        text = "a rotation goes on or was killed: until it has ended, the former key still opens the cache"
        state.problems.append(Problem("key-unfinished", "warning", text, "pam-totp key rotate"))
    return state


def _look_at_credential(paths: Paths, state: State) -> None:
    def found(identifier: str, severity: str, text: str, mend: str = "pam-totp key seal") -> None:
        state.problems.append(Problem(identifier, severity, text, mend))

    state.bound = None
    try:
        content = _credential(paths, "")
        state.bound = credentials.bound(content)
        if state.bound is None:
            found("key-binding-unknown", "error", f"what {state.sealed} is bound to is not known here")
        opens = credentials.decrypt(content)
    except PamTotpError as error:
        found("key-not-openable", "error", f"the sealed key does not open here, so no boot unseals it: {error}")
    else:
        if state.path is not None and opens != keys.read(state.path, paths.owner) and not unfinished(paths):
            found("key-another-sealed", "error", f"{state.sealed} holds another key than {state.path}")
    if state.bound is not None and not state.bound:
        found("key-bound-to-nothing", "error", f"{state.sealed} is bound to nothing: everybody can open it")
    elif state.bound and state.tpm2 and TPM2 not in state.bound:
        found("key-tpm2-unused", "warning", "this host has a TPM2, and the key is not bound to it")
    if state.path == paths.key:
        state.bound = frozenset()
        found("key-plain", "error", f"{paths.key} is there in the clear, beside the sealed one")
    if not (systemd.running() and systemd.enabled(systemd.UNSEAL)):
        text = f"{systemd.UNSEAL} does not run at boot, so nobody could log in after one"
        found("key-unseal-disabled", "error", text, f"systemctl enable {systemd.UNSEAL}")
