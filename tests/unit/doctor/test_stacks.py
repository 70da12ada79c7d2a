"""PAM's decision over the lines of a service, gone through with every result that each module may give."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pam_totp.doctor import stacks
from pam_totp.doctor.findings import Finding
from pam_totp.doctor.stacks import Stack
from pam_totp.host import arrange, pinned
from pam_totp.host.pinned import Pin, Revert
from tests.unit.setting_up import COMMON

if TYPE_CHECKING:
    from tests.unit.pretend import Host

OURS = "auth required pam_totp.so\n"
PASSWORD = "@include common-auth\n"
PERMIT = "auth required pam_permit.so\n"


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrange, "installed", lambda name: "topt" not in name and "pam-" not in name)
    monkeypatch.setattr(stacks, "_UPDATED", "/nonexistent")


def write(host: Host, **texts: str) -> None:
    os.makedirs(host.paths.services, exist_ok=True)
    for name, text in texts.items():
        path = f"{host.paths.services}/{name.replace('_', '-')}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o644)


def found(host: Host, text: str, service: str = "sshd", **more: str) -> list[str]:
    write(host, **{service: text, "common_auth": COMMON, **more})
    loaded = stacks.load(service, host.paths)
    assert isinstance(loaded, Stack)
    return [each.identifier for each in stacks.findings(loaded, host.paths, key_first=False)]


@pytest.mark.parametrize(
    "text",
    [
        "@include common-auth\n" + OURS,
        OURS + "@include common-auth\n",
        "auth include common-auth\n" + OURS,
        "auth substack common-auth\n" + OURS,
        "auth [success=1 default=ignore] pam_access.so\nauth optional pam_warn.so\n@include common-auth\n" + OURS,
        "auth [success=1 default=ignore] pam_access.so\nauth substack common-auth\nauth required pam_unix.so\n" + OURS,
        "auth required pam_totp.so first_factor=publickey\nauth required pam_permit.so\n",
        "auth [success=1 default=bad] pam_unix.so\nauth [default=die] pam_faillock.so authfail\n" + OURS,
        # What ends well after it has no say any more: the refusal stays.
        "@include common-auth\n" + OURS + "auth sufficient pam_permit.so\n",
    ],
)
def test_a_stack_in_which_every_yes_needs_ours_has_no_findings(host: Host, text: str) -> None:
    assert found(host, text) == []


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("auth sufficient pam_ldap.so\n@include common-auth\n" + OURS, "line-behind-sufficient"),
        ("auth [success=4 default=ignore] pam_access.so\n" + PASSWORD + OURS + PERMIT,
         "line-jumped-over"),
        ("auth [success=2 default=ignore] pam_access.so\nauth substack common-auth\n" + OURS + PERMIT,
         "line-jumped-over"),
        ("@include local\n@include common-auth\n" + OURS, "include-decides"),
        ("auth include local\n" + OURS, "include-decides"),
        ("@include common-auth\n" + OURS + "auth [default=reset] pam_warn.so\nauth required pam_permit.so\n",
         "refusal-taken-back"),
        ("@include common-auth\nauth optional pam_totp.so\n", "line-not-required"),
        ("@include common-auth\n#" + OURS, "line-missing"),
        ("auth requisite pam_deny.so\n" + OURS, "stack-refuses-all"),
        ("auth required pam_permit.so\n" + OURS, "permit-only"),
        ("auth required pam_env.so\nauth required pam_nologin.so\n" + OURS + PERMIT, "permit-only"),
    ],
)  # fmt: skip
def test_a_way_around_ours_is_found(host: Host, text: str, identifier: str) -> None:
    assert found(host, text, local="auth sufficient pam_rootok.so\n") == [identifier]


def test_a_substack_ends_only_itself(host: Host) -> None:
    assert (
        found(host, "auth substack local\n@include common-auth\n" + OURS, local="auth sufficient pam_ldap.so\n") == []
    )


def test_root_may_become_anybody_in_what_users_start(host: Host) -> None:
    text = "auth sufficient pam_rootok.so\n@include common-auth\n" + OURS
    assert found(host, text, "su") == []
    assert found(host, text, "sshd") == ["line-behind-sufficient"]


def test_a_file_that_is_not_there_or_takes_itself_in_is_told(host: Host) -> None:
    loaded = stacks.load("sshd", host.paths)
    assert isinstance(loaded, Finding)
    assert (loaded.identifier, "--force-confmiss openssh-server" in loaded.mend) == ("service-missing", True)
    write(host, sshd="@include sshd\n")
    loaded = stacks.load("sshd", host.paths)
    assert isinstance(loaded, Finding)
    assert loaded.identifier == "service-unreadable"
    write(host, sshd="")
    os.chmod(f"{host.paths.services}/sshd", 0o666)
    loaded = stacks.load("sshd", host.paths)
    assert isinstance(loaded, Finding)
    assert (loaded.identifier, loaded.mend) == ("service-unreadable", f"chmod go-w {host.paths.services}/sshd")


def test_a_set_up_that_waits_to_be_kept_is_noted(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned, "losses", lambda *_: [])
    pin = Pin("sshd", "key", "pam_totp", [], revert=Revert("boot", 1.0, {}, None))
    pinned.save(host.paths, pin)
    [each] = stacks.record("sshd", host.paths)
    assert (each.identifier, each.severity, each.mend) == ("revert-pending", "note", "pam-totp setup --keep")


def test_what_verbs_say_of_the_next_login_depends_on_the_lines(host: Host) -> None:
    assert "is missing" in stacks.not_asked("sshd", host.paths)
    write(host, sshd="@include common-auth\n", common_auth=COMMON)
    assert "no auth line" in stacks.not_asked("sshd", host.paths)
    write(host, sshd="@include common-auth\n" + OURS)
    assert stacks.not_asked("sshd", host.paths) == ""
