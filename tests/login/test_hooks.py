"""The hooks that are not `authenticate`: they let nobody in, and the one that sshd calls costs nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.lab.pam import PAM_PYTHON, alone, pamtester, service

if TYPE_CHECKING:
    from tests.login.host import Host

pytestmark = pytest.mark.engines

UNUSED = {"acct_mgmt": "account", "open_session": "session", "close_session": "session", "chauthtok": "password"}


@pytest.mark.parametrize(("operation", "facility"), UNUSED.items(), ids=UNUSED)
def test_a_line_of_another_kind_than_auth_is_refused_and_the_log_says_so(
    host: Host, operation: str, facility: str
) -> None:
    alice = host.person()
    name = service(host.machine, f"{facility} required {host.machine.module}")
    mark = host.machine.mark()
    assert pamtester(host.machine, name, alice.name, operation).code == "PAM_SERVICE_ERR"
    lines = [record.message for record in host.machine.log(mark) if "reason=misplaced" in record.message]
    # pam_chauthtok runs its modules once to ask and once to change; the first refusal ends it.
    assert len(lines) == 1
    assert lines[0].startswith("pam_totp(")
    assert f"remove {host.machine.module.split()[-1]} from {facility} lines" in lines[0]


def test_setcred_is_ignored(host: Host) -> None:
    alice = host.person()
    assert pamtester(host.machine, alone(host.machine), alice.name, "setcred").code == "PAM_IGNORE"


def opened(host: Host, module: str, *operations: str, answers: tuple[str, ...] = ()) -> set[str]:
    """Every file that is opened while the operations of a module run."""
    trace = ["strace", "-f", "-qq", "-e", "trace=open,openat", "-o", "/root/trace"]
    pamtester(host.machine, alone(host.machine, module), "root", *operations, answers=answers, prefix=trace)
    lines = host.machine.read("/root/trace").splitlines()
    found = [re.search(r'open(?:at)?\([^"]*"([^"]+)".* = \d+$', line) for line in lines]
    return {match[1] for match in found if match}


def test_setcred_opens_nothing_but_the_module_itself(host: Host) -> None:
    ours = opened(host, host.machine.module, "setcred")
    if host.machine.module == PAM_PYTHON:
        empty = "def pam_sm_setcred(pamh, flags, argv):\n    return pamh.PAM_IGNORE\n"
        host.machine.write("/lib/security/empty.py", empty)
        interpreter = opened(host, "pam_python.so empty.py", "setcred")
        assert {path for path in ours - interpreter if ".py" in path or ".so" in path} == {"/lib/security/pam_totp.py"}
    else:
        assert [path for path in ours if "totp" in path and path.endswith("/pam_totp.so")]
        assert not [path for path in ours if "python" in path or "pam-totp" in path]


def test_authenticate_opens_the_database_and_the_cipher_so_the_test_above_would_see_them(host: Host) -> None:
    files = " ".join(opened(host, host.machine.module, "authenticate"))
    assert "_sqlite3" in files
    assert "libsodium" in files
    assert "python" in files
