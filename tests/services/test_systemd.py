"""Services that systemd confines: what they must be allowed, and that the warm helper needs nothing of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.lab.booted import Booted
from tests.lab.code import code
from tests.lab.pam import service
from tests.lab.setup import enroll

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.full

WARM, HELPER = "pam-totp-login.socket", "pam-totp-login.service"
STRICT = ("ProtectSystem=strict", "PrivateTmp=yes", "ProtectHome=yes", "NoNewPrivileges=yes", "PrivateDevices=yes")
RUN = ("systemd-run", "--quiet", "--wait", "--pipe", "--collect")
# Without the warm helper, one that is started there needs these.
NEEDED = (
    "ReadWritePaths=/var/lib/pam-totp",
    "RuntimeDirectory=pam-totp",
    "RuntimeDirectoryMode=0700",
    "RuntimeDirectoryPreserve=yes",
)
FILTERED = ("SystemCallFilter=@system-service", "SystemCallErrorNumber=EPERM")


@pytest.fixture(scope="module")
def booted(suite: str, debs: tuple[Path, ...]) -> Iterator[Booted]:
    """A machine of the suite with systemd and the packages."""
    with Booted(suite) as machine:
        files = [f"/root/{package.name}" for package in debs]
        for package in debs:
            machine.write(f"/root/{package.name}", package.read_bytes())
        machine.run(
            ["apt-get", "-q", "-y", "--no-install-recommends", "install", *files],
            env={"DEBIAN_FRONTEND": "noninteractive"},
            timeout=240,
        )
        service(machine, "auth required pam_totp.so", "auth required pam_permit.so", "account required pam_permit.so")
        yield machine


class People:
    """Users of the machine: each is good for one test."""

    def __init__(self, machine: Booted) -> None:
        self.machine = machine
        self.count = len(machine.sh("ls /home").stdout.split())

    def enrolled(self) -> tuple[str, str]:
        """A user and the secret of the authenticator."""
        self.count += 1
        user = self.machine.user(f"user{self.count}", key=False)
        return user.name, enroll(self.machine, user)


def asked(machine: Booted, user: str, answer: str, *properties: str) -> bool:
    """Whether a confined service that runs a PAM transaction lets a user in with this answer."""
    options = [f"--property={each}" for each in properties]
    command = [*RUN, *options, "pamtester", "lab", user, "authenticate"]
    return machine.run(command, input=f"{answer}\n", check=False).returncode == 0


def test_installing_has_the_first_login_find_a_warm_helper(booted: Booted) -> None:
    assert booted.run(["systemctl", "is-enabled", WARM]).stdout == "enabled\n"
    assert booted.run(["systemctl", "is-active", WARM]).stdout == "active\n"
    places = ["/run/pam-totp", "/run/pam-totp/login.sock"]
    assert booted.run(["stat", "-c", "%U %a", *places]).stdout == "root 700\nroot 600\n"
    user, secret = People(booted).enrolled()
    assert booted.run(["systemctl", "is-active", HELPER], check=False).stdout == "inactive\n"
    # The socket starts it. What it is not ready for in a tenth of a second, a helper of its own does.
    assert asked(booted, user, code(secret))
    booted.sh('until systemctl is-active --quiet "$1"; do sleep 0.1; done', HELPER)
    # On a busy machine it may now and then not answer in time.
    assert any(starts_nothing(booted) for _ in range(10))
    booted.run(["systemctl", "stop", WARM, HELPER])
    assert not starts_nothing(booted)
    booted.run(["systemctl", "start", WARM])


def test_the_warm_helper_can_rehearse_under_the_limits_of_its_unit(booted: Booted) -> None:
    unit = booted.sh('cat /usr/lib/systemd/system/"$1"', HELPER).stdout.partition("[Service]\n")[2]
    limits = [f"--property={line}" for line in unit.splitlines() if re.match("(?!Exec|Type|Standard|Kill)[A-Z]", line)]
    assert "--property=ProtectSystem=strict" in limits
    program = (
        "import sys; sys.path.append('/usr/lib/python3/dist-packages'); from pam_totp.engine import warm, rehearsal; "
        "print({outcome.verdict for outcome in rehearsal.rehearse(warm._REHEARSAL)})"
    )
    done = booted.run([*RUN, *limits, "/usr/bin/python3", "-I", "-S", "-B", "-c", program])
    assert done.stdout == "{'accepted'}\n"


def starts_nothing(booted: Booted) -> bool:
    """Whether a transaction starts no interpreter."""
    trace = ["strace", "-f", "-qq", "-e", "trace=execve", "-o", "/root/programs"]
    booted.run([*trace, "pamtester", "lab", "root", "authenticate"])
    return "python3" not in booted.read("/root/programs")


@pytest.mark.parametrize(
    ("warm", "properties"),
    [
        (True, STRICT),
        (True, (*STRICT, *FILTERED)),
        (True, (*STRICT, "CapabilityBoundingSet=")),
        (False, (*STRICT, *NEEDED)),
        (False, (*STRICT, *NEEDED, *FILTERED, "CapabilityBoundingSet=CAP_SETGID")),
    ],
)
def test_a_confined_service_asks_and_lets_in_with_a_right_code_alone(
    booted: Booted, warm: bool, properties: tuple[str, ...]
) -> None:
    booted.run(["systemctl", "start" if warm else "stop", WARM])
    user, secret = People(booted).enrolled()
    spent = code(secret)
    assert not asked(booted, user, "12345", *properties)
    # A warm helper that does not answer in time, on a busy machine, is one that is started there, and refuses.
    tries = 5 if warm else 1
    assert any(asked(booted, user, spent, *properties) for _ in range(tries)), booted.journal()[-12:]
    assert not asked(booted, user, spent, *properties)


@pytest.mark.parametrize(
    "properties", [STRICT, ("CapabilityBoundingSet=CAP_AUDIT_WRITE",), ("NoExecPaths=/usr/bin/python3",)]
)
def test_one_that_may_not_do_what_a_helper_needs_lets_nobody_in_and_says_why(
    booted: Booted, properties: tuple[str, ...]
) -> None:
    booted.run(["systemctl", "stop", WARM])
    user, secret = People(booted).enrolled()
    assert not asked(booted, user, code(secret), *properties)
    assert [line for line in booted.journal()[-20:] if "outcome=unavailable" in line or "reason=helper-failed" in line]
    assert asked(booted, user, code(secret))


def test_what_systemd_starts_in_a_user_s_name_starts_unasked(booted: Booted) -> None:
    # PAMName= sets credentials and opens a session; systemd authenticates nobody.
    user, _ = People(booted).enrolled()
    booted.run(["pam-auth-update", "--enable", "pam-totp"])
    service(booted, "@include common-auth", "@include common-account", "session required pam_permit.so", name="unit")
    options = [f"--property={each}" for each in ("PAMName=unit", *STRICT)]
    assert booted.run([*RUN, f"--uid={user}", *options, "id", "-un"]).stdout == f"{user}\n"
