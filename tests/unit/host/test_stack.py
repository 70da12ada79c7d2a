"""A stack that takes the code off a password has to verify it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pam_totp.errors import ConfigError
from pam_totp.host import stack
from pam_totp.host.paths import Paths

SPLIT = "auth required pam_totp.so combined=split\n"
VERIFY = "auth required pam_totp.so combined=verify\n"
ACCOUNT = "account required pam_totp.so combined=verify\n"


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


@pytest.mark.parametrize("module", ["pam_totp.so", "pam_python.so pam_totp.py", "/lib/security/pam_totp.so"])
def test_a_whole_stack_may_split_with_either_engine(module: str, paths: Paths) -> None:
    write(paths, f"{SPLIT}@include common-auth\n{VERIFY}{ACCOUNT}".replace("pam_totp.so", module))
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


# Whether a stack lets in nobody without the code

UNIX = """
auth [success=1 default=ignore] pam_unix.so nullok
auth requisite pam_deny.so
auth required pam_permit.so
auth optional pam_cap.so
"""


def certain(paths: Paths, text: str, **others: str) -> bool:
    write(paths, text)
    for name, content in {"common-auth": UNIX, **others}.items():
        Path(paths.services, name.replace("_", "-")).write_text(content, encoding="utf-8")
        Path(paths.services, name.replace("_", "-")).chmod(0o644)
    return stack.verification_is_certain("sshd", paths)


@pytest.mark.parametrize(
    "text",
    [
        f"{SPLIT}@include common-auth\n{VERIFY}{ACCOUNT}",
        f"{SPLIT}auth include common-auth\n{VERIFY}",
        f"{SPLIT}{UNIX}{VERIFY}",
        f"{SPLIT}{UNIX}{VERIFY.replace('required', 'requisite')}auth sufficient pam_permit.so\n",
        f"{SPLIT}auth [success=ok new_authtok_reqd=ok ignore=ignore default=bad] pam_unix.so\n{VERIFY}",
        f"{SPLIT}auth [success=2 default=ignore] pam_unix.so\n{UNIX}{VERIFY}session sufficient pam_permit.so\n",
        f"{SPLIT}auth [default=die success=1] pam_unix.so\nauth required pam_deny.so\n{VERIFY}",
        f"{SPLIT}@include common-auth\n{VERIFY}".replace("pam_totp.so", "pam_python.so pam_totp.py"),
    ],
)
def test_a_stack_in_which_every_way_leads_through_the_code_is_certain(text: str, paths: Paths) -> None:
    assert certain(paths, text)


@pytest.mark.parametrize(
    "text",
    [
        f"auth sufficient pam_rootok.so\n{SPLIT}{UNIX}{VERIFY}",
        f"{SPLIT}auth sufficient pam_unix.so\n{VERIFY}",
        f"{SPLIT}auth [success=done default=ignore] pam_unix.so\n{VERIFY}",
        f"{SPLIT}auth [success=1 default=ignore] pam_unix.so\n{VERIFY}",
        f"{SPLIT}auth [success=5 default=ignore] pam_unix.so\n{UNIX}{VERIFY}",
        f"{SPLIT}auth [success=\u0661 default=ignore] pam_unix.so\n{UNIX}{VERIFY}",
        f"{SPLIT}auth substack common-auth\n{VERIFY}",
        f"{SPLIT}auth [nonsense] pam_unix.so\n{VERIFY}",
        f"{SPLIT}auth\n{VERIFY}",
        f"{SPLIT}{UNIX}{VERIFY.replace('required', 'optional')}",
        f"{SPLIT}{UNIX}{VERIFY.replace('required', 'sufficient')}",
        f"{SPLIT}{UNIX}{VERIFY.replace('required', '[default=ignore]')}",
        f"{SPLIT}{UNIX}{VERIFY}auth [default=reset] pam_permit.so\n",
        f"{SPLIT}{UNIX}#{VERIFY}",
        f"{SPLIT}@include missing\n{VERIFY}",
        f"{SPLIT}@include ../pam.d/common-auth\n{VERIFY}",
        f"{SPLIT}@include\n{VERIFY}",
        f"{SPLIT}@include sshd\n{VERIFY}",
        f"{SPLIT}@include sufficient\n{VERIFY}",
        "",
    ],
)
def test_a_stack_that_may_let_in_without_the_code_or_is_not_understood_is_not_certain(text: str, paths: Paths) -> None:
    assert not certain(paths, text, sufficient="auth sufficient pam_unix.so\n")


def test_a_stack_whose_parts_others_can_write_is_not_certain(paths: Paths) -> None:
    text = f"{SPLIT}@include common-auth\n{VERIFY}"
    assert certain(paths, text)
    Path(paths.services, "common-auth").chmod(0o666)
    assert not stack.verification_is_certain("sshd", paths)
    assert not stack.verification_is_certain("missing", paths)
