"""The admin portal: Django's admin, opened by a code, with a dashboard in front."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib.admin import AdminSite
from django.db.models.base import ModelBase
from django.http import Http404
from django.shortcuts import redirect, resolve_url
from django.urls import path

from pam_totp.directory import figures
from pam_totp.directory.portal.exports import audit_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.template.response import TemplateResponse

# What Django's admin has and the user portal does: signing in and out, always with a code, and passwords.
_NOT_HERE = {"login", "logout", "password_change", "password_change_done"}


class Site(AdminSite):
    """Django's admin for the roles of the directory. Who is signed in has typed a code; there is no other way in."""

    site_title = index_title = "Administration"
    site_header = "pam-totp directory"
    site_url = "/"
    enable_nav_sidebar = False

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """The directory's own things only: Django's groups give no rights here, so nobody should see any."""
        models: list[Any] = [model_or_iterable] if isinstance(model_or_iterable, ModelBase) else model_or_iterable
        own = [model for model in models if model._meta.app_label == "directory"]  # noqa: SLF001  # documented by Django
        super().register(own, admin_class, **options)

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether somebody has a role that this portal is for."""
        return bool(request.user.is_authenticated and request.user.is_staff)

    def get_urls(self) -> list[Any]:
        """Django's, without its ways to sign in, and with the export of the audit trail."""
        export = path("audit.jsonl", self.admin_view(audit_lines), name="audit_lines")
        return [export, *(each for each in super().get_urls() if getattr(each, "name", None) not in _NOT_HERE)]

    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        """Django's, which knows who is let in; who is not is sent to the portal's sign-in, or sees no such page."""
        opened = super().admin_view(view, cacheable)

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **names: Any) -> Any:
            if self.has_permission(request):
                return opened(request, *args, **names)
            if request.user.is_authenticated:
                raise Http404
            return redirect(f"{resolve_url('portal:login')}?{urlencode({'next': request.path}, safe='/')}")

        return guarded

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The dashboard, and what there is to look at."""
        return super().index(request, {**(extra_context or {}), **figures.figures()})
