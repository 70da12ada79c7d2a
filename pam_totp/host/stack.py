"""What a service's PAM stack says about this module: read as text, never changed."""

from __future__ import annotations

from pam_totp.errors import ConfigError
from pam_totp.host import files

_LIMIT = 1 << 16
MODULE = "pam_totp.py"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_totp.host.paths import Paths


def lines_of_ours(text: str) -> list[tuple[str, list[str]]]:
    """The lines that load this module, in order: the kind of line (auth, account, ...) and the module's arguments."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.partition("#")[0].split()
        scripts = [number for number, word in enumerate(words) if word.rpartition("/")[2] == MODULE]
        if scripts and words:
            found.append((words[0].lstrip("-").lower(), words[scripts[0] + 1 :]))
    return found


def require_verification(service: str, paths: Paths) -> None:
    """Make sure that a stack that takes a code off the password also verifies it, and denies where it was not.

    The first of the three lines alone would let the password alone in, so it refuses to work without the other two:
    an ``auth`` and an ``account`` line with ``combined=verify``, in the service's own file.

    Raises ConfigError.
    """
    path = f"{paths.services}/{service}"
    try:
        if not service or "/" in service:
            raise FileNotFoundError
        text = files.read(path, paths.owner, _LIMIT, private=False).decode("utf-8", "replace")
    except (OSError, files.UnsafeFileError):
        raise ConfigError(f"combined=split: {path} cannot be read safely: make it a plain file of root's") from None
    ours = lines_of_ours(text)
    split = [number for number, (_, arguments) in enumerate(ours) if "combined=split" in arguments]
    after = ours[split[-1] + 1 :] if split else []
    for kind in ("auth", "account"):
        if (kind, ["combined=verify"]) not in after:
            raise ConfigError(
                f"combined=split needs a line with combined=verify of the kind {kind} after it in {path}: add it there"
            )
