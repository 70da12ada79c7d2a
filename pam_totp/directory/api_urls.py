"""The paths of the API for hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.urls import path, register_converter

from pam_totp.directory import api

if TYPE_CHECKING:
    from django.urls import URLPattern


class _Hex:
    """Hexadecimal digits, as they stand."""

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class Ident(_Hex):
    """An id."""

    regex = "[0-9a-f]{32}"


class Hash(_Hex):
    """The name of an object."""

    regex = "[0-9a-f]{64}"


register_converter(Ident, "ident")
register_converter(Hash, "hash")

urlpatterns: list[URLPattern] = [
    path("api/v1/ca", api.authority, name="ca"),
    path("api/v1/join", api.join, name="join"),
    path("api/v1/leave", api.leave, name="leave"),
    path("api/v1/claim", api.claim, name="claim"),
    path("api/v1/events", api.events, name="events"),
    path("tree/<ident:ident>/manifest", api.manifest, name="manifest"),
    path("tree/<ident:ident>/objects/<hash:name>", api.published, name="object"),
]
