"""Who may open a page: each view carries its rule, and a view without one is opened to nobody.

A session of Django's is made only after a second factor (`visit.sign_in`), so to be signed in is to have shown one.
"""

from __future__ import annotations

import logging
from enum import Enum
from functools import wraps
from typing import TYPE_CHECKING

from django.shortcuts import redirect, render
from django.utils.cache import add_never_cache_headers

from pam_totp.directory.portal import visit
from pam_totp.errors import KeeperError

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

    View = Callable[..., HttpResponse]


class Rule(Enum):
    """Whom a page is for."""

    ANYBODY = "anybody"
    HALFWAY = "halfway"  # who has shown a password, an invitation or a provider's word, and no code yet
    SIGNED_IN = "signed-in"


def _answer(view: View, request: HttpRequest, args: tuple[object, ...], names: dict[str, object]) -> HttpResponse:
    try:
        return view(request, *args, **names)
    except KeeperError as error:
        logging.getLogger(__name__).warning("%s", error)
        text = "Nothing was changed. Try again later, or tell your administrator."
        shown = {"heading": "This cannot be done now", "text": text}
        return render(request, "portal/problem.html", shown, status=503)


def open_to(rule: Rule) -> Callable[[View], View]:
    """Open a view to those whom the rule names, and send everybody else to the beginning. No page is ever cached."""

    def wrap(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: object, **names: object) -> HttpResponse:
            if rule is Rule.SIGNED_IN and not request.user.is_authenticated:
                response: HttpResponse = redirect("portal:login")
            elif rule is Rule.HALFWAY and visit.halfway(request) is None:
                response = redirect("portal:home" if request.user.is_authenticated else "portal:login")
            else:
                response = _answer(view, request, args, names)
            add_never_cache_headers(response)
            return response

        guarded.rule = rule  # type: ignore[attr-defined]  # read by Guard, and by the test of all pages
        return guarded

    return wrap
