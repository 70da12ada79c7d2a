"""The portals, as Django knows them."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin import apps


class PortalConfig(AppConfig):
    """The app ``portal``."""

    name = "pam_totp.directory.portal"
    label = "portal"
    verbose_name = "Portal"


class OurAdminConfig(apps.AdminConfig):
    """Django's admin, with a site that a code opens."""

    default = False
    default_site = "pam_totp.directory.portal.site.Site"
