"""pam_totp.so itself, under the sanitizers: how it starts its helper, and what it makes of one that misbehaves.

The helpers are programs of these tests, put in the place of the interpreter when the module is compiled. Needs root.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
MODULE = CHECKOUT / "pam_totp/engine/pam_totp.c"
CLIENT = Path(__file__).with_name("client.c")
SUCCESS, SERVICE_ERR, AUTH_ERR, IGNORE, CONV_ERR = 0, 3, 7, 25, 19
# In a stack of one module libpam makes this of one that ignores.
IGNORED = 6
BUILD = ["gcc", "-g", "-O1", "-Wall", "-Wextra", "-Werror"]
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# Seconds: not for ever, on a busy machine too.
IN_TIME = 20
# Milliseconds that the module gives the helper here.
LIMIT = 1500

# What each helper begins with: talk() sends a message and, where there is one, returns the reply.
HEAD = """#!/usr/bin/python3 -IS
import json, os, sys, time
def read(size):
    found = b""
    while len(found) < size:
        part = os.read(3, size - len(found))
        if not part:
            os._exit(9)
        found += part
    return found
def receive():
    head = read(4)
    return head[1:2], read(int.from_bytes(head[2:], "big"))
def send(kind, text):
    os.write(3, b"\\1" + kind + len(text).to_bytes(2, "big") + text)
def talk(kind, text):
    send(kind, text)
    return receive()
request = receive()
"""


class Workshop:
    """The module and the client, built in a directory, and the helper that is to be started next."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.build = [*BUILD, *flags]
        self.directory = directory
        self.helper = directory / "helper"
        self.report = directory / "report"
        module, service = directory / "pam_totp.so", directory / "services"
        define = [f'-DPYTHON="{self.helper}"', f"-DLIMIT={LIMIT}"]
        visible = ["-fvisibility=hidden", "-fPIC", "-shared"]
        subprocess.run([*self.build, *define, *visible, "-o", module, MODULE, "-lpam"], check=True)
        subprocess.run([*self.build, "-o", directory / "client", CLIENT, "-lpam"], check=True)
        service.mkdir()
        (service / "test").write_text(f"auth required {module} one two\naccount required {module} combined=verify\n")

    def write(self, program: str) -> None:
        """Have this be the helper; REPORT in it is where it may leave something."""
        self.helper.write_text(HEAD + program.replace("REPORT", repr(str(self.report))))
        self.helper.chmod(0o755)

    def command(self, answer: str, *conditions: str) -> list[str]:
        """The command line of the client."""
        return [str(self.directory / "client"), str(self.directory / "services"), answer, *conditions]

    def run(self, program: str, *conditions: str, answer: str = "123456", **environment: str) -> list[str]:
        """One transaction with a helper; what the client says of it. Whatever a sanitizer finds fails the test."""
        self.write(program)
        done = subprocess.run(
            self.command(answer, *conditions),
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            # libpam itself leaves a little behind.
            env={"ASAN_OPTIONS": "detect_leaks=0", **environment},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        return done.stdout.split()

    def reported(self) -> Any:
        """What the helper has left."""
        return json.loads(self.report.read_text())


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Everything built once, with the sanitizers."""
    return Workshop(tmp_path_factory.mktemp("engine"), *SANITIZED)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Everything built once, without the sanitizers, which could not run under the limits that some tests set."""
    return Workshop(tmp_path_factory.mktemp("plain"), "-O2", "-D_FORTIFY_SOURCE=2", "-fstack-protector-strong")


RIGHT = 'talk(b"P", b"Code: ")\nsend(b"R", b"PAM_SUCCESS")\n'
QUIET = ["prompts", "1", "children", "0", "fds", "0"]


# What it is started with

TELL = """
import stat
limits = {}
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
for line in open("/proc/self/limits").read().splitlines()[1:]:
    limits[line[:26].strip()] = line[26:68].split()
mask = os.umask(0)
fds = sorted(os.listdir("/proc/self/fd"), key=int)
with open(REPORT, "w") as file:
    json.dump({
        "request": request[1].decode(), "kind": request[0].decode(),
        "argv": open("/proc/self/cmdline").read().split("\\0"),
        "environment": dict(os.environ), "cwd": os.getcwd(), "fds": fds,
        "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(), "umask": mask,
        "session": os.getsid(0) == os.getpid() == os.getpgrp(), "parent": os.getppid(),
        "ignored": int(status["SigIgn"], 16), "blocked": int(status["SigBlk"], 16), "limits": limits,
        "processors": len(os.sched_getaffinity(0)),
        "share": [os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0),
                  os.popen(f"/usr/bin/ionice -p {os.getpid()}").read().strip()],
        "null": [os.fstat(number).st_rdev == os.stat("/dev/null").st_rdev for number in range(3)],
    }, file)
"""
HOSTILE = {
    "PATH": "/tmp",
    "PYTHONPATH": "/tmp",
    "PYTHONHOME": "/tmp",
    "PYTHONSTARTUP": "/tmp/x",
    "PYTHONINSPECT": "1",
    "LD_BIND_NOW": "1",
    "LANG": "de_DE.UTF-8",
    "SSH_AUTH_INFO_0": "publickey x",
}
ALL = ("umask", "deaf", "poor", "closed", "idle", "user")
RAISED = {
    "Max address space": resource.RLIMIT_AS,
    "Max data size": resource.RLIMIT_DATA,
    "Max file size": resource.RLIMIT_FSIZE,
    "Max processes": resource.RLIMIT_NPROC,
}
# SIGPIPE and SIGXFSZ, which Python itself ignores.
BY_PYTHON = 1 << 12 | 1 << 24


@pytest.mark.parametrize("conditions", [(), *((each,) for each in ALL), ALL], ids="+".join)
def test_the_helper_starts_the_same_whatever_the_program_is_like(plain: Workshop, conditions: tuple[str, ...]) -> None:
    assert plain.run(TELL + RIGHT, *conditions, **HOSTILE) == ["0", *QUIET]
    told = plain.reported()
    assert told["kind"] == "Q"
    assert told["request"] == "=auth\0=client\0=root\0=test\0-\0-\0-\0=one\0=two\0"
    # The environment is empty; Python itself makes this of an empty one.
    assert told["environment"] in ({}, {"LC_CTYPE": "C.UTF-8"})
    assert told["cwd"] == "/"
    assert told["fds"][:4] == ["0", "1", "2", "3"]
    assert len(told["fds"]) == 5  # the last is the one that reads the directory
    assert told["null"] == [True] * 3
    assert told["uid"] == told["gid"] == [0, 0, 0]
    assert told["groups"] == []
    assert told["umask"] == 0o077
    assert told["session"]
    # A user who gives it the least share of the processor would have it hold the cache's lock for minutes.
    assert told["share"] == [os.SCHED_OTHER, 0, "none: prio 0"]
    assert told["processors"] == len(os.sched_getaffinity(0))
    assert told["ignored"] & ~BY_PYTHON == told["blocked"] == 0
    assert told["limits"]["Max core file size"] == ["0", "0"]
    # Where root may not raise a limit, as in many containers, it is as high as it was allowed to be.
    for name, kind in RAISED.items():
        highest = resource.getrlimit(kind)[1]
        allowed = (["unlimited"] * 2, ["unlimited" if highest == resource.RLIM_INFINITY else str(highest)] * 2)
        assert told["limits"][name] in allowed, name
    assert told["limits"]["Max open files"] == ["256", "256"]
    assert {"-I", "-S", "-E", "-s", "-P", "-B", "-c"} <= set(told["argv"])


def test_a_program_that_waits_for_any_child_gets_its_own_and_no_signal_of_another(workshop: Workshop) -> None:
    assert workshop.run(RIGHT, "waiting", "twice") == ["0", "0", "prompts", "2", "children", "2", "fds", "0"]


# What it says


def ended(workshop: Workshop, program: str, *conditions: str, answer: str = "123456") -> int:
    """What a transaction with this helper returns."""
    said = workshop.run(program, *conditions, answer=answer)
    assert said[-6:-5] + said[-4:] == ["prompts", "children", "0", "fds", "0"]
    return int(said[0])


@pytest.mark.parametrize(
    ("word", "code"), [("SUCCESS", 0), ("IGNORE", 6), ("AUTH_ERR", 7), ("USER_UNKNOWN", 10), ("CONV_ERR", 19),
                       ("AUTHINFO_UNAVAIL", 9), ("SERVICE_ERR", 3)]
)  # fmt: skip
def test_each_result_that_is_known_is_returned(workshop: Workshop, word: str, code: int) -> None:
    assert ended(workshop, f'send(b"R", b"PAM_{word}")') == code


MISBEHAVIOUR = {
    "ends at once": "",
    "is killed": "os.kill(os.getpid(), 9)",
    "fails": "os._exit(1)",
    "closes": "os.close(3); time.sleep(60)",
    "is silent": "time.sleep(60)",
    "stops in a message": 'os.write(3, b"\\1R\\0"); time.sleep(60)',
    "stops in a text": 'os.write(3, b"\\1R\\0\\x0bPAM_SUCC"); time.sleep(60)',
    "trickles": 'for byte in b"\\1R\\0\\x0bPAM_SUCCESS": os.write(3, bytes((byte,))); time.sleep(0.4)',
    "ends in a text": 'os.write(3, b"\\1R\\0\\x0bPAM_SUCC")',
    "speaks another version": 'os.write(3, b"\\2R\\0\\x0bPAM_SUCCESS")',
    "speaks no version": 'os.write(3, b"\\0R\\0\\x0bPAM_SUCCESS")',
    "says garbage": 'os.write(3, os.urandom(64) + b"PAM_SUCCESS")',
    "says zeros": "os.write(3, bytes(64))",
    "says nothing as a result": 'send(b"R", b"")',
    "says a number": 'send(b"R", b"0")',
    "says a code that is none of ours": 'send(b"R", b"PAM_PERM_DENIED")',
    "says more than a word": 'send(b"R", b"PAM_SUCCESS\\n")',
    "says less than a word": 'send(b"R", b"PAM_SUCCES")',
    "says two marks": 'send(b"R", b"PAM_SUCCESS\\0a\\0b")',
    "says an unknown kind": 'send(b"X", b"PAM_SUCCESS")',
    "says a request": 'send(b"Q", b"PAM_SUCCESS")',
    "asks with a NUL": 'send(b"P", b"a\\0b"); send(b"R", b"PAM_SUCCESS")',
    "hands on a token with a NUL": 'send(b"T", b"a\\0b"); send(b"R", b"PAM_SUCCESS")',
}


@pytest.mark.parametrize("program", MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
def test_a_helper_that_misbehaves_is_a_refusal_in_time(workshop: Workshop, program: str) -> None:
    start = time.monotonic()
    assert ended(workshop, program) == SERVICE_ERR
    assert time.monotonic() - start < IN_TIME


def test_a_helper_that_does_not_read_is_a_refusal_in_time(workshop: Workshop) -> None:
    workshop.write("")
    program = workshop.helper.read_text().replace("request = receive()", "time.sleep(60)")
    workshop.helper.write_text(program)
    done = subprocess.run(workshop.command("1"), check=True, capture_output=True, text=True, timeout=IN_TIME)
    assert done.stdout.split()[0] == str(SERVICE_ERR)


def test_where_there_is_no_interpreter_nobody_gets_in(workshop: Workshop) -> None:
    workshop.helper.unlink(missing_ok=True)
    done = subprocess.run(workshop.command("1"), check=True, capture_output=True, text=True, timeout=IN_TIME)
    assert done.stdout.split() == [str(SERVICE_ERR), "prompts", "0", "children", "0", "fds", "0"]


def test_the_limit_begins_anew_with_each_step_of_the_helper(workshop: Workshop) -> None:
    program = (
        f'talk(b"P", b"Code: "); time.sleep({LIMIT * 0.7 / 1000}); talk(b"I", b"x"); time.sleep({LIMIT * 0.7 / 1000})'
    )
    assert ended(workshop, program + '; send(b"R", b"PAM_SUCCESS")') == SUCCESS


ANSWERED = 'reply = talk(b"P", b"Code: ")\nsend(b"R", b"PAM_SUCCESS" if reply == (b"A", {0}) else b"PAM_AUTH_ERR")'


@pytest.mark.parametrize("answer", ["", "123456", "x" * 65_535])
def test_an_answer_arrives_as_it_was_typed(workshop: Workshop, answer: str) -> None:
    assert (
        ended(
            workshop,
            ANSWERED.format(f"{answer[:1]!r}.encode() * {len(answer)}" if len(answer) > 9 else repr(answer.encode())),
            answer=answer,
        )
        == SUCCESS
    )


@pytest.mark.parametrize("answer", ["-", "x" * 65_536], ids=["none", "too long"])
def test_no_answer_and_one_that_is_too_long_is_none(workshop: Workshop, answer: str) -> None:
    program = 'send(b"R", b"PAM_CONV_ERR" if talk(b"P", b"Code: ") == (b"N", b"") else b"PAM_SUCCESS")'
    assert ended(workshop, program, answer=answer) == CONV_ERR


# What is kept from one line to the next

KEEPS = 'send(b"R", b"PAM_SUCCESS\\0split 123456") if b"auth" in request[1] else '


def test_what_is_kept_comes_with_the_next_request_and_not_in_the_next_transaction(workshop: Workshop) -> None:
    tell = 'open(REPORT, "a").write(json.dumps(request[1].decode()) + "\\n")\n'
    workshop.report.unlink(missing_ok=True)
    said = workshop.run(f'{tell}{KEEPS}send(b"R", b"PAM_AUTH_ERR\\0tried")', "account", "twice")
    assert said[:4] == ["0", str(AUTH_ERR), "0", str(AUTH_ERR)]
    first, second, third, fourth = [json.loads(line) for line in workshop.report.read_text().splitlines()]
    assert first == third == "=auth\0=client\0=root\0=test\0-\0-\0-\0=one\0=two\0"
    assert second == fourth == "=account\0=client\0=root\0=test\0-\0-\0=split 123456\0=combined=verify\0"


def test_the_account_phase_starts_no_helper_where_nothing_is_kept(workshop: Workshop) -> None:
    said = workshop.run('send(b"R", b"PAM_SUCCESS") if b"auth" in request[1] else time.sleep(60)', "account")
    assert said[:2] == ["0", str(IGNORED)]


# How it ends


@pytest.fixture
def waiting(workshop: Workshop) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A program whose user is asked and does not answer, and the helper's process."""
    workshop.write('open(REPORT, "w").write(str(os.getpid()))\nsend(b"P", b"Code: ")\nreceive()\ntime.sleep(60)')
    workshop.report.unlink(missing_ok=True)
    source = workshop.directory / "hangs.c"
    source.write_text(CLIENT.read_text("utf-8").replace("prompts++;", "prompts++; pause();"), "utf-8")
    subprocess.run([*workshop.build, "-o", workshop.directory / "hangs", source, "-lpam"], check=True)
    command = [str(workshop.directory / "hangs"), str(workshop.directory / "services"), "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        until(lambda: workshop.report.exists() and workshop.report.read_text() != "")
        pid = int(workshop.report.read_text())
        yield process, pid
        process.kill()
    until(lambda: gone(pid))


def until(condition: Any) -> None:
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process has ended; whoever has adopted it may not have looked yet."""
    try:
        return state(pid) == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def state(pid: int) -> str:
    """The state of a process, as proc(5) has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_the_helper_ends_with_the_program_that_dies_at_the_prompt(
    waiting: tuple[subprocess.Popen[str], int], number: signal.Signals
) -> None:
    process, pid = waiting
    time.sleep(2 * LIMIT / 1000)
    assert process.poll() is None  # no limit while the user is asked
    assert not gone(pid)
    process.send_signal(number)
    process.wait()
    until(lambda: gone(pid))


def test_what_is_sent_to_the_program_s_group_does_not_reach_the_helper(
    waiting: tuple[subprocess.Popen[str], int],
) -> None:
    process, pid = waiting
    os.killpg(process.pid, signal.SIGSTOP)
    until(lambda: state(process.pid) == "T")
    assert state(pid) != "T"
    os.killpg(process.pid, signal.SIGCONT)


def test_a_user_cannot_signal_or_look_into_the_helper_of_a_program_with_more_rights(workshop: Workshop) -> None:
    attempt = """
pid = os.getpid()
begin, end = os.pipe()
child = os.fork()
if child == 0:
    os.setresgid(1000, 1000, 1000)
    os.setresuid(1000, 1000, 1000)
    found = []
    for what in (lambda: os.kill(pid, 0), lambda: open(f"/proc/{pid}/mem"), lambda: os.listdir(f"/proc/{pid}/fd"),
                 lambda: open(f"/proc/{pid}/environ")):
        try:
            what()
            found.append("could")
        except PermissionError:
            found.append("no")
    os.write(end, json.dumps(found).encode())
    os._exit(0)
open(REPORT, "wb").write(os.read(begin, 999))
"""
    assert workshop.run(attempt + RIGHT, "user")[0] == "0"
    assert workshop.reported() == ["no"] * 4
