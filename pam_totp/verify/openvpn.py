"""What OpenVPN 2.6 runs to have a user's code checked: ``auth-user-pass-verify`` and ``client-crresponse``.

It is a client of the verify service, and decides nothing: it takes apart what OpenVPN hands over, has another program
look at the password (or takes the client's certificate for the first factor), and asks.

OpenVPN waits for its scripts, and all tunnels with it. So the work is done in a process of its own, which is waited for
a second at most; then OpenVPN is told to look for the answer later (exit status 2, "deferred"), and goes on.
"""

from __future__ import annotations

import argparse
import binascii
import json
import os
import select
import socket
import sys

from pam_totp.errors import PamTotpError

SOCKET = "/run/pam-totp-verify.sock"
ACCEPTED, REFUSED, LATER = 0, 1, 2  # what the exit status tells OpenVPN
_PATIENCE = 1.0  # seconds
_SECONDS = 40.0  # the service answers within 30
_SECONDS_TO_TYPE = 180  # the answer to a question; its state is good for 300
_LONGEST = 1 << 16
_DIGITS = 6
_NO_CODE = "A code is needed, and this client has not asked for one."
# In OpenVPN's file for the answer, whose first character is 1, 0, or neither as long as there is none: what belongs to
# a question that the client was asked. OpenVPN takes the file away with the connection.
_ASKED = "asked "

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class OpenVpnError(PamTotpError):
    """Something is missing or not understood; nobody gets in."""

    reason = "openvpn"


class Client:
    """What a client has sent: user, password, code (empty where there is none), and what OpenVPN knows of it.

    source     its address
    certified  the common name of its certificate; empty without one
    can_ask    whether it can show a question and send the answer (CR_TEXT)
    """

    __slots__ = ("can_ask", "certified", "code", "password", "source", "user")

    def __init__(self, text: str, environment: Mapping[str, str], one_field: bool) -> None:
        """Take apart the file that OpenVPN has written. Raises OpenVpnError."""
        self.user, _, rest = text.partition("\n")
        self.password, self.code = _apart(rest.partition("\n")[0], one_field)
        self.source = environment.get("untrusted_ip") or environment.get("untrusted_ip6", "")
        self.certified = environment.get("X509_0_CN", "")
        self.can_ask = "crtext" in environment.get("IV_SSO", "").split(",")


def _apart(field: str, one_field: bool) -> tuple[str, str]:
    """Password and code. Raises OpenVpnError."""
    if field.startswith("SCRV1:"):
        # static-challenge: both in base64
        try:
            _, *both = field.split(":")
            password, code = (binascii.a2b_base64(each, strict_mode=True).decode("utf-8") for each in both)
        except ValueError:
            raise OpenVpnError("the answer to a static-challenge is not understood") from None
        return password, code
    digits = field[-_DIGITS:]
    if one_field and len(digits) == _DIGITS and digits.isascii() and digits.isdecimal():
        return field[:-_DIGITS], digits
    return field, ""


def _in_one_line(text: object) -> str:
    """What the client is to be shown; OpenVPN's messages have no lines."""
    return " ".join(str(text).split())


class Service:
    """The verify service, asked as the client that has the token in this file; without one, as the own user."""

    def __init__(self, token_file: str | None) -> None:
        """Read the token. Raises OpenVpnError."""
        self._token = ""
        if token_file is not None:
            with open(token_file, encoding="ascii") as file:
                self._token = file.read(_LONGEST).strip()
            if not self._token or not self._token.isprintable() or " " in self._token:
                raise OpenVpnError(f"{token_file} does not hold a token: see pam-totp verify add")

    def ask(self, path: str, fields: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """The answer's status and its fields. Raises OpenVpnError."""
        body = json.dumps(fields).encode("ascii")
        head = f"POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        if self._token:
            head += f"Authorization: Bearer {self._token}\r\n"
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_SECONDS)
                connection.connect(SOCKET)
                connection.sendall(f"{head}\r\n".encode("ascii") + body)
                with connection.makefile("rb") as answer:
                    found = answer.read(_LONGEST)
        except OSError as error:
            raise OpenVpnError(f"the verify service does not answer ({error}): see pam-totp verify enable") from None
        first, _, text = found.partition(b"\r\n\r\n")
        try:
            status = int(first.split(b" ", 2)[1])
            answered = json.loads(text)
            if type(answered) is not dict:
                raise TypeError
        except (ValueError, IndexError, TypeError):
            raise OpenVpnError("the verify service's answer is not understood") from None
        if status not in (200, 403, 503):
            raise OpenVpnError(f"the verify service says {status}: {answered.get('error', '')}")
        return status, answered


class Door:
    """One attempt: what is to be done, and where OpenVPN looks for the answer."""

    def __init__(self, options: argparse.Namespace, environment: Mapping[str, str]) -> None:
        """Raises OpenVpnError where this is not OpenVPN 2.6."""
        self._options = options
        self._environment = environment
        try:
            self._control = environment["auth_control_file"]
        except KeyError:
            raise OpenVpnError("OpenVPN 2.6 or later has to start this, with via-file") from None

    def verify(self, text: str) -> int:
        """Decide, tell OpenVPN, and return the exit status that says the same. Raises OpenVpnError or OSError."""
        client = Client(text, self._environment, self._options.one_field)
        if self._options.certificate:
            # The name that is typed has to be the certificate's: else whoever has one could use another's phone. In the
            # field of the password is the code.
            right = client.certified != "" and client.user == client.certified
            code = client.code or client.password
        else:
            right = client.password != "" and self._password_is_right(client)
            code = client.code
        if not right:
            return self._tell(REFUSED)
        service = Service(self._options.token)
        who = {"user": client.user, "source": client.source}
        if code:
            status, answer = service.ask("/v1/verify", {**who, "code": code})
            return self._tell(ACCEPTED if status == 200 and answer.get("result") is True else REFUSED, answer)
        status, answer = service.ask("/v1/start", who)
        if status == 200 and answer.get("action") == "skip":
            return self._tell(ACCEPTED)
        if status != 200 or answer.get("action") != "ask":
            return self._tell(REFUSED, answer)
        if not client.can_ask:
            return self._tell(REFUSED, {"message": _NO_CODE})
        prompt = _in_one_line(answer.get("prompt", ""))
        self._put("auth_pending_file", f"{_SECONDS_TO_TYPE}\ncrtext\nCR_TEXT:R:{prompt}\n")
        self._put("auth_control_file", f"{_ASKED}{answer.get('state', '')}")
        return LATER

    def answer(self, text: str) -> int:
        """Decide on the answer to the question, if there was one, and tell OpenVPN. Raises OpenVpnError or OSError."""
        with open(self._control, encoding="ascii") as file:
            asked = file.read(_LONGEST)
        if not asked.startswith(_ASKED):
            # Nothing was asked: the password has not passed, or not yet.
            return REFUSED
        try:
            code = binascii.a2b_base64(text.strip(), strict_mode=True).decode("utf-8")
        except ValueError:
            raise OpenVpnError("the client's answer is not understood") from None
        status, answer = Service(self._options.token).ask(
            "/v1/verify", {"state": asked.removeprefix(_ASKED), "code": code}
        )
        return self._tell(ACCEPTED if status == 200 and answer.get("result") is True else REFUSED, answer)

    def refuse(self) -> int:
        """Tell OpenVPN that something went wrong."""
        return self._tell(REFUSED)

    def _password_is_right(self, client: Client) -> bool:
        from pam_totp.host import programs

        try:
            programs.piped(self._options.password, content=f"{client.user}\n{client.password}\n".encode())
        except programs.ProgramError as error:
            print(f"openvpn-verify: {error}", file=sys.stderr)
            return False
        return True

    def _tell(self, status: int, answer: Mapping[str, Any] | None = None) -> int:
        message = _in_one_line((answer or {}).get("message", ""))
        if status == REFUSED and message:
            self._put("auth_failed_reason_file", message)
        self._put("auth_control_file", "1" if status == ACCEPTED else "0")
        return status

    def _put(self, name: str, text: str) -> None:
        """Write one of the files that OpenVPN has made. One that is gone belongs to a connection that is gone."""
        try:
            descriptor = os.open(self._environment[name], os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
        except (KeyError, FileNotFoundError):
            return
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="openvpn-verify", description=__doc__, allow_abbrev=False)
    first = parser.add_mutually_exclusive_group(required=True)
    first.add_argument("--certificate", action="store_true", help="the client's certificate is the first factor")
    first.add_argument("--password", metavar="PROGRAM", help="it gets a line with the name and one with the password")
    first.add_argument("--answer", action="store_true", help="as client-crresponse: take the answer to the question")
    parser.add_argument("--one-field", action="store_true", help="the code is at the end of the password")
    parser.add_argument("--token", metavar="FILE", help="the token of the client of the verify service")
    parser.add_argument("file", metavar="FILE", help="what OpenVPN adds")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Have one attempt decided; the exit status is OpenVPN's."""
    options = _options(sys.argv[1:] if arguments is None else arguments)
    try:
        with open(options.file, encoding="utf-8") as file:
            text = file.read(_LONGEST)
        if options.answer:
            os.unlink(options.file)  # not every OpenVPN does
        door = Door(options, os.environ)
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.close(reading)  # so that writing fails once nobody reads
            _work(door, options, text, writing)
    except (PamTotpError, OSError, ValueError) as error:
        _complain(error)
        return REFUSED
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], _PATIENCE)
    # A process that has ended without a word has refused.
    status = int(os.read(reading, 1) or str(REFUSED)) if ready else LATER
    # The answer to a question is in the file in any case; another status than 0 would end the connection.
    return 0 if options.answer else status


def _work(door: Door, options: argparse.Namespace, text: str, writing: int) -> None:
    """In a process of its own: do it, and end."""
    status = REFUSED
    try:
        try:
            os.setsid()
            status = door.answer(text) if options.answer else door.verify(text)
        except (PamTotpError, OSError, ValueError) as error:
            _complain(error)
            status = door.refuse()
        try:
            os.write(writing, str(status).encode("ascii"))
        except BrokenPipeError:
            if status == LATER:
                # Nobody waits any more, and OpenVPN looks for a question only as long as somebody does.
                door.refuse()
    finally:
        os._exit(0)


def _complain(error: Exception) -> None:
    """To OpenVPN's log. What a decoder says of bytes that it does not understand has some of them in it."""
    said = "what OpenVPN handed over is not understood" if isinstance(error, ValueError) else error
    print(f"openvpn-verify: {said}", file=sys.stderr, flush=True)
