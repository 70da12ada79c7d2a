"""Sending mail: to one server, over TLS whose certificate is checked, in plain text. What fails is tried again.

Django's own mail is not used: its STARTTLS takes any certificate for good unless it is told otherwise.
"""

from __future__ import annotations

import os
import smtplib
import ssl
import stat
import sys
from contextlib import contextmanager
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from typing import TYPE_CHECKING

from django.db.models import F

from pam_totp.directory import letters, people
from pam_totp.directory.letters import Text
from pam_totp.directory.models import Letter
from pam_totp.errors import PamTotpError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from pam_totp.directory.config import Config, Mail

SECONDS = 15.0  # for each answer of the server
# Nobody else takes a letter up that is being sent; after that it is thought to be lost with its sender.
_LEASE = timedelta(minutes=10)
_AT_ONCE = 1000
# What was not to be had for so long is no news any more.
GIVE_UP = timedelta(days=3)
_LONGEST_PAUSE = timedelta(hours=1)
_LONGEST_PASSWORD = 1024


class MailError(PamTotpError):
    """The mail server does not do what it is asked for, whatever the letter is."""

    reason = "mail"


class _RefusedError(Exception):
    """The server does not take one letter: for good, or for now."""

    def __init__(self, text: str, *, final: bool) -> None:
        super().__init__(text)
        self.final = final


class Server:
    """A connection to the mail server, signed in."""

    def __init__(self, client: smtplib.SMTP, config: Config) -> None:
        self._client = client
        self._config = config

    def send(self, text: Text, address: str, now: datetime) -> None:
        """Hand a mail over. Raises MailError, or _RefusedError where it is this mail that is not taken."""
        try:
            message, to = _message(text, address, self._config, now)
        except (ValueError, UnicodeError, LookupError):
            raise _RefusedError("the address cannot be written in a mail", final=True) from None
        try:
            self._client.sendmail(self._config.mail.sender, [to], message)
        except smtplib.SMTPRecipientsRefused as refused:
            [(code, said)] = refused.recipients.values()
            raise _RefusedError(_said(code, said), final=code >= 500) from None
        except smtplib.SMTPDataError as refused:
            code = int(refused.smtp_code)
            raise _RefusedError(_said(code, refused.smtp_error), final=code >= 500) from None


def _message(text: Text, address: str, config: Config, now: datetime) -> tuple[bytes, str]:
    """A mail, and the address as the server takes it. No header has anything that a person could have chosen but that.

    Raises ValueError for an address that would be more than one, or more than an address.
    """
    local, _, domain = address.rpartition("@")
    to = Address(username=local, domain=domain.encode("idna").decode("ascii"))
    if to.addr_spec != f"{local}@{to.domain}":
        raise ValueError
    # A header that would be two lines raises ValueError.
    message = EmailMessage(SMTP.clone(cte_type="7bit"))
    message["From"] = config.mail.sender
    message["To"] = to
    message["Subject"] = text.subject
    message["Date"] = format_datetime(now)
    message["Message-ID"] = make_msgid(domain=config.name)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text.body, cte="7bit" if text.body.isascii() else "quoted-printable")
    return message.as_bytes(), to.addr_spec


@contextmanager
def connected(config: Config) -> Iterator[Server]:
    """The mail server. Raises MailError where it is not there, is another one, has no TLS, or takes no password."""
    mail = config.mail
    host, port = mail.place
    client: smtplib.SMTP | None = None
    try:
        client = _client(mail, config.name)
        if mail.tls == "starttls":
            client.starttls(context=_context(mail))
        if mail.user:
            client.login(mail.user, _password(mail))
        yield Server(client, config)
    except (smtplib.SMTPException, OSError) as error:
        raise MailError(f"the mail server {host}:{port}: {_reason(error)}") from None
    finally:
        if client is not None:
            client.close()


def _client(mail: Mail, name: str) -> smtplib.SMTP:
    host, port = mail.place
    if mail.tls == "implicit":
        return smtplib.SMTP_SSL(host, port, local_hostname=name, timeout=SECONDS, context=_context(mail))
    return smtplib.SMTP(host, port, local_hostname=name, timeout=SECONDS)


def _context(mail: Mail) -> ssl.SSLContext:
    """TLS with a certificate for this very name, by a CA that counts. Raises MailError."""
    try:
        context = ssl.create_default_context(cafile=mail.authority or None)
    except OSError as error:
        raise MailError(f"{mail.authority} cannot be read ({error.strerror or 'no CA in PEM'}): correct it") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _password(mail: Mail) -> str:
    """The first line of the file with the password. Raises MailError where others could read or change it."""
    path = mail.password_file
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, encoding="utf-8") as file:
            about = os.fstat(descriptor)
            private = stat.S_ISREG(about.st_mode) and not stat.S_IMODE(about.st_mode) & 0o037
            if not private or about.st_uid not in (0, os.geteuid()):
                raise MailError(f"{path} is not kept private: chown root:pam-totp-directory {path}; chmod 640 {path}")
            line = file.readline(_LONGEST_PASSWORD).rstrip("\r\n")
    except UnicodeError:
        line = ""
    except OSError as error:
        raise MailError(f"{path} cannot be read ({error.strerror}): it is for root:pam-totp-directory, 640") from None
    if not line:
        raise MailError(f"{path} has no password in its first line: write it there")
    return line


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good ({error.verify_message}): is it the right server, and is its CA known?"
    if isinstance(error, ssl.SSLError):
        return f"no TLS ({error.reason}): look at port and tls"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "it does not offer STARTTLS, or no way to sign in: look at port, tls and user"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"it does not take user and password ({error.smtp_code}): correct them"
    if isinstance(error, smtplib.SMTPResponseException):
        return _said(error.smtp_code, error.smtp_error)
    # smtplib puts what the socket has said into the text of an error of its own.
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return "it does not answer in time"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "it has closed the connection"
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be reached ({error.strerror})"
    return f"it does not answer as a mail server ({type(error).__name__})"


def _said(code: int, said: bytes | str) -> str:
    """What a server has said, so that it can be shown."""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return f"{code} " + "".join(sign if sign.isprintable() else " " for sign in text)[:150]


def waiting() -> int:
    """How many letters wait."""
    return Letter.objects.filter(sent=None, given_up=None).count()


def run(config: Config, now: datetime, person: int | None = None) -> str:
    """Send what is due, to everybody or to one person. Returns why something waits on; empty where nothing does.

    Each letter is taken up by one sender at a time. One that is killed leaves its letter to another one, later.
    """
    found = Letter.objects.filter(sent=None, given_up=None, due__lte=now).select_related("person")
    due = list((found if person is None else found.filter(person=person)).order_by("due")[:_AT_ONCE])
    mine = [each for each in due if _take(each, now)]
    trouble = ""
    try:
        if mine:
            with connected(config) as server:
                while mine:
                    trouble = _send(server, config, mine[0], now) or trouble
                    del mine[0]
    except MailError as error:
        trouble = str(error)
        _log(trouble)
        for each in mine:
            # The server, not the letter: the next run tries again.
            _failed(each, trouble, now, now)
    return trouble


def _take(letter: Letter, now: datetime) -> bool:
    taken = Letter.objects.filter(pk=letter.pk, due=letter.due, sent=None).update(due=now + _LEASE)
    return bool(taken)


def _send(server: Server, config: Config, letter: Letter, now: datetime) -> str:
    """Send one letter; why not, or nothing."""
    text = _text(letter, config, now)
    if text is None:
        letter.delete()
        return ""
    try:
        server.send(text, letter.address, now)
    except _RefusedError as refused:
        pause = min(_LONGEST_PAUSE, timedelta(minutes=5) * (letter.tries + 1))
        _failed(letter, str(refused), now + pause, now, final=refused.final)
        trouble = f"{letter}: {refused}"
        _log(trouble)
        return trouble
    Letter.objects.filter(pk=letter.pk).update(sent=now, problem="")
    _log(f"sent {letter}")
    return ""


def _text(letter: Letter, config: Config, now: datetime) -> Text | None:
    """What to send now; None where there is nothing to say any more."""
    person = letter.person
    if letter.kind == Letter.Kind.NOTICE:
        return letters.notice_text(letter)
    if not person.is_active or person.locked:
        return None
    if letter.kind == Letter.Kind.REMINDER:
        return letters.reminder_text(person, now)
    if letter.detail["role"] != person.role:
        return None
    made = people.new_invitation(str(letter.detail["by"]), person, int(letter.detail["days"]))
    return letters.invitation_text(person, people.link(made.secret, config.url), made.expires)


def _failed(letter: Letter, why: str, due: datetime, now: datetime, *, final: bool = False) -> None:
    over = final or now - letter.created > GIVE_UP
    Letter.objects.filter(pk=letter.pk).update(
        due=due, tries=F("tries") + 1, problem=why[:200], given_up=now if over else None
    )


def test(config: Config, address: str, now: datetime) -> None:
    """Send a mail that says nothing. Raises MailError."""
    text = Text(f"A test of the directory {config.name}", "Mail of this directory arrives here.\n")
    try:
        with connected(config) as server:
            server.send(text, address, now)
    except _RefusedError as refused:
        raise MailError(f"the mail server does not take this mail: {refused}") from None


def _log(text: str) -> None:
    print(f"mail: {text}", file=sys.stderr, flush=True)
