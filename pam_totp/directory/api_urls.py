"""The paths of both APIs: for hosts, and for administrators' programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.urls import path, register_converter

from pam_totp.directory import admin_api, api

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
    path("api/v1/line", api.line, name="line"),
    path("api/v1/events", api.events, name="events"),
    path("tree/<ident:ident>/manifest", api.manifest, name="manifest"),
    path("tree/<ident:ident>/objects/<hash:name>", api.published, name="object"),
    path("api/v1/people", admin_api.persons, name="people"),
    path("api/v1/people/<str:name>", admin_api.person, name="person"),
    path("api/v1/people/<str:name>/invite", admin_api.invite, name="invite"),
    path("api/v1/people/<str:name>/reset", admin_api.reset, name="reset"),
    path("api/v1/invitations", admin_api.invitations, name="invitations"),
    path("api/v1/groups", admin_api.all_groups, name="groups"),
    path("api/v1/groups/<str:name>", admin_api.group, name="group"),
    path("api/v1/host-groups", admin_api.all_host_groups, name="host-groups"),
    path("api/v1/host-groups/<str:name>", admin_api.host_group, name="host-group"),
    path("api/v1/hosts", admin_api.all_hosts, name="hosts"),
    path("api/v1/hosts/<ident:ident>", admin_api.host, name="host"),
    path("api/v1/hosts/<ident:ident>/revoke", admin_api.revoke, name="revoke"),
    path("api/v1/policies/<str:group>", admin_api.policy, name="policy"),
    path("api/v1/tokens", admin_api.tokens, name="tokens"),
    path("api/v1/tokens/<str:name>", admin_api.token, name="token"),
    path("api/v1/join-tokens", admin_api.join_tokens, name="join-tokens"),
    path("api/v1/status", admin_api.status, name="status"),
    path("api/v1/audit", admin_api.trail, name="audit"),
    path("api/v1/logins", admin_api.logins, name="logins"),
]
