"""Hostile codes, names, arguments, settings and surroundings, met by the real module."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import unicodedata
from typing import TYPE_CHECKING

from tests.faults.inside import host, trace
from tests.faults.inside.holder import REFUSED, Engine, Holder, login, verdict
from tests.faults.inside.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    Result = dict[str, object]

ARABIC = {ord(digit): 0x0660 + int(digit) for digit in "0123456789"}
FULL_WIDTH = {ord(digit): 0xFF10 + int(digit) for digit in "0123456789"}
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _codes(right: str) -> list[bytes | None]:
    """What is no code: the right one written differently among it, and all kinds of length."""
    texts = [
        *("7" * length for length in range(21) if length != 6),
        *("7" * length for length in (100, 512, 1024, 65_536, 1_048_576)),
        *(right.translate(digits) for digits in (ARABIC, FULL_WIDTH, SUPERSCRIPT)),
        *(right[:5] + right[5].translate(digits) for digits in (ARABIC, FULL_WIDTH, SUPERSCRIPT)),
        *(f"{sign}{right[1:]}" for sign in "+-."),
        *(f"{sign}{right}" for sign in "+-' \t\v\f\0\ufeff\u200b\u202e"),
        *(f"{right}{end}" for end in (" ", "\t", "\r\n", "\r", "\n", "0", ".0", "e0", "\u200b", "\u0301", "a")),
        *(f"{right[:at]} {right[at:]}" for at in (1, 2, 4, 5)),
        *(f"{right[:3]}{space}{right[3:]}" for space in ("\t", "  ", "-", "_", "\u00a0", "\u2009", "\n")),
        *("0x" + right[2:], right[:3] + "," + right[3:], "1e5000", "'; DROP TABLE account; --", "%s%n%x", "../../etc"),
        *("aaaaa-aaaaa", "AAAAA AAAAA", "22222-2222a", "$(reboot)", "\x1b[2J", "NaN", "None", "true", "null"),
    ]
    raw = [
        right[:3].encode() + b"\0" + right[3:].encode(),
        b"\xff" * 6,
        right[:5].encode() + b"\xb2",
        b"\xed\xb2\x80",
        b"\xc0\xb1",
    ]
    return [*(text.encode("utf-8", "surrogatepass") for text in texts), *raw, None, REFUSED]


def codes(rounds: int) -> Result:
    """None is accepted, none raises, none reaches the log, and none that has not the form of a code is a guess."""
    secret = host.enrolled("alice")
    kept = host.keep()
    problems = []
    cases = 0
    for _ in range(rounds):
        with Holder("alice") as holder, Log() as log:
            right = host.code(secret, host.step_now())
            for answer in _codes(right):
                cases += 1
                host.put_back(kept)
                log.lines()
                got = holder.login(answer)
                lines = log.lines()
                shown = repr(answer[:40] if answer else answer)
                if got not in (host.AUTH_ERR, host.CONV_ERR):
                    problems.append(f"{shown}: {verdict(got)} {lines}")
                text = "" if answer is None else answer.decode("utf-8", "replace").strip("\r\n\0 ")
                if not lines or any("internal-error" in line for line in lines):
                    problems.append(f"{shown}: {lines}")
                if len(text) >= 4 and any(text[:200] in line or right in line for line in lines):
                    problems.append(f"{shown} is in the log: {lines}")
            # An answer of the form of a recovery code is a guess; nothing else is.
            host.put_back(kept)
            holder.login(b"77777")
            if host.View("alice").row:
                problems.append("a malformed answer counts as a guess")
    return {"cases": cases, "problems": problems}


NFC, NFD = "z\u00f6e", unicodedata.normalize("NFD", "z\u00f6e")
PASSWD = (
    ("zoe-alias", 7001),
    (NFC, 7001),
    (NFD, 7002),
    ("4711", 7003),
    ("ALICE", 7004),
    ("heir", 7005),
    ("renamed", 7006),
    ("a" * 32, 7007),
    ("ali.ce", 7008),
)
NOBODY = [
    *("", ".", "..", "/", "a/b", "../alice", "alice/..", "./alice", "/etc/passwd", "~alice", "alice:x", ":alice"),
    *("alice\n", "\nalice", "alice\nbob", "ali\x1b[31mce", "\x1b]0;x\x07", "alice\r", "alice\t", " alice", "alice "),
    *("%s", "%n%n%n", "%99999d", "alice%00", "$(id)", "`id`", "alice;id", "-alice", "--help", "*", "?", "a" * 256),
    *("a" * 255, "a" * 5120, "alice\u200b", "al\u0456ce", "\u202ealice", "Alice", "aLICE", "alice@lab", "lab\\alice"),
    *(
        "user=bob outcome=accepted",
        'alice" outcome="accepted',
        "alice\\",
        "0",
        "+7001",
        "07003",
        "root\0",
        "nobody\x7f",
    ),
]
RAW = [b"\xff\xfe", b"alice\xff", b"\xc0\x80", b"\xed\xa0\x80", b"ali\x80ce", b"z\xf6e"]


def names() -> Result:
    """No path, state or log comes of a name; and no other spelling lets an enrolled user in without a code."""
    with open("/etc/passwd", "ab") as passwd:
        passwd.write("".join(f"{name}:x:{uid}:100::/:/bin/sh\n" for name, uid in PASSWD).encode())
    secret = host.enrolled("alice")
    problems: list[str] = []
    cases = 0
    before = _state()
    with Log() as log:
        for each in [*(name.encode() for name in NOBODY), *RAW]:
            cases += 1
            log.lines()
            got = login(os.fsdecode(each.split(b"\0")[0]), host.code(secret, host.step_now() + 1))
            lines = log.lines()
            if got != host.USER_UNKNOWN and not (each[:1] == b"" and got == host.CONV_ERR) and b"\0" not in each:
                problems.append(f"{each[:40]!r}: {verdict(got)}")
            problems += [f"{each[:40]!r}: {problem}" for problem in _injected(lines)]
    if _state() != before:
        problems.append(f"files appeared: {set(_state()) ^ set(before)}")
    cases += len(PASSWD)
    problems += _spellings()
    return {"cases": cases, "problems": problems}


def _state() -> list[str]:
    return sorted(os.path.join(top, name) for top in host.DIRECTORIES for name in os.listdir(top))


def _injected(lines: list[str]) -> list[str]:
    ours = [line for line in lines if "pam_totp(" in line]
    if len(ours) != 1:
        return [f"{len(ours)} lines: {ours}"]
    line = re.sub(r'"[^"]*"', '""', ours[0].rstrip("\0\n"))
    if not line.isascii() or not line.isprintable() or len(line) > 2000 or line.count(" outcome=") != 1:
        return [f"not one clean line: {line!r}"]
    return []


def _spellings() -> list[str]:
    """Other names of enrolled users: the same user is asked, another is another, a former one is no one."""
    problems = []

    def expect(name: str, secret: bytes, wanted: int, what: str) -> None:
        got = login(name, host.code(secret, host.step_now() + 1))
        if got != wanted:
            problems.append(f"{what}: {verdict(got)} instead of {verdict(wanted)}")

    nobody = b"0" * 20
    zoe = host.enrolled(NFC)
    expect("zoe-alias", nobody, host.AUTH_ERR, "another name of the uid, wrong code")
    expect("zoe-alias", zoe, host.SUCCESS, "another name of the uid, right code")
    expect(NFC, zoe, host.AUTH_ERR, "the same code under the own name")
    expect(NFD, nobody, host.IGNORE, "the decomposed spelling, which is another user")
    number = host.enrolled("4711")
    expect("4711", nobody, host.AUTH_ERR, "a name of digits, wrong code")
    expect("4711", number, host.SUCCESS, "a name of digits, right code")
    expect("7003", number, host.USER_UNKNOWN, "the uid in the place of the name")
    expect("ALICE", nobody, host.IGNORE, "a name in capitals, which is another user")
    heir = host.enrolled("heir")
    _rename("heir", "successor")
    expect("heir", heir, host.USER_UNKNOWN, "a deleted user")
    expect("successor", nobody, host.AUTHINFO_UNAVAIL, "a user who was renamed, or has a deleted one's uid")
    _rename("successor", "heir")
    expect("heir", nobody, host.AUTH_ERR, "the deleted user, back again")
    renamed = host.enrolled("renamed")
    _renumber("renamed", 7006, 7106)
    expect("renamed", renamed, host.AUTHINFO_UNAVAIL, "a name with another uid than was enrolled")
    return problems


def _rename(old: str, new: str) -> None:
    _passwd(lambda text: text.replace(f"\n{old}:", f"\n{new}:"))


def _renumber(name: str, old: int, new: int) -> None:
    _passwd(lambda text: text.replace(f"\n{name}:x:{old}:", f"\n{name}:x:{new}:"))


def _passwd(change: Callable[[str], str]) -> None:
    with open("/etc/passwd", "r+", encoding="utf-8") as file:
        text = change(file.read())
        file.seek(0)
        file.truncate()
        file.write(text)


ARGUMENTS = [
    *("first_factor", "first_factor=", "first_factor=password", "first_factor=publickey first_factor=publickey"),
    *("FIRST_FACTOR=publickey", "first_factor=publickey,", "first-factor=publickey", "debug", "nullok", "[a b]"),
    *("combined=", "combined=both", "combined=verify", "combined=split combined=verify", "=", "==", "-x", "\xe9"),
    *("a" * 500, "first_factor=publickey\u200b", "%s%n", "unenrolled=skip", "config=/tmp/x", "use_first_pass"),
]
SETTINGS = [
    *("window = 11", "window = -1", "window = '1'", "window = true", "window = 1.0", "window = 99999999999999999999"),
    *("unenrolled = 'open'", "unenrolled = ''", "unenrolled = ['skip']", "lock_after = 0", "prompt = ''", "prompt = 1"),
    *(
        "wimdow = 1",
        "[window]",
        "window = 1\nwindow = 2",
        "[",
        "=",
        "\0",
        "\xff",
        "a" * 2000,
        "[[rule]]\nmfa = 'maybe'",
    ),
    *("[[rule]]\nusers = []", "[[rule]]\nnetworks = ['10.0.0.1/8']", "rule = 1", "[rule]", "[[rule]]\nx = 1"),
    *(
        "[enrollment]\nperiod = '0d'",
        "enrollment = 1",
        "remember = '1s'",
        "remember = 60",
        "[" * 5000,
        "x = " + "[" * 5000,
    ),
]


def settings() -> Result:
    """Arguments and settings that are not understood: everybody is refused, and the log says what is allowed."""
    secret = host.enrolled("alice")
    host.removed("bob")
    problems = []
    with Log() as log:
        for argument in ARGUMENTS:
            with open("/etc/pam.d/lab-hostile", "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(f"auth [success=done ignore=ignore default=die] {Engine.module} {argument}\n")
                file.write("auth [default=die] pam_debug.so auth=authtok_expired\n")
            for name in ("alice", "bob"):
                log.lines()
                with Holder(name, hold=False, service="lab-hostile") as holder:
                    got = holder.login(host.code(secret, host.step_now() + 1))
                problems += _refused(f"{name}, argument {argument[:40]!r}", got, log.lines())
        for text in SETTINGS:
            with open(host.PATHS.config, "w", encoding="latin-1") as file:
                file.write(text)
            for name in ("alice", "bob"):
                log.lines()
                got = login(name, host.code(secret, host.step_now() + 1))
                problems += _refused(f"{name}, setting {text[:40]!r}", got, log.lines())
            said = subprocess.run(["pam-totp", "check", "alice"], input=b"1\n", check=False, capture_output=True)
            if said.returncode != 3 or b"Traceback" in said.stderr or b"config.toml" not in said.stderr:
                problems.append(f"{text[:40]!r}: pam-totp check: {said.returncode} {said.stderr[:200]!r}")
    host.no_configuration()
    problems += host.works("alice", secret)
    return {"cases": len(ARGUMENTS) + len(SETTINGS), "pam": 2 * (len(ARGUMENTS) + len(SETTINGS)), "problems": problems}


def _refused(what: str, got: int, lines: list[str]) -> list[str]:
    if got == host.SERVICE_ERR and any("reason=bad-config" in line for line in lines):
        return []
    return [f"{what}: {verdict(got)} {lines}"]


LIMITS = {
    **{f"at most {number} open files": f"--nofile={number}" for number in (3, 4, 5, 6, 7, 8, 10, 12)},
    **{f"{size} MB of address space": f"--as={size << 20}" for size in (16, 18, 20, 22, 24, 32)},
    "no file may grow": "--fsize=0",
    "files may grow to 64 KB": "--fsize=65536",
    "64 KB of stack": "--stack=65536",
    "no more processes": "--nproc=0",
    "no memory may be locked": "--memlock=0",
    "no core file": "--core=0",
}
PLACES = {
    "umask 000": 'umask 000; exec "$@"',
    "umask 777": 'umask 777; exec "$@"',
    "a directory that is gone": 'mkdir /run/lab/gone; cd /run/lab/gone; rmdir ../gone; exec "$@"',
    "a directory full of modules": 'cd /run/lab/evil; exec "$@"',
}
EVIL = "/run/lab/evil"
STOLEN = "/run/lab/stolen"
MODULES = (
    "pam_totp",
    "sqlite3",
    "_sqlite3",
    "json",
    "syslog",
    "pwd",
    "os",
    "site",
    "sitecustomize",
    "encodings",
    "nacl",
)


def make_evil() -> None:
    """Modules and programs that would betray that they were loaded."""
    os.makedirs(f"{EVIL}/bin", exist_ok=True)
    for name in MODULES:
        with open(f"{EVIL}/{name}.py", "w", encoding="ascii") as file:
            file.write(f"open({STOLEN!r}, 'a').write({name!r})\n")
    for name in ("python3", "python", "python3.11", "python3.13"):
        with open(f"{EVIL}/bin/{name}", "w", encoding="ascii") as file:
            file.write(f"#!/bin/sh\necho python >>{STOLEN}\n")
        os.chmod(f"{EVIL}/bin/{name}", 0o755)


def surroundings() -> Result:
    """Limits, directories and masks: a right code is accepted and charged, or denied; never is nobody asked."""
    make_evil()
    secret = host.enrolled("alice")
    kept = host.keep()
    problems = []
    seen = {}
    for what in (*LIMITS, *PLACES):
        host.put_back(kept)
        step = host.step_now()
        code = host.code(secret, step)
        got = (
            _limited(code, LIMITS[what])
            if what in LIMITS
            else login("alice", code, under=("sh", "-c", PLACES[what], "sh"))
        )
        seen[what] = verdict(got)
        spent = host.spent("alice", step)
        if got == host.IGNORE or (got == host.SUCCESS and not spent):
            problems.append(f"{what}: {verdict(got)}, {host.View('alice')}")
        if host.let_in(host.attempt("alice", code)) is spent:
            problems.append(f"{what}: {verdict(got)}, spent is {spent}, and the code again says otherwise")
        for top in host.DIRECTORIES[1:]:
            for name in os.listdir(top):
                mode = stat.S_IMODE(os.lstat(os.path.join(top, name)).st_mode)
                if mode & 0o077:
                    problems.append(f"{what}: {name} has mode {mode:o}")
        problems += [f"{what}: {problem}" for problem in host.works("alice", secret)]
    if os.path.exists(STOLEN):
        problems.append("a module from the current directory was loaded")
    return {"cases": len(seen), "seen": seen, "problems": problems}


def _limited(code: str, limit: str) -> int:
    with Holder("alice", hold=False) as holder:
        pid = holder.start(code, "stop")
        while trace.state(pid) != "T":
            pass
        subprocess.run(["prlimit", f"--pid={pid}", limit], check=True)
        os.kill(pid, signal.SIGCONT)
        return holder.wait()[1]


def closed() -> Result:
    """Standard input, output and error closed, one by one and together."""
    secret = host.enrolled("alice")
    kept = host.keep()
    problems = []
    combinations = [[0], [1], [2], [0, 1], [1, 2], [0, 2], [0, 1, 2]]
    for closing in combinations:
        host.put_back(kept)
        with Holder("alice", hold=False) as holder:
            holder.close(closing)
            got = holder.login(host.code(secret, host.step_now()))
        if got != host.SUCCESS:
            problems.append(f"{closing} closed: {verdict(got)}")
        if host.View("alice").damage:
            problems.append(f"{closing} closed: {host.View('alice')}")
        problems += host.works("alice", secret)
    return {"cases": len(combinations), "problems": problems}
