"""``pam-totp-directory``: the directory's command. The parser, and how errors become exit codes; verbs are beside it.

Exit codes: 0 done or yes; 1 the answer is no; 2 usage; 3 the environment does not allow it.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

from pam_totp import __version__
from pam_totp.errors import PamTotpError, UsageError

# What is imported when it is asked for: most of them load Django.
VERBS = {
    "init": "set the directory up: database, keys, certificate, services, and the first administrator",
    "status": "how many people are how far, how old the hosts' latest word is, and why logins were refused",
    "user": "people: add, list, import, export, enrol, invite, reset, lock, unlock, exempt, change, remove",
    "group": "groups of people and of hosts, and which may use which",
    "sync": "take people and groups from LDAP or Active Directory; a timer does it",
    "host": "hosts that have joined: list, move, revoke",
    "token": "let a host join, or a program use the API: print a token",
    "policy": "show or change what holds on the hosts of a group",
    "event": "show what hosts and the portal have told of logins",
    "audit": "show the audit trail, or check that nothing in it was changed",
    "mail": "test the mail server, list mails that wait, send what is due",
    "epoch": "begin a new epoch, after the database was restored from a backup",
    "backup": "write database, keys and configuration into one file",
    "restore": "put back what backup has written, also into another database",
    "doctor": "say what is wrong with the directory, and what mends it",
    "renew": "renew the TLS certificate by the directory's own CA where it ends soon; a timer does it every day",
    "migrate": "bring the database to the form of this version; the package does it when it is upgraded",
    "publish": "publish what has changed now, or, as a service, whenever something changes",
    "serve": "the web process; systemd starts it",
    "keep": "the keeper; systemd starts it",
    "passwords": "ask PAM about passwords of this machine, for the portal; systemd starts it",
}
PROGRAM = "pam-totp-directory"


def parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The command line, with the arguments of one verb or, without one, of all."""
    top = argparse.ArgumentParser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Enrol people once, and have every host of a fleet ask for their codes.",
        epilog="Exit codes: 0 done or yes, 1 the answer is no, 2 usage, 3 the environment does not allow it. "
        "See pam-totp-directory(8).",
    )
    top.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    verbs = top.add_subparsers(metavar="VERB", required=True)
    for name, summary in VERBS.items():
        each = verbs.add_parser(name, help=summary, description=summary.capitalize() + ".", allow_abbrev=False)
        each.set_defaults(verb=name, parser=each)
        if verb in (None, name):
            import_module(f"pam_totp.directory.cli.{name}").arguments(each)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Exits by itself (SystemExit) for --help and usage errors."""
    argv = (sys.argv[1:] if argv is None else argv) or ["--help"]
    arguments = parser(argv[0] if argv[0] in VERBS else "").parse_args(argv)
    try:
        code: int = import_module(f"pam_totp.directory.cli.{arguments.verb}").run(arguments)
        sys.stdout.flush()
    except UsageError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except PamTotpError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        print(f"{PROGRAM}: {error.filename or 'the system'}: {error.strerror}", file=sys.stderr)
        return 3
    except Exception as error:
        # Django is loaded by the verbs that need it.
        database = getattr(sys.modules.get("django.db"), "Error", None)
        if database is None or not isinstance(error, database):
            raise
        print(f"{PROGRAM}: the database: {error}: is the disk full, or the server down?", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print(f"\n{PROGRAM}: interrupted", file=sys.stderr)
        return 1
    return code
