"""The pictures in docs show what happens today: `./run demo --pictures` draws them anew."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.lab import picture, recording
from tests.lab.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.picture import Window
    from tests.lab.roots import Root

NAMES = tuple(recording.DESCRIPTIONS)


@pytest.fixture(scope="module")
def recorded(installed_root: Root) -> Iterator[dict[str, list[Window]]]:
    with Machine(installed_root) as machine:
        yield recording.record(machine)


def kept(name: str) -> str:
    return recording.path(name).read_text(encoding="utf-8")


def constant(windows: list[Window]) -> list[tuple[str, str]]:
    return [(window.title, recording.constant(window.screen).strip()) for window in windows]


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_shows_what_a_session_shows_today(recorded: dict[str, list[Window]], name: str) -> None:
    today = picture.draw(recording.DESCRIPTIONS[name], recorded[name])
    assert constant(picture.windows(today)) == constant(picture.windows(kept(name)))


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_drawn_as_pictures_are_drawn_today(name: str) -> None:
    assert picture.draw(recording.DESCRIPTIONS[name], picture.windows(kept(name))) == kept(name)


@pytest.mark.parametrize("name", ["enrolment", "first-login"])
def test_a_phone_can_scan_the_key_from_a_picture(name: str, tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    subprocess.run(["rsvg-convert", recording.path(name), "-o", shot], check=True)
    seen = subprocess.check_output(["zbarimg", "--quiet", "--raw", shot], encoding="utf-8")
    [key] = re.findall(r"\bkey  ([A-Z2-7 ]+)", picture.windows(kept(name))[0].screen)
    assert f"secret={key.replace(' ', '')}&" in seen


def test_the_readme_shows_them(pytestconfig: pytest.Config) -> None:
    readme = (pytestconfig.rootpath / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"docs/([\w-]+)\.svg", readme)) == set(NAMES)
