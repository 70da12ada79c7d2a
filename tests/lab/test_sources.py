from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.sources import Source, parse, signed_by

if TYPE_CHECKING:
    from pathlib import Path

DEB822 = """\
# ours
Types: deb
# a comment
URIs: http://archive.example/debian
Suites: trixie trixie-updates
Signed-By: /usr/share/keyrings/one.gpg

Types: deb
URIs: http://archive.example/security
Suites: trixie-security
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 -----END PGP PUBLIC KEY BLOCK-----
Components: main
"""


def test_keys_are_those_of_the_stanza_that_apt_numbers(tmp_path: Path) -> None:
    file = tmp_path / "debian.sources"
    file.write_text(DEB822, encoding="utf-8")
    assert signed_by(file, 1) == "/usr/share/keyrings/one.gpg"
    assert signed_by(file, 2).splitlines() == [
        "",
        " -----BEGIN PGP PUBLIC KEY BLOCK-----",
        " .",
        " -----END PGP PUBLIC KEY BLOCK-----",
    ]


def test_keys_of_a_line_are_in_its_options(tmp_path: Path) -> None:
    file = tmp_path / "sources.list"
    file.write_text(
        "# first\ndeb [arch=amd64 signed-by=/a.gpg,/b.gpg] http://archive.example trixie main\n"
        "deb http://archive.example trixie main\n",
        encoding="utf-8",
    )
    assert signed_by(file, 2) == "/a.gpg /b.gpg"
    assert signed_by(file, 3) == ""


def test_only_debians_own_archives_of_the_own_release_count(tmp_path: Path) -> None:
    file = tmp_path / "sources.list"
    file.write_text("deb http://archive.example trixie main\n", encoding="utf-8")
    listing = "\n".join(
        f"{origin}|{codename}|main|http://archive.example/|{file}:1"
        for origin, codename in [
            ("Debian", "trixie"),
            ("Debian", "trixie-security"),
            ("Debian Backports", "trixie-backports"),
            ("Debian", "sid"),
            ("Vendor", "trixie"),
        ]
    )
    assert list(parse(listing, "trixie")) == [
        Source("http://archive.example/", "trixie", "main", ""),
        Source("http://archive.example/", "trixie-security", "main", ""),
    ]
