"""PAM transactions made by a small C program (transactions.c), several in one process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.lab.pam import alone

if TYPE_CHECKING:
    from tests.lab.machine import Machine

SOURCE = Path(__file__).with_name("transactions.c")
PROGRAM = "/usr/local/sbin/transactions"
# security/_pam_types.h of Linux-PAM; PAM_AUTHTOK_EXPIRED stands for PAM_IGNORE in a service made by `alone`.
CODES = {
    0: "PAM_SUCCESS",
    3: "PAM_SERVICE_ERR",
    6: "PAM_PERM_DENIED",
    7: "PAM_AUTH_ERR",
    9: "PAM_AUTHINFO_UNAVAIL",
    10: "PAM_USER_UNKNOWN",
    19: "PAM_CONV_ERR",
    26: "PAM_ABORT",
    27: "PAM_IGNORE",
}


@dataclass(frozen=True)
class Transaction:
    """One login: `manner` is what the conversation does at a prompt, "answer", "nothing", "refuse" or "abort"."""

    user: str
    answer: str = ""
    rhost: str = ""
    auth_info: str = ""
    manner: str = "answer"


@dataclass(frozen=True)
class Returned:
    """What pam_authenticate returned, how many prompts there were, and everything that was shown, with | between."""

    code: str
    prompts: int
    shown: str


class Daemon:
    """A running program that makes transactions. A context manager."""

    def __init__(self, machine: Machine, service: str = "") -> None:
        """The service is by default one that returns what the module returns."""
        if machine.run(["test", "-x", PROGRAM], check=False).returncode:
            machine.write("/root/transactions.c", SOURCE.read_bytes())
            machine.run(["tcc", "-Wall", "-Werror", "-o", PROGRAM, "/root/transactions.c", "-lpam"])
        self._process = machine.popen([PROGRAM, service or alone(machine)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def log_in(self, wanted: Transaction) -> Returned:
        """Make one transaction."""
        fields = [wanted.user, wanted.rhost, wanted.auth_info, wanted.manner, wanted.answer]
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\t".join(fields) + "\n")
        self._process.stdin.flush()
        code, prompts, shown = self._process.stdout.readline().rstrip("\n").split("\t", 2)
        return Returned(CODES.get(int(code), code), int(prompts), shown)


def transactions(machine: Machine, *wanted: Transaction) -> list[Returned]:
    """Make these transactions in one process."""
    with Daemon(machine) as daemon:
        return [daemon.log_in(each) for each in wanted]
