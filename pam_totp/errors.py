"""What can go wrong, each with the reason that is logged and the exit code of the command line.

Messages are read by administrators: lower case, no full stop, followed by what to do next. None ever holds a secret or
a code.
"""

from __future__ import annotations


class PamTotpError(Exception):
    """Base of every error of this package; never raised itself.

    ``reason`` is the stable word for the log (docs/log.md); ``exit_code`` is the command's.
    """

    reason = "internal-error"
    exit_code = 3

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class UsageError(PamTotpError):
    """The command was called with something it does not take."""

    reason = "usage"
    exit_code = 2


class ConfigError(PamTotpError):
    """The configuration file or a module argument is not understood."""

    reason = "bad-config"


class HostKeyError(PamTotpError):
    """The host key is missing, malformed, or not kept private."""

    reason = "key-unusable"


class CacheError(PamTotpError):
    """The cache is missing, malformed, not kept private, or its parts do not agree."""

    reason = "cache-unusable"


class CacheReadOnlyError(CacheError):
    """The cache can be read but not written now: the disk is full or read-only. Nothing was changed."""

    reason = "cache-not-writable"


class DamageError(CacheError):
    """A record or the roster does not open, or rows and roster disagree.

    All causes look alike on purpose: a wrong key, another host's record, an edited or a rotted byte.
    """

    reason = "cache-damaged"


class ChargeError(PamTotpError):
    """The attempt could be recorded nowhere, so its outcome must not be told."""

    reason = "not-chargeable"


class LockTimeoutError(PamTotpError):
    """Another login of the same user held the lock for too long."""

    reason = "lock-timeout"


class NameServiceError(PamTotpError):
    """NSS could not say whether a user exists, or which groups a user is in."""

    reason = "nss-unavailable"


class WireError(PamTotpError):
    """The other end of a self-service connection sent something else than the protocol."""

    reason = "bad-message"


class FleetError(PamTotpError):
    """The directory, or what it or somebody in its place has sent, is not to be had or not to be used.

    The state that was good last stays in force.
    """

    reason = "fleet-unusable"


class KeeperError(PamTotpError):
    """The directory's keeper refuses a request, or does not answer."""

    reason = "keeper"
