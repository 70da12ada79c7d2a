"""What the web process runs."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "pam_totp.directory.settings"
application = get_asgi_application()
