"""Say how the host key is kept, rotate it, or keep it sealed.

A rotation seals every record anew with a new key while logins go on, and destroys the old key at its end. A sealed key
is bound to this host, and to its TPM2 where there is one: a copy of /etc/pam-totp opens nothing elsewhere.
"""

from __future__ import annotations

import json

from pam_totp.cache import binding, rotation
from pam_totp.cli import common
from pam_totp.errors import HostKeyError, UsageError
from pam_totp.host import clock, credentials, systemd
from pam_totp.login import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.cache.binding import State
    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """ACTION [--without-tpm2] [--boot] [--json]."""
    parser.add_argument(
        "action",
        choices=("status", "rotate", "seal", "unseal"),
        help="what to do: say how it is kept; put a new one in its place; keep it sealed; keep it in the clear again",
    )
    parser.add_argument("--without-tpm2", action="store_true", help="seal: bind it to this host's key alone")
    parser.add_argument("--boot", action="store_true", help="unseal: to /run only, as at each boot")
    parser.add_argument("--json", action="store_true", help="status: print one JSON document")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Do it."""
    for option, action in (("without_tpm2", "seal"), ("boot", "unseal"), ("json", "status")):
        if getattr(arguments, option) and arguments.action != action:
            raise UsageError(f"--{option.replace('_', '-')} goes with {action}: leave it out")
    if arguments.action == "status":
        return _status(arguments, paths)
    if arguments.action == "rotate":
        return _rotate(paths)
    if arguments.action == "seal":
        return _seal(arguments, paths)
    return _unseal_at_boot(paths) if arguments.boot else _unseal(paths)


def _status(arguments: argparse.Namespace, paths: Paths) -> int:
    state = binding.look(paths)
    if arguments.json:
        print(json.dumps(_fields(state)))
    else:
        print(f"key       {state.path or 'none that logins could read'}")
        print(f"sealed    {f'in {state.sealed}' if state.sealed else 'no: whoever can read the file has the key'}")
        print(f"bound to  {'not known' if state.bound is None else credentials.words(state.bound)}")
        print(f"rotated   {'yes' if state.rotated else 'never'}")
        for problem in state.problems:
            mend = f": run {problem.mend}" if problem.mend else ""
            print(f"{problem.severity}: {problem.text}{mend}")
    if any(problem.identifier == "key-unusable" for problem in state.problems):
        return HostKeyError.exit_code
    return 1 if state.problems else 0


def _fields(state: State) -> dict[str, object]:
    return {
        "path": state.path,
        "sealed": state.sealed,
        "bound": None if state.bound is None else sorted(state.bound),
        "recorded": sorted(state.recorded),
        "tpm2": state.tpm2,
        "rotated": state.rotated,
        "problems": [
            {"id": each.identifier, "severity": each.severity, "text": each.text, "mend": each.mend}
            for each in state.problems
        ],
    }


def _rotate(paths: Paths) -> int:
    count = rotation.rotate(paths, clock.pause)
    if count is None:
        print("what was begun before has ended: the former key is destroyed")
        return 0
    common.note("key-rotate", f"{count} values")
    print(f"the key is a new one ({count} values were sealed anew), and the former one is destroyed")
    print("back up key and cache: what was backed up before belongs to the former key")
    return 0


def _seal(arguments: argparse.Namespace, paths: Paths) -> int:
    if not systemd.running():
        raise HostKeyError("systemd does not run here, and nothing else would unseal the key at a boot: it stays plain")
    if not systemd.enabled(systemd.UNSEAL):
        raise HostKeyError(
            f"{systemd.UNSEAL} is not enabled, so no boot would unseal the key: run systemctl enable {systemd.UNSEAL}"
        )
    to, changed = binding.seal(paths, without_tpm2=arguments.without_tpm2)
    words = credentials.words(to)
    if not changed:
        print(f"nothing to do: the key is sealed, and bound to {words}")
        return 0
    common.note("key-seal", f"bound to {words}")
    print(f"the key is sealed in {binding.sealed_path(paths)}, and bound to {words}")
    print("without these nothing opens it: keep a plain copy of it in a safe place, see docs/recovery.md, Sealed key")
    return 0


def _unseal(paths: Paths) -> int:
    if not binding.unseal(paths):
        print(f"nothing to do: {paths.key} is there in the clear")
        return 0
    common.note("key-unseal")
    print(f"the key is in {paths.key} again, in the clear")
    return 0


def _unseal_at_boot(paths: Paths) -> int:
    if not binding.unseal_at_boot(paths):
        print("nothing to do: the key is not sealed")
        return 0
    print(f"the key is unsealed to {paths.unsealed}")
    weaker = [each.text for each in binding.look(paths).problems if each.identifier == "key-bound-to-less"]
    if weaker:
        common.note("key-bound-to-less", weaker[0], priority=log.ALERT)
    return 0
