from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import cache
from tests.lab.machine import Machine, MachineError
from tests.lab.pam import CODES, alone, pamtester

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.roots import Root

ASK = "KbdInteractiveAuthentication yes\nPasswordAuthentication no\n"


@pytest.fixture(scope="module")
def bare(base_root: Root) -> Iterator[Machine]:
    with Machine(base_root) as machine:
        machine.sshd.drop_in("00-test", ASK)
        machine.sshd.start()
        yield machine


@pytest.fixture
def remains(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Counts what there is on the host of the machines that this test has started: processes and mounts."""
    token = f"PAM_TOTP_LAB_TEST={os.urandom(8).hex()}"
    monkeypatch.setenv(*token.split("="))

    def count() -> int:
        found = Path("/proc/mounts").read_text(encoding="utf-8").count(str(cache.home()))
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):  # gone, or not to be read: none of ours
                found += token.encode() in path.read_bytes().split(b"\0")
        return found

    return count


def test_nothing_is_left_of_a_machine(base_root: Root, remains: Callable[[], int]) -> None:
    with Machine(base_root) as machine:
        machine.run(["touch", "/etc/changed"])
        machine.sh("sleep 1000 >/dev/null 2>&1 &")
        assert remains() == 1
    assert remains() == 0
    assert not (base_root.layers[-1] / "etc/changed").exists()
    assert not list((cache.home() / "stage").iterdir())


def test_a_machine_ends_when_its_owner_is_killed(base_root: Root, remains: Callable[[], int]) -> None:
    script = f"""if True:
        from pathlib import Path
        from tests.lab.machine import Machine
        from tests.lab.roots import Root
        with Machine(Root({base_root.suite!r}, (Path({str(base_root.layers[0])!r}),))) as machine:
            print(machine.run(["hostname"]).stdout, flush=True)
            machine.run(["sleep", "60"])
    """
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        ready = owner.stdout.readline()
        there = remains()
        owner.send_signal(signal.SIGKILL)
    assert ready == b"lab\n"
    assert there >= 2  # the owner, the machine, perhaps a third that is about to become the command
    end = time.monotonic() + 10
    while remains() and time.monotonic() < end:
        time.sleep(0.01)
    assert remains() == 0


def test_a_command_that_takes_too_long_is_killed(bare: Machine) -> None:
    with pytest.raises(MachineError, match=r"not finished after 0\.1 s: sleep 1234"):
        bare.run(["sleep", "1234"], timeout=0.1)
    assert "1234" not in bare.run(["ps", "-eo", "args"]).stdout


def test_a_login_comes_from_the_chosen_address(bare: Machine) -> None:
    ann = bare.user("ann")
    for source in ("127.0.0.1", "127.9.8.7", "::1", "fd00::1:2"):
        mark = bare.mark()
        result = bare.login(ann, password=ann.password, source=source)
        assert result.ok
        assert result.asked_password
        assert any(f"Accepted keyboard-interactive/pam for ann from {source} " in str(line) for line in bare.log(mark))


def test_a_wrong_password_is_refused(bare: Machine) -> None:
    ben = bare.user("ben")
    assert not bare.login(ben, password="wrong").ok
    assert bare.login(ben, key=True).ok


def test_every_code_of_a_module_is_told_by_name(bare: Machine) -> None:
    bare.user("cleo", key=False)
    bare.write(
        "/lib/security/pam_returns.py",
        "def pam_sm_authenticate(pamh, flags, argv):\n    return getattr(pamh, argv[1])\n",
    )
    for name in set(CODES.values()):
        assert pamtester(bare, alone(bare, f"pam_python.so pam_returns.py {name}"), "cleo").code == name


def test_the_log_keeps_facility_severity_and_control_characters(bare: Machine) -> None:
    mark = bare.mark()
    bare.run(["python3", "-c", "import syslog; syslog.openlog('x', 0, syslog.LOG_AUTHPRIV); syslog.syslog(4, 'a\\nb')"])
    record = bare.log(mark)[-1]
    assert (record.facility, record.severity, record.program, record.message) == ("authpriv", "warning", "x", "a\nb")


def test_a_small_file_system_holds_what_was_there_and_leaves_it_untouched(bare: Machine) -> None:
    bare.write("/srv/small/file", "kept")
    with bare.tmpfs("/srv/small", size="16k"):
        assert bare.read("/srv/small/file") == "kept"
        assert bare.run(["dd", "if=/dev/zero", "of=/srv/small/big", "bs=64k", "count=1"], check=False).returncode == 1
    assert bare.run(["ls", "/srv/small"]).stdout == "file\n"
