"""A visit of the portal: from a password or an invitation, over a code, to a session. And the key that it shows.

Django's own session of a person begins with a right code, or with a provider's word that a second factor was used there
(`single`). Before that the session says only who is halfway, and for a few minutes. Each step gives the browser a new
session identifier, so one that was known to somebody else before the sign-in is worth nothing after it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib import auth
from django.contrib.sessions.models import Session
from django.core.exceptions import PermissionDenied
from django.utils.crypto import constant_time_compare, salted_hmac

from pam_totp.directory.models import Person
from pam_totp.host import clock

if TYPE_CHECKING:
    from django.http import HttpRequest

# Seconds from the password, or from the invitation, to the right code: long enough to install an app.
HALFWAY_FOR = 900
# Seconds for which a code counts as just typed, where one is asked for again.
LATELY = 300
BACKEND = "django.contrib.auth.backends.ModelBackend"
_HALFWAY = "halfway"
_KEY = "key"
_THERE = "there"
CODE_AT = "code_at"
BEGAN = "began"


@dataclass(frozen=True)
class Halfway:
    """Who has shown the first factor. ``invitation`` is the one that it was, or None for a password.

    A provider's word counts as a password.

    ``destination`` is where the sign-in leads to, a path of this host.
    """

    person: int
    began: int
    hash: str
    destination: str
    invitation: int | None


@dataclass(frozen=True)
class Key:
    """A new authenticator's key, until its first right code: sealed by the keeper, bound to this visit.

    ``replaces`` is the id of the authenticator whose place it is to take, or empty.
    """

    ident: str
    sealed: str
    made: int
    tries: int
    replaces: str

    def again(self) -> Key:
        """The same key after a wrong code."""
        return replace(self, tries=self.tries + 1)


def begin(request: HttpRequest, person: Person, destination: str, invitation: int | None = None) -> None:
    """Note that a person has shown the first factor; what the session held before is gone."""
    request.session.flush()
    mark = Halfway(person.pk, int(clock.now().wall), person.get_session_auth_hash(), destination, invitation)
    request.session[_HALFWAY] = asdict(mark)


def halfway(request: HttpRequest) -> tuple[Person, Halfway] | None:
    """Who is halfway; None where nobody is, any more. A changed password or a locked account ends it."""
    found = request.session.get(_HALFWAY)
    if found is None:
        return None
    mark = Halfway(**found)
    if not 0 <= clock.now().wall - mark.began < HALFWAY_FOR:
        return None
    person = Person.objects.filter(pk=mark.person, is_active=True).first()
    if person is None or not constant_time_compare(mark.hash, person.get_session_auth_hash()):
        return None
    return None if ended_there(request) else (person, mark)


def must_be_halfway(request: HttpRequest) -> tuple[Person, Halfway]:
    """The same, on a page that is for nobody else. Raises PermissionDenied."""
    found = halfway(request)
    if found is None:
        raise PermissionDenied
    return found


def person(request: HttpRequest) -> Person:
    """Who is signed in, on a page that is for nobody else. Raises PermissionDenied."""
    if not isinstance(request.user, Person):
        raise PermissionDenied
    return request.user


def sign_in(request: HttpRequest, person: Person, *, typed: bool = True) -> None:
    """Begin a session, after a second factor and never else. The identifier is a new one.

    ``typed``: it was a code of ours. After another one, what matters asks for a code of ours all the same.
    """
    there = request.session.get(_THERE)
    request.session.flush()
    if there is not None:
        request.session[_THERE] = there
    auth.login(request, person, backend=BACKEND)
    request.session[BEGAN] = clock.now().wall
    request.session.clear_expired()  # nobody else does
    if typed:
        confirm(request)


def holds(request: HttpRequest) -> bool:
    """Whether a session is still good: not of somebody who is locked, nor from before a reset, nor ended elsewhere."""
    found = person(request)
    began = request.session.get(BEGAN, 0)
    reset = found.forget_before is not None and began <= found.forget_before.timestamp()
    return not (found.locked or reset or ended_there(request))


# Sessions that began at a provider end with the one there. No session is looked for when that is told: a note stays for
# as long as any session of before could, and each such session looks for it. A note is a session that nobody is signed
# in to, so that it goes with the old ones.


def began_there(request: HttpRequest, marks: list[str]) -> None:
    """Note what tells the session at the provider by which this one, or what is halfway, begins."""
    request.session[_THERE] = [clock.now().wall, [note_of(each) for each in marks]]


def end_there(mark: str) -> None:
    """End what began before now with a session that is told by this."""
    Session.objects.update_or_create(
        session_key=note_of(mark), defaults={"expire_date": _noted_until(clock.now().wall)}
    )


def ended_there(request: HttpRequest) -> bool:
    """Whether that by which this session began has ended since."""
    began, notes = request.session.get(_THERE, (0.0, []))
    if not notes:
        return False
    return Session.objects.filter(session_key__in=notes, expire_date__gte=_noted_until(began)).exists()


def note_of(text: str) -> str:
    """The key of a note, which nobody can send as that of a session."""
    return str(salted_hmac(__name__, text, algorithm="sha256").hexdigest()[:40])


def _noted_until(wall: float) -> datetime:
    return datetime.fromtimestamp(wall, UTC) + timedelta(seconds=2 * settings.SESSION_COOKIE_AGE)


def confirm(request: HttpRequest) -> None:
    """Note that a right code was typed now."""
    request.session[CODE_AT] = int(clock.now().wall)


def confirmed(request: HttpRequest) -> bool:
    """Whether a right code was typed lately in this session."""
    at = request.session.get(CODE_AT)
    return at is not None and 0 <= clock.now().wall - at < LATELY


def end(request: HttpRequest) -> None:
    """End the session, and what was halfway."""
    auth.logout(request)


def keep_key(request: HttpRequest, key: Key | None) -> None:
    """Hold the key that this visit shows, in the place of any other; None: hold none."""
    if key is None:
        request.session.pop(_KEY, None)
    else:
        request.session[_KEY] = asdict(key)


def key(request: HttpRequest) -> Key | None:
    """The key that this visit shows; None where there is none, or its time is over."""
    found = request.session.get(_KEY)
    if found is None:
        return None
    kept = Key(**found)
    return kept if 0 <= clock.now().wall - kept.made < HALFWAY_FOR else None
