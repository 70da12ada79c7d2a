"""A directory that serves over TLS, and a browser. For all tests here there is one of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.directory.browser.site import Browser, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django.plugin import DjangoDbBlocker


@pytest.fixture(scope="session")
def site(django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The directory, with people and hosts in it."""
    with django_db_blocker.unblock(), Site(Path(tmp_path_factory.mktemp("site"))) as running:
        yield running


@pytest.fixture(scope="session")
def browser(site: Site) -> Iterator[Browser]:
    """Chromium."""
    with Browser(site) as running:
        yield running
