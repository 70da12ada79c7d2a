"""Look after your own authenticators: show them, set one up, get new recovery codes, remove one.

For every user, without root; changes of what is set up ask for a current code. Needs pam-totp-self.socket.
"""

from __future__ import annotations

import getpass
import shutil
import socket
import struct
import sys

from pam_totp.cli import common
from pam_totp.errors import UsageError
from pam_totp.factors import enroll as enrolment
from pam_totp.selfservice import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths

ROOT = False
SECONDS = 10  # to wait for one's turn


def arguments(parser: argparse.ArgumentParser) -> None:
    """(status | enroll | recovery | remove) [--label L] [--qr STYLE] [--json]."""
    parser.add_argument(
        "action", choices=("status", "enroll", "recovery", "remove"), help="what to do with your own authenticators"
    )
    parser.add_argument("--label", metavar="L", help="name of the authenticator to set up or remove")
    parser.add_argument("--qr", choices=enrolment.STYLES, help="how to draw the QR code (default: as the terminal is)")
    parser.add_argument("--json", action="store_true", help="status: print one JSON document")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Connect, show what the service tells, and answer what it asks."""
    _check(arguments)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SECONDS, 0))
        try:
            connection.connect(paths.socket)
        except BlockingIOError:
            print("pam-totp: too many others are being served: try again later", file=sys.stderr)
            return 3
        except OSError as error:
            print(
                f"pam-totp: self-service is not available on this host ({paths.socket}: {error.strerror}): "
                "ask your administrator for what you need, or for systemctl enable --now pam-totp-self.socket",
                file=sys.stderr,
            )
            return 3
        try:
            return _talk(wire.Channel(connection, wire.LONGEST_MESSAGE), arguments)
        except KeyboardInterrupt:
            print("\npam-totp: interrupted; see pam-totp self status", file=sys.stderr)
            return 1


def _check(arguments: argparse.Namespace) -> None:
    takes = {"enroll": ("label", "qr"), "remove": ("label",), "status": ("json",)}.get(arguments.action, ())
    for name in ("label", "qr", "json"):
        if getattr(arguments, name) and name not in takes:
            raise UsageError(f"self {arguments.action} takes no --{name}: see pam-totp self --help")
    if arguments.label is not None:
        enrolment.check_label(arguments.label)


def _talk(channel: wire.Channel, arguments: argparse.Namespace) -> int:
    qr = arguments.qr
    if qr is None and arguments.action == "enroll":
        # What suits most terminals is for the host's configuration to say.
        qr = None if (style := common.qr_style(None)) == "utf8" else style
    columns = shutil.get_terminal_size((0, 0)).columns if sys.stdout.isatty() else 0
    channel.send(verb=arguments.action, label=arguments.label, qr=qr, columns=columns, json=arguments.json)
    while message := channel.receive(wire.TELL, wire.ASK, wire.DONE):
        if "done" in message:
            return int(message["done"])
        if "tell" in message:
            _show(message["tell"] + "\n")
            continue
        answer = _answer(message["ask"], message["echo"])
        if answer is None:
            return 1
        channel.send(answer=answer)
    print("pam-totp: the service ended the connection: try again, or tell your administrator", file=sys.stderr)
    return 3


def _answer(prompt: str, echo: bool) -> str | None:
    """What the user types, or the next line of standard input; None at its end."""
    _show(prompt)
    try:
        if not echo and sys.stdin.isatty():
            return getpass.getpass("")
        line = sys.stdin.readline()
    except EOFError:
        return None
    return line.rstrip("\r\n") if line else None


def _show(text: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    print(text.encode(encoding, "backslashreplace").decode(encoding), end="", flush=True)
