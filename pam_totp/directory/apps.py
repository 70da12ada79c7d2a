"""The app, as Django knows it."""

from __future__ import annotations

from django.apps import AppConfig


class DirectoryConfig(AppConfig):
    """The app ``directory``."""

    name = "pam_totp.directory"
    label = "directory"
    verbose_name = "Directory"

    def ready(self) -> None:
        """Have changes reach the hosts, whoever makes them."""
        from pam_totp.directory import changes

        changes.watch()
