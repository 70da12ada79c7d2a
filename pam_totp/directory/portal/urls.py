"""The pages of the user portal."""

from __future__ import annotations

from django.urls import path

from pam_totp.directory.portal import single, views

app_name = "portal"
urlpatterns = [
    path("", views.home, name="home"),
    path("login/", views.login, name="login"),
    path("login/code/", views.code, name="code"),
    path("login/provider/", single.begin, name="provider"),
    path("login/provider/back/", single.back, name="provider_back"),
    path("login/provider/end/", single.end, name="provider_end"),
    path("login/provider/ended/", single.ended, name="provider_ended"),
    path("logout/", views.logout, name="logout"),
    path("invitation/<str:token>/", views.invitation, name="invitation"),
    path("enrol/", views.enrol, name="enrol"),
    path("confirm/", views.confirm, name="confirm"),
    path("logins/", views.all_logins, name="logins"),
    path("password/", views.password, name="password"),
    path("recovery/", views.recovery, name="recovery"),
    path("authenticators/add/", views.add, name="add"),
    path("authenticators/<slug:ident>/replace/", views.replace, name="replace"),
    path("authenticators/<slug:ident>/remove/", views.remove, name="remove"),
]
