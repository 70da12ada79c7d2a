"""``pam-totp``: the administrator's command. The parser, and how errors become exit codes; one file per verb beside it.

Exit codes: 0 done or yes; 1 the answer is no; 2 usage; 3 the environment does not allow it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from pam_totp import __version__
from pam_totp.cli import (
    adopt,
    backup,
    check,
    config,
    confirm,
    deadline,
    doctor,
    enroll,
    exempt,
    explain,
    export,
    fleet,
    forget,
    import_,
    init,
    invite,
    join,
    key,
    leave,
    log,
    metrics,
    migrate,
    recovery,
    rename,
    reset,
    restore,
    self,
    setup,
    status,
    sync,
    unlock,
    upload,
    verify,
)
from pam_totp.errors import PamTotpError, UsageError
from pam_totp.host.paths import Paths

VERBS = (
    init,
    migrate,
    setup,
    doctor,
    enroll,
    confirm,
    status,
    reset,
    rename,
    adopt,
    unlock,
    check,
    invite,
    recovery,
    exempt,
    deadline,
    forget,
    import_,
    export,
    backup,
    restore,
    config,
    key,
    explain,
    log,
    metrics,
    self,
    verify,
    join,
    leave,
    sync,
    fleet,
    upload,
)


def parser() -> argparse.ArgumentParser:
    """The whole command line; the man page is checked against it."""
    top = argparse.ArgumentParser(
        prog="pam-totp",
        allow_abbrev=False,
        description="Set up and look after TOTP codes for SSH logins.",
        epilog="Exit codes: 0 done or yes, 1 the answer is no, 2 usage, 3 the environment does not allow it. "
        "See pam-totp(8).",
    )
    top.add_argument("--version", action="version", version=f"pam-totp {__version__}")
    verbs = top.add_subparsers(metavar="VERB", required=True)
    for verb in VERBS:
        name = verb.__name__.rpartition(".")[2].rstrip("_")  # a verb can be a word that Python keeps for itself
        summary = (verb.__doc__ or "").partition("\n")[0]
        each = verbs.add_parser(
            name,
            help=summary[0].lower() + summary[1:].rstrip("."),
            description=verb.__doc__,
            allow_abbrev=False,  # what works today must not mean something else when an option is added
        )
        verb.arguments(each)
        each.set_defaults(run=verb.run, root=getattr(verb, "ROOT", True), parser=each)
    return top


def main(argv: list[str] | None = None, paths: Paths | None = None) -> int:
    """Run one command; returns the exit code. Exits by itself (SystemExit) for --help and usage errors."""
    arguments, unknown = parser().parse_known_args(_meant(sys.argv[1:] if argv is None else argv))
    if unknown:
        # argparse itself would show the usage of the whole command.
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    paths = paths or Paths()
    if arguments.root and os.geteuid() != paths.owner:
        print("pam-totp: only root may do this: run it with sudo", file=sys.stderr)
        return 3
    try:
        code = arguments.run(arguments, paths)
        sys.stdout.flush()
    except UsageError as error:
        print(f"{arguments.parser.format_usage()}pam-totp: {error}", file=sys.stderr)
        return error.exit_code
    except PamTotpError as error:
        print(f"pam-totp: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Nobody reads any more (status | head). What is still to be written goes nowhere, so that exiting is quiet too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        print(f"pam-totp: {error.filename or 'the system'}: {error.strerror}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("\npam-totp: interrupted, nothing changed", file=sys.stderr)
        return 1
    return int(code)


def _meant(argv: list[str]) -> list[str]:
    """``help [VERB]``, and the other spelling of enroll."""
    words = ["enroll" if word == "enrol" and place < 2 else word for place, word in enumerate(argv)]
    return [*words[1:2], "--help"] if words[:1] == ["help"] else words
