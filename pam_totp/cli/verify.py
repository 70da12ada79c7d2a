"""Let other programs ask whether a code is right, over HTTP on this host: a RADIUS server, a VPN, a web portal.

enable, disable: have the service or not; it is off until then. add, remove: who may ask. list: what there is.
setup: have a program of this host ask, by settings that it shows before it writes them.
"""

from __future__ import annotations

import ipaddress
import json
import os
import sys

from pam_totp.cli import common, verify_setup
from pam_totp.errors import ConfigError, PamTotpError, UsageError
from pam_totp.host import files, rewrite, systemd
from pam_totp.verify import clients, freeradius
from pam_totp.verify.clients import Client

UNIT = "pam-totp-verify.socket"
SOCKET = "/run/pam-totp-verify.sock"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/listen.conf"
_MOST_PORT = 1023
_WHAT = ("enable", "disable", "add", "remove", "list", "setup")
# What goes with some of these only.
_OPTIONS = (
    *("client", "listen", "service", "identity", "may_know", "runs_as", "module", "nas"),
    *("undo", "dry_run", "yes", "json"),
)
_HEAD = ("CLIENT", "SERVICES", "IDENTITY", "MAY KNOW", "KNOWN BY")

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pam_totp.host.paths import Paths


def arguments(parser: argparse.ArgumentParser) -> None:
    """WHAT [CLIENT] and its options."""
    parser.add_argument("what", metavar="|".join(_WHAT), choices=_WHAT, help="what to do, see above")
    parser.add_argument(
        "client",
        metavar="CLIENT",
        nargs="?",
        help=f"add, remove: a name for a program that asks; setup: {' or '.join(verify_setup.PROGRAMS)}",
    )
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        help="enable, setup: also on this loopback address and port, below 1024, like 127.0.0.1:722",
    )
    parser.add_argument(
        "--service",
        action="append",
        metavar="S",
        help="add, setup: what rules and the log call its logins (default: its name); can be repeated",
    )
    parser.add_argument(
        "--identity",
        choices=clients.IDENTITIES,
        help="add, setup: its users are those of this host (nss, the default), or whoever has a record, also without "
        "a Unix account",
    )
    parser.add_argument(
        "--may-know",
        action="store_true",
        help="add, setup lemonldap: tell it who is not asked for a code, and why somebody is refused",
    )
    parser.add_argument(
        "--runs-as", metavar="U", help="add: know it by its user, on the UNIX socket, and make no token"
    )
    parser.add_argument(
        "--module", choices=tuple(freeradius.MODULES), help="setup freeradius: what checks the password there"
    )
    parser.add_argument(
        "--nas",
        metavar="NAME=MODE[,WAY]",
        action="append",
        help=f"setup freeradius: of whom a client in clients.conf wants a code ({', '.join(freeradius.MODES)}), and "
        f"how the code comes ({', '.join(freeradius.WAYS)}; {freeradius.UNSIGNED}); can be repeated",
    )
    parser.add_argument("--undo", action="store_true", help="setup: bring back what was there before the first set-up")
    parser.add_argument("--dry-run", action="store_true", help="setup: show the change, and change nothing")
    parser.add_argument("--yes", action="store_true", help="setup: do not ask")
    parser.add_argument("--json", action="store_true", help="add, list, setup: print one JSON document")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Do it; with list, 1 where there is no client."""
    _check(arguments)
    if arguments.what == "enable":
        return _enable(arguments.listen, paths)
    if arguments.what == "disable":
        return _disable(paths)
    if arguments.what == "setup":
        if arguments.listen:
            arguments.listen = _address(arguments.listen)
        return verify_setup.run(arguments, paths, _listening(paths))
    if arguments.what == "add":
        return _add(arguments, paths)
    return _remove(arguments.client, paths) if arguments.what == "remove" else _list(paths, arguments.json)


def _check(arguments: argparse.Namespace) -> None:
    takes = {
        "enable": ("listen",),
        "add": ("client", "service", "identity", "may_know", "runs_as", "json"),
        "remove": ("client",),
        "list": ("json",),
        "setup": ("client", "undo", "dry_run", "yes", "json", *verify_setup.PROGRAMS.get(arguments.client, ())),
    }.get(arguments.what, ())
    for name in _OPTIONS:
        if getattr(arguments, name) and name not in takes:
            shown = "CLIENT" if name == "client" else f"--{name.replace('_', '-')}"
            raise UsageError(f"verify {arguments.what} takes no {shown}: see pam-totp verify --help")
    if "client" in takes and not arguments.client:
        raise UsageError(f"say which client: pam-totp verify {arguments.what} CLIENT")
    if arguments.what == "setup" and arguments.client not in verify_setup.PROGRAMS:
        raise UsageError(f"verify setup knows no {arguments.client!r}: name {' or '.join(verify_setup.PROGRAMS)}")


def _enable(listen: str | None, paths: Paths) -> int:
    address = _address(listen) if listen else None
    if not systemd.running():
        print(
            f"pam-totp: systemd is not running here, which opens the sockets ({UNIT}): enable it on a host, or in a "
            "container, that systemd has booted",
            file=sys.stderr,
        )
        return 3
    content = f"# Written by pam-totp verify enable.\n[Socket]\nListenStream={address}\n".encode("ascii")
    if address:
        os.makedirs(os.path.dirname(DROP_IN), mode=0o755, exist_ok=True)
        rewrite.put(DROP_IN, rewrite.State(content, 0o644, paths.owner, os.getegid()))
    else:
        _forget_address()
    systemd.enable(UNIT)
    common.note("verify-enable", address or "")
    print(f"enabled: http on {SOCKET}{f' and {address}' if address else ''}")
    if not clients.everybody(paths):
        print("Nobody may ask yet: pam-totp verify add CLIENT")
    return 0


def _address(text: str) -> str:
    """An address and port as systemd takes them. Raises UsageError."""
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        good = address.is_loopback and (address.version == 4) == ("[" not in host)
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"{text!r} is no loopback address with a port: write 127.0.0.1:722 or [::1]:722")
    if not (port.isascii() and port.isdecimal() and 0 < int(port) <= _MOST_PORT):
        # While the socket is closed, another user's program could listen there, and say yes to everything.
        raise UsageError(f"{text!r}: take a port from 1 to {_MOST_PORT}, where only root's programs can listen")
    return f"[{address}]:{int(port)}" if address.version == 6 else f"{address}:{int(port)}"


def _disable(paths: Paths) -> int:
    if systemd.running():
        systemd.disable(UNIT)
        systemd.disable(UNIT.replace(".socket", ".service"))
    _forget_address()
    common.note("verify-disable")
    left = len(clients.everybody(paths))
    print(f"disabled{f'; the {left} clients stay: pam-totp verify remove CLIENT' if left else ''}")
    return 0


def _forget_address() -> None:
    for forget, path in ((os.unlink, DROP_IN), (os.rmdir, os.path.dirname(DROP_IN))):
        try:
            forget(path)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or forget is os.rmdir:
                continue  # a drop-in of the administrator's own stays
            raise


def _add(arguments: argparse.Namespace, paths: Paths) -> int:
    uid = common.known_user(arguments.runs_as).uid if arguments.runs_as else None
    services = list(dict.fromkeys(arguments.service or [arguments.client]))
    client = Client(arguments.client, services, arguments.identity or "nss", arguments.may_know, uid)
    token = clients.add(client, paths)
    common.note("verify-add", f"client {client.name}")
    if arguments.json:
        print(json.dumps(_fields(client) | {"token": token or None}))
    elif token:
        print(f"The token of {client.name}, which is shown this once:\n\n  {token}\n")
        print("It goes into the header Authorization: Bearer TOKEN, or is the password of HTTP's basic scheme.")
    else:
        print(f"{client.name} is whatever asks on {SOCKET} as uid {uid}.")
    return 0


def _remove(name: str, paths: Paths) -> int:
    if not clients.remove(name, paths):
        print(f"pam-totp: there is no client {name}: see pam-totp verify list", file=sys.stderr)
        return 1
    common.note("verify-remove", f"client {name}")
    print(f"{name} may not ask any more")
    return 0


def _list(paths: Paths, as_json: bool) -> int:
    found = clients.everybody(paths)
    good = [each for each in found if isinstance(each, Client)]
    errors = [each for each in found if isinstance(each, ConfigError)]
    listening = _listening(paths)
    if as_json:
        print(
            json.dumps({"enabled": bool(listening), "listen": listening, "clients": [_fields(each) for each in good]})
        )
    else:
        print(f"the service is {'on: ' + ', '.join(listening) if listening else 'off: pam-totp verify enable'}")
        if good:
            common.table(_HEAD, [_row(each) for each in good])
    for error in errors:
        print(f"pam-totp: {error}", file=sys.stderr)
    return 3 if errors else 0 if good else 1


def _listening(paths: Paths) -> list[str]:
    """Where the service listens; empty where it is off."""
    try:
        if not systemd.running() or not systemd.active(UNIT):
            return []
    except PamTotpError:
        return []
    try:
        text = files.read(DROP_IN, paths.owner, rewrite.LIMIT, private=False).decode("utf-8", "replace")
    except (OSError, files.UnsafeFileError):
        text = ""
    more = [line.partition("=")[2] for line in text.splitlines() if line.startswith("ListenStream=")]
    return [SOCKET, *more]


def _fields(client: Client) -> dict[str, object]:
    return {
        "client": client.name,
        "services": client.services,
        "identity": client.identity,
        "may_know": client.may_know,
        "uid": client.uid,
    }


def _row(client: Client) -> tuple[str, ...]:
    known_by = "a token" if client.uid is None else f"uid {client.uid}"
    return client.name, ",".join(client.services), client.identity, "yes" if client.may_know else "no", known_by
