"""A stack that takes the code off a password has to verify it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pam_totp.errors import ConfigError
from pam_totp.host import stack
from pam_totp.host.paths import Paths

SPLIT = "auth required pam_python.so pam_totp.py combined=split\n"
VERIFY = "auth required pam_python.so pam_totp.py combined=verify\n"
ACCOUNT = "account required pam_python.so pam_totp.py combined=verify\n"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    (tmp_path / "etc/pam.d").mkdir(parents=True)
    return Paths.below(str(tmp_path), os.geteuid())


def write(paths: Paths, text: str) -> None:
    path = Path(paths.services, "sshd")
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


def test_the_lines_of_a_stack_are_told_with_their_arguments() -> None:
    other = "-auth [success=1 default=ignore] pam_python.so /lib/security/pam_totp.py\n"
    text = f"# {SPLIT}@include common-auth\n{SPLIT}{other}"
    assert stack.lines_of_ours(text) == [("auth", ["combined=split"]), ("auth", [])]


def test_a_continued_line_is_one_line() -> None:
    assert stack.lines_of_ours("auth required \\\n pam_python.so pam_totp.py \\\n combined=verify # x\n") == [
        ("auth", ["combined=verify"])
    ]


def test_a_whole_stack_may_split(paths: Paths) -> None:
    write(paths, f"{SPLIT}@include common-auth\n{VERIFY}{ACCOUNT}")
    stack.require_verification("sshd", paths)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (SPLIT, "auth"),
        (SPLIT + ACCOUNT, "auth"),
        (SPLIT + VERIFY, "account"),
        (VERIFY + ACCOUNT + SPLIT, "auth"),
        (f"{SPLIT}# {VERIFY}{ACCOUNT}", "auth"),
        (SPLIT + VERIFY + SPLIT + ACCOUNT, "auth"),
        ("", "auth"),
    ],
)
def test_a_stack_that_would_let_the_password_alone_in_is_refused(text: str, kind: str, paths: Paths) -> None:
    write(paths, text)
    with pytest.raises(ConfigError, match=f"of the kind {kind} after it"):
        stack.require_verification("sshd", paths)


@pytest.mark.parametrize("service", ["", "missing", "../sshd", "sshd/"])
def test_a_service_without_a_safe_file_is_refused(service: str, paths: Paths) -> None:
    write(paths, f"{SPLIT}{VERIFY}{ACCOUNT}")
    with pytest.raises(ConfigError, match="cannot be read safely"):
        stack.require_verification(service, paths)


def test_a_file_that_others_can_write_is_refused(paths: Paths) -> None:
    write(paths, f"{SPLIT}{VERIFY}{ACCOUNT}")
    Path(paths.services, "sshd").chmod(0o666)
    with pytest.raises(ConfigError, match="cannot be read safely"):
        stack.require_verification("sshd", paths)
