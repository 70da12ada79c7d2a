"""Mail, to a real SMTP server (Debian's aiosmtpd) with TLS: what is sent, to whom, how often, and what goes wrong."""

from __future__ import annotations

import email
import os
import re
import socket
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.policy import SMTP
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from django.conf import settings
from django.utils import timezone

from pam_totp.directory import certificates, config, letters, lists, mail, people
from pam_totp.directory.cli import doctor
from pam_totp.directory.models import Audit, Host, HostGroup, Invitation, Letter, Person, Published, hash_of
from pam_totp.errors import UsageError
from tests.directory.inside.conftest import Keeper, enrolled
from tests.directory.inside.portal import Somebody, somebody

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage
    from pathlib import Path

PASSWORD = "grouse-otter-77"


@dataclass
class Post:
    """A mail server at work: what it has taken, whom it was asked for, and what it answers."""

    directory: Path
    taken: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    signed_in: list[bytes] = field(default_factory=list)
    rcpt: str = "250 OK"
    data: str = "250 OK"

    async def handle_MAIL(self, _: Any, __: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802  # aiosmtpd calls it so
        self.commands.append("MAIL")
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, _: Any, __: Any, envelope: Any, address: str, ___: list[str]) -> str:  # noqa: N802  # aiosmtpd calls it so
        self.recipients.append(address)
        if self.rcpt.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd calls it so
        if self.data.startswith("250"):
            self.taken.append(email.message_from_bytes(envelope.content, policy=SMTP))
        return self.data

    def sign_in(self, _: Any, __: Any, ___: Any, ____: str, data: Any) -> AuthResult:
        self.signed_in.append(data.password)
        return AuthResult(success=data.password == PASSWORD.encode(), handled=False)

    def texts(self) -> list[str]:
        return [str(each.get_content()) for each in self.taken]


@contextmanager
def serving(post: Post, name: str = "localhost", *, tls: str = "starttls") -> Iterator[config.Mail]:
    """A mail server with a certificate for this name, and the settings to reach it."""
    now = datetime.now(UTC)
    authority, key = certificates.authority(name, now)
    certificate, own_key = certificates.server(name, authority, key, now)
    for file, content in (("ca", authority), ("crt", certificate), ("key", own_key), ("password", PASSWORD.encode())):
        (post.directory / file).write_bytes(content)
        (post.directory / file).chmod(0o640)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(post.directory / "crt", post.directory / "key")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words: dict[str, Any] = {"hostname": "127.0.0.1", "port": port, "authenticator": post.sign_in}
    if tls == "starttls":
        words |= {"tls_context": context, "require_starttls": True, "auth_required": True}
    elif tls == "implicit":
        words |= {"ssl_context": context, "auth_require_tls": False}
    controller = Controller(post, **words)
    controller.start()
    try:
        yield config.Mail(
            server="localhost",
            port=port,
            tls=tls,
            authority=str(post.directory / "ca"),
            sender="totp@example.org",
            user="totp",
            password_file=str(post.directory / "password"),
        )
    finally:
        controller.stop()


@pytest.fixture
def post(tmp_path: Path) -> Post:
    return Post(tmp_path)


def use(monkeypatch: pytest.MonkeyPatch, found: config.Mail) -> None:
    monkeypatch.setattr(settings, "CONFIG", replace(settings.CONFIG, mail=found))


@pytest.fixture
def server(post: Post, monkeypatch: pytest.MonkeyPatch) -> Iterator[Post]:
    """A good mail server, which the directory knows."""
    with serving(post) as found:
        use(monkeypatch, found)
        yield post


def run(ahead: timedelta = timedelta(0)) -> str:
    """A run of the timer's: put reminders, send what is due."""
    now = timezone.now() + ahead
    letters.remind(now)
    return mail.run(settings.CONFIG, now)


def alice(**fields: Any) -> Person:
    return people.add("root", "alice", **{"email": "alice@example.org", **fields})


# Invitations


def test_an_invitation_by_mail_has_the_link_that_works_and_nobody_else_has_it(server: Post) -> None:
    person = alice()
    people.invite_by_mail("root", person, 3)
    assert not Invitation.objects.exists()
    assert run() == ""
    [message], [text] = server.taken, server.texts()
    [secret] = re.findall(r"^https://dir\.example\.org/invitation/([\w-]{43})/$", text.replace("\r", ""), re.MULTILINE)
    made = people.invited(secret, timezone.now())
    assert made is not None
    assert (made.person, made.token_hash) == (person, hash_of(secret))
    assert (message["To"], message["From"], server.recipients) == (
        *("alice@example.org", "totp@example.org"),
        ["alice@example.org"],
    )
    assert message.get_content_type() == "text/plain"
    assert message["Auto-Submitted"] == "auto-generated"
    assert server.signed_in == [PASSWORD.encode()]
    kept = repr([*Letter.objects.values(), *Invitation.objects.values(), *Audit.objects.values()])
    assert secret not in kept
    assert run() == ""
    assert len(server.taken) == 1


def test_a_later_link_is_not_voided_by_a_mail_that_waited(server: Post) -> None:
    person = alice()
    people.invite_by_mail("root", person)
    secret = people.invite("root", person)
    assert run() == ""
    assert server.taken == []
    assert people.invited(secret, timezone.now()) is not None
    people.invite_by_mail("root", person)
    people.remove("root", person)
    people.invite_by_mail("root", person)
    people.lock("root", person, locked=True)
    assert run() == ""
    assert [text for text in server.texts() if "invitation" in text] == []


def test_an_invitation_that_waited_is_not_sent_to_who_has_another_role_by_then(server: Post) -> None:
    """Who may invite people without a role, and set their address, would have the link of an administrator."""
    person = alice(email="helper@example.org")
    people.invite_by_mail("api helpdesk", person)
    people.set_fields("root", person, role=Person.Role.ADMINISTRATOR, email="alice@example.org")
    assert run() == ""
    assert not [each for each in server.texts() if "/invitation/" in each]
    assert not Invitation.objects.exists()
    assert not Letter.objects.filter(kind=Letter.Kind.INVITATION).exists()


def test_nobody_without_an_address_is_invited_by_mail_and_nobody_where_no_server_is_named(
    server: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = people.add("root", "bob")
    with pytest.raises(UsageError, match="no e-mail address"):
        people.invite_by_mail("root", person)
    use(monkeypatch, config.Mail())
    with pytest.raises(UsageError, match="no mail is sent"):
        people.invite_by_mail("root", alice())
    assert not Letter.objects.exists()
    assert not Audit.objects.filter(action="invited").exists()


def test_the_portal_sends_it_and_shows_the_link_of_those_alone_who_have_no_address(
    server: Post, keeper: Keeper
) -> None:
    boss = somebody(keeper, "boss", role="administrator")
    boss.sign_in()
    bob = Somebody(people.add("root", "bob"), keeper)
    chosen = [alice().pk, bob.person.pk]
    data = {"action": "invite", "_selected_action": chosen, "sure": "yes", "days": "3", "mail": "on"}
    page = boss.post("/admin/directory/person/", data).content.decode()
    assert "<dt>bob</dt>" in page
    assert "<dt>alice</dt>" not in page
    run()
    assert [message["To"] for message in server.taken] == ["alice@example.org"]
    page = boss.post("/admin/directory/person/", {**data, "mail": ""}).content.decode()
    assert "<dt>alice</dt>" in page


def test_whom_a_revoked_host_knew_is_invited_by_mail_in_the_same_action(server: Post, keeper: Keeper) -> None:
    boss = somebody(keeper, "boss", role="administrator")
    boss.sign_in()
    who = somebody(keeper, email="alice@example.org")
    group = HostGroup.objects.create(name="web")
    host = Host.objects.create(name="web1", group=group, key=b"k" * 32, token_hash="h" * 64)
    Published.objects.create(host=host, person=who.person, file="f" * 64)
    data = {"action": "revoke", "_selected_action": host.pk, "sure": "yes", "reset": "on"}
    page = boss.post("/admin/directory/host/", data).content.decode()
    assert "the invitation is sent to alice@example.org" in page
    assert run() == ""
    assert ["invitation/" in text for text in server.texts()] == [False, True]
    assert "were removed by boss" in server.texts()[0]


# Reminders


def test_who_has_days_left_to_enrol_is_reminded_on_four_days_once_each(server: Post) -> None:
    # The end of a day in UTC, as `user add --deadline 2027-01-31` makes it.
    end = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=11)
    alice(deadline=end)
    before = end - timedelta(days=11)
    for hour in range(0, 11 * 24, 6):
        now = before + timedelta(hours=hour)
        for _ in range(2):  # the second one is another process's, which knows what the database does
            letters.remind(now)
            assert mail.run(settings.CONFIG, now) == ""
    subjects = [str(message["Subject"]) for message in server.taken]
    whole = "Your time to set up verification codes ends"
    assert subjects == [f"{whole} in 7 days", f"{whole} in 3 days", f"{whole} tomorrow", f"{whole} today"]


def test_a_reminder_has_no_link_with_power(server: Post) -> None:
    person = alice(deadline=timezone.now() + timedelta(days=2))
    people.invite("root", person)
    run()
    [text] = server.texts()
    assert re.findall(r"https?://\S+", text) == ["https://dir.example.org/"]


def test_nobody_is_reminded_who_need_not_be(server: Post, keeper: Keeper) -> None:
    soon = timezone.now() + timedelta(days=2)
    others: tuple[tuple[str, dict[str, Any]], ...] = (
        ("locked", {"locked": True}),
        ("gone", {"is_active": False}),
        ("exempt", {"exempt_until": soon}),
        ("silent", {"email": ""}),
        ("late", {"deadline": timezone.now() - timedelta(hours=1)}),
        ("never", {"deadline": None}),
        ("far", {"deadline": timezone.now() + timedelta(days=30)}),
    )
    for name, fields in others:
        people.add("root", name, **{"email": f"{name}@example.org", "deadline": soon, **fields})
    made, _ = enrolled(keeper, "done")
    people.set_fields("root", made, email="done@example.org", deadline=soon)
    assert run() == ""
    assert server.taken == []


def test_who_enrols_before_the_mail_server_is_back_is_not_reminded_any_more(server: Post, keeper: Keeper) -> None:
    person, _ = enrolled(keeper, "alice")
    person.authenticators.update(state="pending")
    people.set_fields("root", person, email="alice@example.org", deadline=timezone.now() + timedelta(days=2))
    letters.remind(timezone.now())
    person.authenticators.update(state="active")
    assert run() == ""
    assert server.taken == []


# Notices


def test_a_person_is_told_of_each_change_and_by_whom_it_was(server: Post, keeper: Keeper) -> None:
    who = somebody(keeper, email="alice@example.org")
    who.sign_in()
    who.scan("/authenticators/add/")
    who.finish("/authenticators/add/", label="tablet")
    second = who.person.authenticators.get(label="tablet")
    who.scan(f"/authenticators/{second.ident}/replace/")
    who.finish(f"/authenticators/{second.ident}/replace/", label="tablet")
    people.new_recovery_codes("alice", who.person)
    people.remove("alice", who.person, "tablet")
    people.remove("boss", who.person)
    assert run() == ""
    said = [text.partition(", on ")[0] for text in server.texts()]
    assert said == [
        'The authenticator "tablet" was set up',
        *(["New recovery codes were made for your account; earlier ones are void"] if len(said) == 6 else []),
        'The authenticator "tablet" was set up in the place of another one',
        "New recovery codes were made for your account; earlier ones are void",
        'The authenticator "tablet" was removed',
        "All authenticators and recovery codes of your account were removed by boss",
    ]
    assert who.key not in "".join(server.texts())


@pytest.mark.parametrize("way", ["command", "list", "portal", "removed"])
def test_the_former_address_is_told_when_there_is_another_one(server: Post, keeper: Keeper, way: str) -> None:
    """Who takes an account over changes the address first: what comes next would reach nobody else."""
    who = somebody(keeper, email="alice@example.org")
    boss = somebody(keeper, "boss", role="administrator")
    if way == "portal":
        boss.sign_in()
        data = {"name": "alice", "role": "user", "is_active": "on", "deadline": "", "email": "eve@example.org"}
        assert boss.post(f"/admin/directory/person/{who.person.pk}/change/", data).status_code == 302
    elif way == "list":
        lists.read(b"name,email\nalice,eve@example.org\n", "boss", dry_run=False)
    else:
        people.set_fields("boss", who.person, email="" if way == "removed" else "eve@example.org")
    # What changes nothing about the address is no news.
    people.set_fields("boss", Person.objects.get(name="alice"), display="Alice")
    assert run() == ""
    assert server.recipients == ["alice@example.org"]
    [message], [text] = server.taken, server.texts()
    assert message["Subject"] == "Your mail address for dir.example.org was changed"
    assert text.startswith("Mail for your account is no longer sent to this address: that was changed by boss, on ")
    assert "eve" not in text
    assert "tell your administrator at once" in text


def test_a_first_address_is_no_news_to_nobody(server: Post, keeper: Keeper) -> None:
    person, _ = enrolled(keeper, "alice")
    people.set_fields("root", person, email="alice@example.org")
    assert not Letter.objects.exists()


def test_nothing_is_kept_where_no_mail_is_sent(keeper: Keeper) -> None:
    person, _ = enrolled(keeper, "alice")
    people.set_fields("root", person, email="alice@example.org")
    people.set_fields("root", person, email="eve@example.org")
    people.remove("root", person)
    assert not Letter.objects.exists()


# What people could put into a mail


@pytest.mark.parametrize(
    "address",
    [
        "alice@example.org\nBcc: eve@example.org",
        "alice@example.org\r\nDATA",
        "alice@example.org, eve@example.org",
        "eve@evil.example>\r\nRCPT TO:<x@example.org",
        "alice@\u2028example.org",
    ],
)
def test_an_address_that_would_be_more_than_one_is_sent_nothing(server: Post, address: str) -> None:
    person = alice()
    # Past every check of a form or the API.
    Person.objects.filter(pk=person.pk).update(email=address)
    people.invite_by_mail("root", people.find("alice"), 7)
    assert run() != ""
    assert (server.taken, server.recipients) == ([], [])
    assert Letter.objects.get().given_up is not None


@pytest.mark.parametrize(
    "address", ["a b@example.org", "a@example.org\nBcc: x@example.org", "a@b@example.org", "a,b@c.de"]
)
def test_no_such_address_is_kept(address: str) -> None:
    with pytest.raises(UsageError):
        people.add("root", "alice", email=address)


def test_a_label_with_lines_in_it_is_one_line_of_the_text_and_no_header(server: Post) -> None:
    letters.notice(alice(), "web1\nBcc: eve@example.org", letters.ADDED, "x\r\nSubject: y")
    assert run() == ""
    [message] = server.taken
    assert message["Bcc"] is None
    assert message["Subject"] == "Your verification codes for dir.example.org were changed"
    assert server.texts()[0].startswith('The authenticator "x??Subject: y" was set up by web1?Bcc: eve@example.org, on')


# What goes wrong


def test_over_tls_from_the_first_byte(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(post, tls="implicit") as found:
        use(monkeypatch, found)
        people.invite_by_mail("root", alice())
        assert run() == ""
    assert len(post.taken) == 1


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_a_server_with_another_name_or_of_another_authority_is_told_nothing(
    post: Post, monkeypatch: pytest.MonkeyPatch, tls: str
) -> None:
    people_waiting = alice()
    with serving(post, "other.example.org", tls=tls) as found:
        use(monkeypatch, found)
        people.invite_by_mail("root", people_waiting)
        assert "its certificate is not good" in run()
        use(monkeypatch, replace(found, authority=""))
        assert "its certificate is not good" in run()
    assert (post.commands, post.signed_in, post.taken) == ([], [], [])
    assert "certificate" in Letter.objects.get().problem


def test_a_server_without_starttls_is_told_nothing(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(post, tls="none") as found:
        use(monkeypatch, replace(found, tls="starttls"))
        people.invite_by_mail("root", alice())
        assert "STARTTLS" in run()
    assert (post.commands, post.signed_in, post.taken) == ([], [], [])


def test_a_wrong_password_is_said_and_not_shown(
    server: Post, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("not-the-one-99\n", encoding="utf-8")
    people.invite_by_mail("root", alice())
    said = run()
    assert "does not take user and password (535)" in said
    assert server.taken == []
    shown = said + "".join(capfd.readouterr()) + repr(list(Letter.objects.values()))
    for secret in ("not-the-one-99", "bm90LXRoZS1vbmUtOTk"):
        assert secret not in shown


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o642])
def test_a_password_that_others_can_read_is_not_used(server: Post, tmp_path: Path, mode: int) -> None:
    (tmp_path / "password").chmod(mode)
    people.invite_by_mail("root", alice())
    assert "is not kept private" in run()
    assert (server.signed_in, server.taken) == ([], [])
    os.unlink(tmp_path / "password")
    assert "cannot be read" in run()


def test_what_the_server_does_not_take_now_is_tried_again_later(server: Post) -> None:
    people.invite_by_mail("root", alice())
    people.invite_by_mail("root", people.add("root", "bob", email="bob@example.org"))
    server.rcpt = "450 come again"
    assert "450 come again" in run()
    assert server.recipients == ["alice@example.org", "bob@example.org"]
    server.rcpt = "250 OK"
    run()
    assert server.taken == []  # not at once: it said later
    server.data = "451 busy"
    run(timedelta(minutes=6))
    assert server.taken == []
    server.data = "250 OK"
    assert run(timedelta(minutes=30)) == ""
    assert [message["To"] for message in server.taken] == ["alice@example.org", "bob@example.org"]
    assert not Letter.objects.exclude(problem="").exists()


@pytest.mark.parametrize(("verb", "answer"), [("rcpt", "550 no such user"), ("data", "554 no thanks")])
def test_what_the_server_never_takes_is_given_up_and_named_and_the_others_are_sent(
    server: Post, verb: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.invite_by_mail("root", alice())
    setattr(server, verb, answer)
    assert answer in run()
    setattr(server, verb, "250 OK")
    people.invite_by_mail("root", people.add("root", "bob", email="bob@example.org"))
    assert run(timedelta(days=1)) == ""
    assert [message["To"] for message in server.taken] == ["bob@example.org"]
    monkeypatch.setattr(config, "load", lambda: settings.CONFIG)
    [told] = doctor._mail()
    assert f"invitation to alice was given up ({answer})" in told


def test_a_server_that_says_nothing_holds_nobody_up_and_the_next_run_sends(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "SECONDS", 0.5)
    with socket.socket() as silent, serving(post) as found:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        use(monkeypatch, replace(found, port=silent.getsockname()[1]))
        people.invite_by_mail("root", alice())
        assert "does not answer in time" in run()
        monkeypatch.setattr(config, "load", lambda: settings.CONFIG)
        [told] = doctor._mail()
        assert "does not answer in time" in told
        assert "mails that wait: 1" in told
        use(monkeypatch, found)
        monkeypatch.setattr(mail, "SECONDS", 15.0)
        assert run() == ""
        assert list(doctor._mail()) == []
    assert len(post.taken) == 1
    people.invite_by_mail("root", people.find("alice"))
    assert "cannot be reached" in run()


def test_what_was_not_to_be_sent_for_days_is_given_up(server: Post) -> None:
    people.invite_by_mail("root", alice())
    server.rcpt = "450 come again"
    for day in range(5):
        run(timedelta(days=day))
    assert Letter.objects.get().given_up is not None
    server.rcpt = "250 OK"
    assert run(timedelta(days=6)) == ""
    assert server.taken == []


def test_a_letter_is_taken_up_by_one_sender() -> None:
    person, now = alice(), timezone.now()
    Letter.objects.create(person=person, kind="notice", address=person.email, created=now, due=now)
    first, second = Letter.objects.get(), Letter.objects.get()
    assert mail._take(first, now)
    assert not mail._take(second, now)


def test_a_test_says_whether_the_server_takes_it(server: Post) -> None:
    mail.test(settings.CONFIG, "root@example.org", timezone.now())
    assert server.texts()[0].startswith("Mail of this directory arrives here.")
    server.rcpt = "550 no such user"
    with pytest.raises(mail.MailError, match="550 no such user"):
        mail.test(settings.CONFIG, "nobody@example.org", timezone.now())
