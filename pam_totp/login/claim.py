"""What a login on a host of a fleet says to the agent: which code it is about to accept, and how it ended.

Imported only on such a host. Each message is one packet, of fields with a NUL between; so is the answer. The socket is
below ``/run/pam-totp``, where only root can put one. A login waits 250 ms at most, and then decides alone.
"""

from __future__ import annotations

import posix as os  # the system calls alone: os itself costs a login 1 to 2 ms
import sys
from _socket import AF_UNIX, SO_PEERCRED, SOCK_SEQPACKET, SOL_SOCKET, socket

SOCKET = "agent/claim.sock"  # below Paths.run
# Together 250 ms: a listening agent takes a connection at once, and asks the directory for as long as is left.
_CONNECT_SECONDS = 0.03
_ANSWER_SECONDS = 0.22
_MOST = 4096
ANSWERS = (b"yes", b"no", b"off")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from pam_totp.host.paths import Paths

    # "yes": nobody else has used the code; "no": it was used elsewhere; "off": the directory wants no claims;
    # "unknown": it could not be asked.
    Answer = Literal["yes", "no", "off", "unknown"]


def claim(paths: Paths, host: str, *fields: str) -> Answer:
    """Claim a code for this login alone: ``code``, authenticator, step; or ``recovery``, name, hash. Never raises.

    ``host`` is the stamp of the identity that the cache has: the agent need not read the cache to know who asks.
    """
    answer = _exchange(paths, ("claim", host, os.urandom(16).hex(), *fields))
    if answer == b"yes":
        return "yes"
    if answer == b"no":
        return "no"
    return "off" if answer == b"off" else "unknown"


def tell(paths: Paths, account: str, line: str) -> None:
    """Tell the agent how a login ended, as it was logged. Never raises; what the agent misses is in the log."""
    _exchange(paths, ("event", account, line), answer=False)


def _exchange(paths: Paths, fields: tuple[str, ...], answer: bool = True) -> bytes:
    try:
        end = socket(AF_UNIX, SOCK_SEQPACKET)
    except OSError:
        return b""
    try:
        end.settimeout(_CONNECT_SECONDS)
        end.connect(f"{paths.run}/{SOCKET}")
        credentials = end.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
        if int.from_bytes(credentials[4:8], sys.byteorder) != paths.owner:
            return b""
        end.send("\0".join(fields).encode("utf-8", "surrogateescape")[:_MOST])
        if not answer:
            return b""
        end.settimeout(_ANSWER_SECONDS)
        return end.recv(16)
    except (OSError, ValueError):
        return b""
    finally:
        end.close()
