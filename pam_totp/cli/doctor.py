"""Prove that codes are asked for on this host, or say what is wrong and the command that mends it.

Looks at PAM's lines, at sshd's effective settings, at the module (which it tries), at key, cache and configuration,
at the clock, and at who can log in. Changes nothing. Exit code 0: in force; 1: not; 3: it cannot be told.
"""

from __future__ import annotations

import json
import os

from pam_totp.doctor import examine, findings
from pam_totp.errors import UsageError
from pam_totp.host import pinned
from pam_totp.host.clock import now
from pam_totp.login import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.doctor.findings import Finding
    from pam_totp.host.paths import Paths

_SENTENCES = {
    0: "MFA is in force",
    1: "MFA is NOT in force, or nobody can log in",
    3: "whether MFA is in force cannot be told",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """[--service NAME] [--json] [--log]."""
    parser.add_argument(
        "--service", metavar="NAME", help="look at this PAM service only (default: sshd, and all that ask for codes)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--log", action="store_true", help="log each error as an alert; where nothing is set up, say nothing"
    )


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Examine; 0, 1 or 3 as above."""
    if arguments.log and not examine.set_up(paths):
        return 0
    services = examine.services_of(paths)
    if arguments.service is not None:
        if "/" in arguments.service or not os.path.isfile(pinned.pam_path(paths, arguments.service)):
            raise UsageError(f"no such service: {arguments.service!r}; see {paths.services} for those of this host")
        services = [arguments.service]
    found = examine.findings(paths, services, now())
    status = findings.status(found)
    if arguments.log:
        for each in found:
            if each.severity == findings.ERROR:
                fields = log.line(action="not-in-force", reason=each.identifier, detail=each.text)
                log.send(log.ALERT, "pam-totp", fields)
    if arguments.json:
        document = {"in_force": status == 0 if status != 3 else None, "services": services}
        print(json.dumps(document | {"findings": [each.plain() for each in found]}, indent=2))
        return status
    for each in found:
        _show(each)
    print(f"{_SENTENCES[status]}: {', '.join(services)}")
    return status


def _show(each: Finding) -> None:
    print(f"{each.severity}: {each.identifier}: {findings.KINDS[each.identifier][1]}")
    print(f"  {_printable(each.text)}")
    if each.mend:
        print(f"  mend: {_printable(each.mend)}")


def _printable(text: str) -> str:
    """Nothing of a file can move the cursor or colour the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
