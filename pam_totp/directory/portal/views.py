"""The pages of the user portal. Each says whom it is for; what it changes, it changes by a POST with a CSRF token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import Http404
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from pam_totp.directory import people
from pam_totp.directory.portal import enrolment, factors, logins, passwords, single, visit
from pam_totp.directory.portal.forms import AccessibleForm, CodeForm, LoginForm, NewAuthenticatorForm, PasswordForm
from pam_totp.directory.portal.pages import address, after, problem
from pam_totp.directory.portal.rules import Rule, open_to

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from pam_totp.directory.models import Authenticator, Person

ON_OVERVIEW = 5
ON_PAGE = 50
# After so many wrong codes a new authenticator's page begins with another key.
MOST_TRIES = 5

form_page = require_http_methods(["GET", "HEAD", "POST"])
hidden = sensitive_post_parameters("password", "again", "code", "key")


# Signing in


@open_to(Rule.ANYBODY)
@form_page
@hidden
def login(request: HttpRequest) -> HttpResponse:
    """Name and password. What is wrong with them is not told, nor whether there is such a person."""
    if request.user.is_authenticated:
        return redirect(after(request))
    form = LoginForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        name, password = form.cleaned_data["name"], form.cleaned_data["password"]
        person, refusal = passwords.check(name, password, address(request))
        if person is not None:
            destination = after(request)
            visit.begin(request, person, destination)
            return redirect("portal:code" if person.enrolled else "portal:enrol")
        form.add_error(None, refusal)
    destination = request.GET.get("next", "")
    return render(request, "portal/login.html", {"form": form, "provider": single.name(), "next": destination})


@open_to(Rule.HALFWAY)
@form_page
@hidden
def code(request: HttpRequest) -> HttpResponse:
    """The code, after which the session begins."""
    person, mark = visit.must_be_halfway(request)
    if not person.enrolled:
        return redirect("portal:enrol")
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        verdict = factors.check(person, form.cleaned_data["code"], address(request))
        if verdict.accepted:
            visit.sign_in(request, person)
            factors.tell(person, "login", verdict.reason)
            if verdict.message:
                messages.warning(request, verdict.message)
            return redirect(mark.destination)
        form.add_error("code", verdict.message)
    return render(request, "portal/code.html", {"form": form})


@open_to(Rule.ANYBODY)
@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    """The end of the session, or of what was halfway."""
    visit.end(request)
    # The session there goes on, and whoever sits down next would sign in with it.
    return redirect("portal:provider_end" if single.name() else "portal:login")


@open_to(Rule.ANYBODY)
@form_page
@hidden
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """The link in an invitation. Looking at it spends nothing: programs that look at mail open links, too."""
    found = people.invited(token, timezone.now())
    if found is None:
        text = "It was used already, its time is over, or it was replaced by a newer one. Ask your administrator."
        return problem(request, "This link is not good any more", text, 404)
    if request.method == "POST":
        visit.begin(request, found.person, reverse("portal:home"), invitation=found.pk)
        return redirect("portal:enrol")
    return render(request, "portal/invitation.html", {"person": found.person})


@open_to(Rule.HALFWAY)
@form_page
@hidden
def enrol(request: HttpRequest) -> HttpResponse:
    """The first authenticator of somebody who has none."""
    person, mark = visit.must_be_halfway(request)
    if person.enrolled:
        # A code is asked of whoever has an authenticator, whatever else they have shown.
        return redirect("portal:code")
    if not enrolment.may(person, mark.invitation):
        visit.end(request)
        text = "Ask your administrator for an invitation: a password alone does not open this here."
        return problem(request, "You need an invitation", text, 403)
    return new_authenticator(request, person, mark.invitation, None)


# Signed in


@open_to(Rule.SIGNED_IN)
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """What one has."""
    person = visit.person(request)
    authenticators = factors.authenticators(person)
    shown = {
        "here": "home",
        "authenticators": authenticators,
        "room": len(authenticators) < enrolment.MOST,
        "recovery_left": factors.recovery_left(person),
        "logins": logins.latest(person, ON_OVERVIEW),
        "password_here": passwords.kept_here(person),
    }
    return render(request, "portal/home.html", shown)


@open_to(Rule.SIGNED_IN)
@require_safe
def all_logins(request: HttpRequest) -> HttpResponse:
    """One's latest logins, on all hosts."""
    return render(
        request, "portal/logins.html", {"here": "logins", "logins": logins.latest(visit.person(request), ON_PAGE)}
    )


@open_to(Rule.SIGNED_IN)
@form_page
@hidden
def confirm(request: HttpRequest) -> HttpResponse:
    """A code again, before something that matters."""
    if request.method == "GET" and visit.confirmed(request):
        return redirect(after(request))
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and right(request, form):
        return redirect(after(request))
    return ask(request, form, "Type a code again", "What comes next needs a fresh code.", "Continue")


@open_to(Rule.SIGNED_IN)
@form_page
@hidden
def add(request: HttpRequest) -> HttpResponse:
    """One more authenticator."""
    if not visit.confirmed(request):
        return to_confirm(request)
    if len(factors.authenticators(visit.person(request))) >= enrolment.MOST:
        messages.warning(request, f"You have {enrolment.MOST} authenticators, which is the most. Remove one first.")
        return redirect("portal:home")
    return new_authenticator(request, visit.person(request), None, None)


@open_to(Rule.SIGNED_IN)
@form_page
@hidden
def replace(request: HttpRequest, ident: str) -> HttpResponse:
    """A new authenticator in the place of one; until it is confirmed, the old one works."""
    old = own(request, ident)
    if not visit.confirmed(request):
        return to_confirm(request)
    return new_authenticator(request, visit.person(request), None, old)


@open_to(Rule.SIGNED_IN)
@form_page
@hidden
def remove(request: HttpRequest, ident: str) -> HttpResponse:
    """Take an authenticator away, but for the last one."""
    old = own(request, ident)
    if len(factors.authenticators(visit.person(request))) == 1:
        text = "It is your only one. Replace it, or add another one first; your administrator can reset it."
        return problem(request, f"“{old.label}” cannot be removed", text, 409)
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and right(request, form):
        if enrolment.remove(visit.person(request), old):
            messages.success(request, f"“{old.label}” is removed: its codes are not accepted any more.")
        return redirect("portal:home")
    text = "Its codes are not accepted any more, on any host. Delete it from the app afterwards."
    return ask(request, form, f"Remove “{old.label}”", text, "Remove", danger=True)


@open_to(Rule.SIGNED_IN)
@form_page
@hidden
def recovery(request: HttpRequest) -> HttpResponse:
    """New recovery codes, shown in this answer and never again."""
    person = visit.person(request)
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and right(request, form):
        return render(request, "portal/recovery.html", {"codes": people.new_recovery_codes(person.name, person)})
    text = "Ten new ones take the place of all earlier ones."
    return ask(request, form, "New recovery codes", text, "Make new ones")


@open_to(Rule.SIGNED_IN)
@form_page
@hidden
def password(request: HttpRequest) -> HttpResponse:
    """Another password, or a first one; every other session of the person ends."""
    person = visit.person(request)
    if not passwords.kept_here(person):
        raise Http404
    if not visit.confirmed(request):
        return to_confirm(request)
    form = PasswordForm(request.POST or None, person=person)
    if request.method == "POST" and form.is_valid():
        passwords.change(person, form.cleaned_data["password"])
        update_session_auth_hash(request, person)
        messages.success(request, "The password is changed. Sessions in other browsers have ended.")
        return redirect("portal:home")
    text = "It is for this portal. You type it before the code."
    return ask(request, form, "Choose a password", text, "Change it")


# What pages share


def new_authenticator(
    request: HttpRequest, person: Person, invitation: int | None, replaces: Authenticator | None
) -> HttpResponse:
    """Show a new key, and keep it with its first right code. Each visit of the page has a key of its own.

    Somebody who knows the password and looks at a key before its owner does gets nothing by it: the owner is shown
    another one.
    """
    form = NewAuthenticatorForm(request.POST or None)
    key = visit.key(request)
    usable = key is not None and enrolment.belongs(key, replaces) and "key" not in form.errors
    if request.method != "POST" or key is None or not usable:
        if request.method == "POST":
            messages.warning(request, "That page was too old: here is a new key. Scan it anew.")
        return _show_new_key(request, person, replaces)
    if form.is_valid():
        answer = enrolment.finish(
            person,
            key,
            form.cleaned_data["label"],
            form.cleaned_data["code"],
            address(request),
            invited=invitation,
            replaces=replaces,
            signed_in=request.user.is_authenticated,
        )
        if answer.accepted:
            return _enrolled(request, person, form.cleaned_data["label"])
        if answer.reason == "closed":
            visit.keep_key(request, None)
            return problem(request, "This is not open to you any more", answer.message, 403)
        if answer.reason == "label":
            form.add_error("label", answer.message)
            return _show_key(request, person, form, str(form.data.get("key", "")))
        if key.tries + 1 >= MOST_TRIES:
            messages.warning(request, "Too many wrong codes for that key: here is a new one. Scan it anew.")
            return _show_new_key(request, person, replaces)
        visit.keep_key(request, key.again())
        form.add_error("code", answer.message)
    return _show_key(request, person, form, str(form.data.get("key", "")))


def _enrolled(request: HttpRequest, person: Person, label: str) -> HttpResponse:
    visit.keep_key(request, None)
    visit.sign_in(request, person)
    if factors.recovery_left(person):
        messages.success(request, f"“{label}” is set up.")
        return redirect("portal:home")
    return render(request, "portal/recovery.html", {"codes": people.new_recovery_codes(person.name, person)})


def _show_new_key(request: HttpRequest, person: Person, replaces: Authenticator | None) -> HttpResponse:
    key, text = enrolment.new_key(person, replaces)
    visit.keep_key(request, key)
    form = NewAuthenticatorForm(initial={"key": text, "label": enrolment.free_label(person, replaces)})
    return _show_key(request, person, form, text)


def _show_key(request: HttpRequest, person: Person, form: NewAuthenticatorForm, text: str) -> HttpResponse:
    shown = {"form": form, "key": enrolment.grouped(text), "qr": enrolment.picture(person, text)}
    if not request.user.is_authenticated:
        shown["days_left"] = enrolment.days_left(person, timezone.now())
    return render(request, "portal/enrol.html", shown)


def own(request: HttpRequest, ident: str) -> Authenticator:
    """One of the person's own authenticators. Raises Http404 for anybody else's, as for none."""
    for each in factors.authenticators(visit.person(request)):
        if each.ident == ident:
            return each
    raise Http404


def right(request: HttpRequest, form: CodeForm) -> bool:
    """Whether the code in a form is right; the form says why where it is not."""
    verdict = factors.check(visit.person(request), form.cleaned_data["code"], address(request))
    if verdict.accepted:
        visit.confirm(request)
        return True
    form.add_error("code", verdict.message)
    return False


def ask(
    request: HttpRequest, form: AccessibleForm, heading: str, text: str, button: str, *, danger: bool = False
) -> HttpResponse:
    """A page that asks for a code, and says what for."""
    shown = {"form": form, "heading": heading, "text": text, "button": button, "danger": danger}
    return render(request, "portal/confirm.html", {**shown, "back": reverse("portal:home")})


def to_confirm(request: HttpRequest) -> HttpResponse:
    """Ask for a code, and come back."""
    return redirect(f"{reverse('portal:confirm')}?next={request.path}")
