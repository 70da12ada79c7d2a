"""What views have in common: where to go next, where somebody is, and a page that says what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


def problem(request: HttpRequest, heading: str, text: str, status: int) -> HttpResponse:
    """A page that says what is wrong, and what to do."""
    return render(request, "portal/problem.html", {"heading": heading, "text": text}, status=status)


def after(request: HttpRequest) -> str:
    """Where to go next: a page of this very host, or the overview."""
    wanted = request.GET.get("next", "")
    here = {request.get_host()}
    if wanted.startswith("/") and url_has_allowed_host_and_scheme(wanted, here, require_https=True):
        return wanted
    return reverse("portal:home")


def address(request: HttpRequest) -> str:
    """Where the browser is. What a header says of that anybody can write, so none is believed."""
    return str(request.META.get("REMOTE_ADDR", ""))
