"""A name service (tests/lab/flaky.c) that fails in every way that there is, met by the real module."""

from __future__ import annotations

import errno
import os
import signal
import time
from itertools import product
from typing import TYPE_CHECKING

from tests.faults.inside import host
from tests.faults.inside.holder import Holder, login, verdict
from tests.faults.inside.log import Log

if TYPE_CHECKING:
    from collections.abc import Iterator

    Result = dict[str, object]

SWITCH, CONTROL, MEMBERS, CONFIG = "/etc/nsswitch.conf", "/etc/flaky", "/etc/flaky.members", "/etc/pam-totp/config.toml"
# What is asked last hides the failure of what is asked before it, if the C library is asked.
ORDERS = ("files flaky", "flaky files", "files flaky extrausers", "flaky [UNAVAIL=return] files")
TRYAGAIN, UNAVAIL, NOTFOUND = -2, -1, 0
# What getgrnam_r(3) takes for "not found" among it.
NUMBERS = (0, *(getattr(errno, name) for name in ("ENOENT", "ESRCH", "EBADF", "EPERM", "EIO", "EINTR", "EAGAIN")))
MORE_NUMBERS = tuple(
    getattr(errno, name)
    for name in ("ENOMEM", "EMFILE", "ENFILE", "EINVAL", "EACCES", "ETIMEDOUT", "ECONNREFUSED", "EPIPE")
)
# A service that says "not found", and no more, has answered.
PLAIN = (0, errno.ENOENT, errno.ESRCH)
RULES = """
[[rule]]
groups = ["{group}"]
mfa = "require"

[[rule]]
mfa = "skip"
"""


class Switched:
    """The flaky service in nsswitch.conf, and rules that name one of its groups. A context manager."""

    def __init__(self) -> None:
        with open(SWITCH, encoding="ascii") as file:
            self._switch = file.read()

    def __enter__(self) -> Switched:
        _write(MEMBERS, "alice\n")
        return self

    def __exit__(self, *_: object) -> None:
        for path in (CONTROL, MEMBERS):
            if os.path.exists(path):
                os.unlink(path)
        _write(SWITCH, self._switch)
        host.no_configuration()

    def order(self, services: str) -> None:
        """Have these services asked."""
        kept = [line for line in self._switch.split("\n") if line.partition(":")[0] not in ("passwd", "group")]
        _write(SWITCH, "\n".join([*kept, f"passwd: {services}", f"group: {services}", ""]))

    def works(self) -> None:
        """Let the service answer."""
        if os.path.exists(CONTROL):
            os.unlink(CONTROL)

    def fails(self, function: str, status: int = UNAVAIL, number: int = errno.EIO, how: str = "always") -> None:
        """Let a function of the service fail."""
        # In one step: the service may be reading it.
        _write(f"{CONTROL}.new", f"{function} {status} {number} {how}\n")
        os.rename(f"{CONTROL}.new", CONTROL)


def groups(every: bool) -> Result:
    """A rule that asks the members of a group comes before one that skips: nobody gets past it while NSS fails."""
    secret = host.enrolled("alice")
    kept = host.keep()
    problems: list[str] = []
    cases = 0
    with Switched() as switched, Log() as log:
        for order, group in product(ORDERS, ("corpadmins", "corpstaff")):
            switched.order(order)
            _write(CONFIG, RULES.format(group=group))
            for function, status, number in _failures(("group", "initgroups"), every or order == "files flaky"):
                what = f"{order!r}, {group}: {function} {status} {errno.errorcode.get(number, 0)}"
                switched.fails(function, status, number)
                log.lines()
                got, lines = login("alice", None), log.lines()
                cases += 1
                answered = function == "initgroups" and status == NOTFOUND and number in PLAIN
                if not answered and (got != host.AUTHINFO_UNAVAIL or not _logged(lines)):
                    problems.append(f"{what}: {verdict(got)} {lines}")
                # Who is said to be in none of the service's groups, and is in no group's list, is in none.
                if answered and got != (host.IGNORE if group == "corpadmins" else host.CONV_ERR):
                    problems.append(f"{what}: {verdict(got)} {lines}")
            switched.works()
            host.put_back(kept)
            _write(CONFIG, RULES.format(group=group))
            problems += [f"{order!r}, {group}, later: {each}" for each in host.works("alice", secret)]
    host.put_back(kept)
    return {"cases": cases, "pam": cases, "problems": problems}


def flapping(rounds: int) -> Result:
    """A service that fails now and then: a member of the group is asked, or refused, and never let in."""
    host.enrolled("alice")
    problems: list[str] = []
    seen = set()
    cases = 0
    with Switched() as switched:
        for group, function, how in product(("corpadmins", "corpstaff"), ("group", "initgroups"), ("other", "random")):
            switched.order("files flaky")
            _write(CONFIG, RULES.format(group=group))
            switched.fails(function, how=how)
            for _ in range(rounds):
                got = login("alice", None)
                cases += 1
                seen.add(got)
                if got not in (host.AUTHINFO_UNAVAIL, host.CONV_ERR):
                    problems.append(f"{group}: {function} {how}: {verdict(got)}")
    if seen != {host.AUTHINFO_UNAVAIL, host.CONV_ERR}:
        problems.append(f"the service did not flap: {seen}")
    return {"cases": cases, "pam": cases, "problems": problems}


def users(every: bool) -> Result:
    """Who cannot be looked up is not let in, and the log does not call that an unknown user."""
    problems: list[str] = []
    cases = 0
    with Switched() as switched, Log() as log:
        for order in ORDERS:
            switched.works()
            switched.order(order)
            host.enrolled("dora")
            for status, number in _results(every or order == "files flaky"):
                what = f"{order!r}: {status} {errno.errorcode.get(number, 0)}"
                switched.fails("passwd", status, number)
                log.lines()
                got, lines = login("dora", None), log.lines()
                cases += 1
                wanted = host.USER_UNKNOWN if status == NOTFOUND and number in PLAIN else host.AUTHINFO_UNAVAIL
                if got != wanted or (wanted == host.AUTHINFO_UNAVAIL and not _logged(lines)):
                    problems.append(f"{what}: {verdict(got)} {lines}")
            for how in ("other", "random"):
                switched.fails("passwd", how=how)
                for _ in range(10):
                    got = login("dora", None)
                    cases += 1
                    if got not in (host.AUTHINFO_UNAVAIL, host.CONV_ERR):
                        problems.append(f"{order!r}, {how}: {verdict(got)}")
        switched.works()
        host.removed("dora")
    return {"cases": cases, "pam": cases, "problems": problems}


def aliases(every: bool) -> Result:
    """A second name of dora's uid is not let in while it cannot be told whether dora's own name still stands."""
    problems: list[str] = []
    cases = 0
    with open("/etc/passwd", encoding="utf-8") as file:
        passwd = file.read()
    with Switched() as switched, Log() as log:
        _write("/etc/passwd", f"{passwd}dora-alias:x:6001:100::/:/bin/sh\n")
        switched.order("files flaky")
        host.enrolled("dora")
        for status, number in _results(every):
            switched.fails("passwd", status, number)
            log.lines()
            got, lines = login("dora-alias", None), log.lines()
            cases += 1
            answered = status == NOTFOUND and number in PLAIN
            if not answered and (got != host.AUTHINFO_UNAVAIL or not _logged(lines)):
                problems.append(f"{status} {errno.errorcode.get(number, 0)}: {verdict(got)} {lines}")
        switched.works()
        got = login("dora-alias", None)
        if got != host.CONV_ERR:
            problems.append(f"with a service that answers: {verdict(got)}")
        host.removed("dora")
    _write("/etc/passwd", passwd)
    return {"cases": cases, "pam": cases, "problems": problems}


def hanging() -> Result:
    """A login waits for a service that hangs, holds up nobody else, and when it is ended has let nobody in."""
    secrets = {name: host.enrolled(name) for name in ("bob", "alice")}
    kept = host.keep()
    problems: list[str] = []
    cases = 0
    with Switched() as switched:
        switched.order("files flaky")
        for function in ("group", "initgroups"):
            host.put_back(kept)
            _write(CONFIG, RULES.format(group="corpadmins"))
            switched.fails(function, how="hanging")
            with Holder("alice", hold=False) as holder:
                pid = holder.start(None)
                time.sleep(2)
                cases += 1
                with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                    if file.read().rpartition(")")[2].split()[0] == "Z":
                        problems.append(f"{function}: it does not hang")
                switched.works()
                host.no_configuration()  # bob is in none of the groups
                for name, secret in secrets.items():
                    problems += [f"{function}, {name} meanwhile: {each}" for each in host.works(name, secret)]
                os.kill(pid, signal.SIGTERM)
                got = holder.wait()[1]
                if got != -signal.SIGTERM:
                    problems.append(f"{function}: {verdict(got)}")
    host.put_back(kept)
    return {"cases": cases, "pam": cases, "problems": problems}


def _results(every: bool) -> Iterator[tuple[int, int]]:
    yield from product((TRYAGAIN, UNAVAIL, NOTFOUND), NUMBERS + MORE_NUMBERS if every else NUMBERS[:3])


def _failures(functions: tuple[str, ...], every: bool) -> Iterator[tuple[str, int, int]]:
    for function in functions:
        for status, number in _results(every):
            yield function, status, number
        # "The memory for the answer is too small", whatever it is.
        yield function, TRYAGAIN, errno.ERANGE


def _logged(lines: list[str]) -> bool:
    return len(lines) == 1 and "outcome=unavailable reason=nss-unavailable" in lines[0]


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
