"""PAM transactions without sshd, by pamtester: what a stack returns, which sshd hides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.lab.machine import Machine
    from tests.lab.user import User

# libpam/pam_strerror.c of Linux-PAM 1.5.2 and 1.7.0
CODES = {
    "Success": "PAM_SUCCESS",
    "Failed to load module": "PAM_OPEN_ERR",
    "Symbol not found": "PAM_SYMBOL_ERR",
    "Error in service module": "PAM_SERVICE_ERR",
    "System error": "PAM_SYSTEM_ERR",
    "Memory buffer error": "PAM_BUF_ERR",
    "Permission denied": "PAM_PERM_DENIED",
    "Authentication failure": "PAM_AUTH_ERR",
    "Insufficient credentials to access authentication data": "PAM_CRED_INSUFFICIENT",
    "Authentication service cannot retrieve authentication info": "PAM_AUTHINFO_UNAVAIL",
    "User not known to the underlying authentication module": "PAM_USER_UNKNOWN",
    "Have exhausted maximum number of retries for service": "PAM_MAXTRIES",
    "Authentication token is no longer valid; new one required": "PAM_NEW_AUTHTOK_REQD",
    "User account has expired": "PAM_ACCT_EXPIRED",
    "Cannot make/remove an entry for the specified session": "PAM_SESSION_ERR",
    "Authentication service cannot retrieve user credentials": "PAM_CRED_UNAVAIL",
    "User credentials expired": "PAM_CRED_EXPIRED",
    "Failure setting user credentials": "PAM_CRED_ERR",
    "No module specific data is present": "PAM_NO_MODULE_DATA",
    "Bad item passed to pam_*_item()": "PAM_BAD_ITEM",
    "Conversation error": "PAM_CONV_ERR",
    "Authentication token manipulation error": "PAM_AUTHTOK_ERR",
    "Critical error - immediate abort": "PAM_ABORT",
    "Module is unknown": "PAM_MODULE_UNKNOWN",
    # not its own name: see `alone`
    "Authentication token expired": "PAM_IGNORE",
}
SERVICE = "lab"
# What a PAM line names: our own engine, which is recommended, and the alternative.
OURS = "pam_totp.so"
PAM_PYTHON = "pam_python.so pam_totp.py"


@dataclass(frozen=True)
class PamResult:
    """`code` is the PAM constant's name that the (first failing) operation returned; `screen` is all that was shown."""

    code: str
    screen: str


def service(machine: Machine, *lines: str, name: str = SERVICE) -> str:
    """Write a PAM service of these lines; return its name."""
    machine.write(f"/etc/pam.d/{name}", "".join(f"{line}\n" for line in lines))
    return name


def alone(machine: Machine, module: str = "", *, name: str = SERVICE) -> str:
    """Write a PAM service whose `authenticate` and `setcred` return what the module returns; return its name.

    The module is by default the machine's. libpam makes PAM_PERM_DENIED of a stack that only ignores: so the module is
    followed by another, which returns PAM_AUTHTOK_EXPIRED. `pamtester` reports that as PAM_IGNORE.
    """
    return service(
        machine,
        f"auth [success=done ignore=ignore default=die] {module or machine.module}",
        "auth [default=die] pam_debug.so auth=authtok_expired cred=authtok_expired",
        name=name,
    )


def pamtester(
    machine: Machine,
    name: str,
    user: str | User,
    *operations: str,
    answers: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    rhost: str = "",
    prefix: Sequence[str] = (),
    timeout: float = 60,
) -> PamResult:
    """Run PAM operations (`authenticate` if none is named) of a service, answering its prompts in turn.

    `env` is put into the PAM environment, as sshd does with SSH_AUTH_INFO_0; `prefix` is a command to run it under, as
    in ["strace", "-f"].
    """
    argv = [*prefix, "pamtester", "-v", *(("-I", f"rhost={rhost}") if rhost else ())]
    argv += [f"-E{key}={value}" for key, value in (env or {}).items()]
    argv += [name, str(user), *(operations or ("authenticate",))]
    done = machine.run(argv, input="".join(f"{answer}\n" for answer in answers), check=False, timeout=timeout)
    screen = done.stdout + done.stderr
    if done.returncode == 0:
        return PamResult("PAM_SUCCESS", screen)
    said = re.findall(r"^(?:.*: )?pamtester: (.+)$", done.stderr, re.MULTILINE)
    found = [CODES[text] for text in said if text in CODES]
    return PamResult(found[-1] if found else "", screen)
