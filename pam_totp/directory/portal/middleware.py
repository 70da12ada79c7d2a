"""What every answer carries, and what no page may go without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from pam_totp.directory.portal import visit

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

_COMMON = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
# The QR code is a part of the page, the icon a file.
PORTAL_POLICY = f"{_COMMON}; img-src 'self'"
# Django's admin has scripts of its own in files, and asks the server for its lists of choices.
ADMIN_POLICY = f"{_COMMON}; img-src 'self' data:; script-src 'self'; connect-src 'self'; font-src 'self'"


class Guard:
    """What is inline is forbidden, a page without a rule is not opened, and a session ends when it should."""

    def __init__(self, answer: Callable[[HttpRequest], HttpResponse]) -> None:
        self._answer = answer

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer, and add the headers. A session that does not hold any more ends first."""
        if request.user.is_authenticated and not visit.holds(request):
            visit.end(request)
        response = self._answer(request)
        match = request.resolver_match
        admin = match is not None and "admin" in match.namespaces
        response.headers["Content-Security-Policy"] = ADMIN_POLICY if admin else PORTAL_POLICY
        response.headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: object, names: object
    ) -> None:
        """Refuse a page of the portal that says not whom it is for. Raises ImproperlyConfigured."""
        match = request.resolver_match
        if match is not None and "portal" in match.namespaces and not hasattr(view, "rule"):
            raise ImproperlyConfigured(f"{match.view_name} has no rule: open it with open_to")


def names(_: HttpRequest) -> dict[str, object]:
    """What every page calls this directory, and whether it keeps passwords itself."""
    return {
        "directory_name": settings.CONFIG.issuer or settings.CONFIG.name,
        "passwords_here": settings.CONFIG.passwords == "local",
    }
