"""Signing in at an OpenID Connect provider: to it, back from it, and out again. Off without [oidc] in directory.toml.

The provider says who somebody is, and nothing else: who that may be, and with which role, is in the database here.
Its word stands for the password; for the code, too, only where the settings say how it tells of a second factor.

What is waited for (state, nonce, PKCE's verifier) is in a signed cookie of its own, which the browser also sends when
it comes back from another site. That of the session it does not: hence the page in between, which is of this site.

A session that ended there ends here, where the provider tells of it (OpenID Connect Back-Channel Logout 1.0).
"""

from __future__ import annotations

import logging
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.sessions.models import Session
from django.core import signing
from django.db import IntegrityError, transaction
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from pam_totp.directory import oidc
from pam_totp.directory.models import Person
from pam_totp.directory.portal import factors, passwords, visit
from pam_totp.directory.portal.pages import address, after, problem
from pam_totp.directory.portal.rules import Rule, open_to
from pam_totp.directory.throttle import Throttle

if TYPE_CHECKING:
    from django.http import HttpRequest

COOKIE = "__Host-provider"
# Seconds for the way to the provider and back.
AWAY_FOR = 600
_SALT = "pam_totp.directory.portal.single"
# Of one network: each may ask the provider, and wait for it.
_steps = Throttle(120, 60.0)
_log = logging.getLogger(__name__)


def name() -> str:
    """What the provider is called; empty where there is none."""
    return oidc.provider(settings.CONFIG.oidc).name if settings.CONFIG.oidc.issuer else ""


@open_to(Rule.ANYBODY)
@require_safe
def begin(request: HttpRequest) -> HttpResponse:
    """The way to the provider."""
    provider = _provider()
    if request.user.is_authenticated:
        return redirect(after(request))
    if _steps.count(passwords.network(address(request))):
        return _too_many(request)
    mark = {each: secrets.token_urlsafe(32) for each in ("state", "nonce", "verifier")}
    try:
        place = provider.authorization(_back(), mark["state"], mark["nonce"], mark["verifier"])
    except oidc.ProviderError as error:
        return _refused(request, str(error))
    response = redirect(place)
    response.set_cookie(
        COOKIE,
        signing.dumps({**mark, "next": after(request)}, salt=_SALT),
        max_age=AWAY_FOR,
        secure=True,
        httponly=True,
        samesite="Lax",
    )
    return response


@open_to(Rule.ANYBODY)
@require_safe
def back(request: HttpRequest) -> HttpResponse:
    """The way back. What went wrong stands in the log; the person is told what the person can do about it."""
    provider = _provider()
    if _steps.count(passwords.network(address(request))):
        return _too_many(request)
    try:
        mark = _mark(request)
        response = _arrived(request, provider, mark, _claims(request, provider, mark))
    except oidc.ProviderError as error:
        response = _refused(request, str(error))
    response.delete_cookie(COOKIE, samesite="Lax")
    return response


@open_to(Rule.ANYBODY)
@require_safe
def end(request: HttpRequest) -> HttpResponse:
    """After signing out here: the way to sign out there."""
    provider = _provider()
    if request.user.is_authenticated:
        return redirect("portal:home")
    place = provider.end_of_session(settings.CONFIG.url + reverse("portal:login"))
    return render(request, "portal/signed_out.html", {"provider": provider.name, "end": place})


@open_to(Rule.ANYBODY)
@csrf_exempt  # the provider asks, not a browser; what it sends is signed
@require_POST
def ended(request: HttpRequest) -> HttpResponse:
    """The provider tells that a session there, or all of somebody's, has ended."""
    provider = _provider()
    if _steps.count(passwords.network(address(request))):
        return HttpResponse(status=429)
    try:
        claims = provider.ended(request.POST.get("logout_token", ""))
        with transaction.atomic():
            _only_once(f"logout {claims['jti']}")
            visit.end_there(oidc.marks(claims)[0])
    except oidc.ProviderError as error:
        _log.warning("logout at %s refused: %s", provider.name, error)
        return JsonResponse({"error": "invalid_request"}, status=400)
    _log.info("a session at %s has ended, and so has what began with it here", provider.name)
    return HttpResponse()


def _provider() -> oidc.Provider:
    if not settings.CONFIG.oidc.issuer:
        raise Http404
    return oidc.provider(settings.CONFIG.oidc)


def _back() -> str:
    return str(settings.CONFIG.url + reverse("portal:provider_back"))


def _mark(request: HttpRequest) -> dict[str, str]:
    """What this browser waits for. Raises ProviderError."""
    try:
        mark: dict[str, str] = signing.loads(request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=AWAY_FOR)
    except signing.BadSignature:
        raise oidc.ProviderError("nobody went to the provider from that browser just now") from None
    if not constant_time_compare(request.GET.get("state", ""), mark["state"]):
        raise oidc.ProviderError("the answer has the state of another visit")
    return mark


def _claims(request: HttpRequest, provider: oidc.Provider, mark: dict[str, str]) -> dict[str, Any]:
    """What the provider says of who is back. Raises ProviderError."""
    if request.GET.get("iss", provider.settings.issuer) != provider.settings.issuer:
        raise oidc.ProviderError("the answer is of another issuer")
    if "error" in request.GET:
        raise oidc.ProviderError(f"the provider says {request.GET['error'][:64]!r}")
    token = provider.token(request.GET.get("code", ""), _back(), mark["verifier"])
    claims = provider.claims(token, mark["nonce"])
    _only_once(mark["state"])
    return claims


def _only_once(what: str) -> None:
    """Use a visit's state or a logout token up, for longer than it is good. Raises ProviderError.

    It is kept as a session that nobody is signed in to, so that it goes with the old ones. A stranger makes none: a
    good token comes first.
    """
    ended = timezone.now() + timedelta(seconds=2 * AWAY_FOR)
    try:
        with transaction.atomic():
            Session.objects.create(session_key=visit.note_of(what), expire_date=ended)
    except IntegrityError:
        raise oidc.ProviderError("it was used already") from None


def _arrived(
    request: HttpRequest, provider: oidc.Provider, mark: dict[str, str], claims: dict[str, Any]
) -> HttpResponse:
    """Let somebody in, or ask for a code, or say why not. Raises ProviderError."""
    called = provider.person(claims)
    person = Person.objects.filter(name=called, is_active=True).first()
    if person is None:
        _log.warning("sign-in at %s refused: there is no person %r here", provider.name, called)
        text = "Your administrator can add you. What you are called is decided there."
        return problem(request, f"You are known at {provider.name}, and not here", text, 403)
    if person.locked:
        factors.tell(person, "refused", "locked")
        return problem(request, "This account is locked", factors.LOCKED, 403)
    if provider.tells_second_factors and not provider.second_factor(claims):
        factors.tell(person, "refused", "no-second-factor")
        _log.warning("sign-in of %s at %s refused: no second factor was used there", person, provider.name)
        text = f"{provider.name} does not say that you used one. Use one there, or sign in with your password here."
        return problem(request, "A second factor is needed", text, 403)
    if provider.tells_second_factors and person.enrolled:
        visit.sign_in(request, person, typed=False)
        visit.began_there(request, oidc.marks(claims))
        factors.tell(person, "login", "provider")
        place = mark["next"]
    else:
        visit.begin(request, person, mark["next"])
        visit.began_there(request, oidc.marks(claims))
        place = reverse("portal:code" if person.enrolled else "portal:enrol")
    return render(request, "portal/onward.html", {"place": place})


def _too_many(request: HttpRequest) -> HttpResponse:
    return problem(request, "Too many tries", "Try again in a minute.", 429)


def _refused(request: HttpRequest, why: str) -> HttpResponse:
    _log.warning("sign-in at %s refused: %s", name(), why)
    text = "Try again, or sign in with your password here. Your administrator finds the reason in the log."
    return problem(request, "That sign-in did not work", text, 403)
