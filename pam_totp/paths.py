"""Where things are on a host. Tests hand in another instance; nothing else may name these paths."""

from __future__ import annotations


class Paths:
    """The files of one installation, and the uid that must own them (0 on every real host)."""

    __slots__ = ("cache", "config", "key", "owner", "run")

    def __init__(
        self,
        key: str = "/etc/pam-totp/key",
        config: str = "/etc/pam-totp/config.toml",
        cache: str = "/var/lib/pam-totp/cache.db",
        run: str = "/run/pam-totp",
        owner: int = 0,
    ) -> None:
        self.key = key
        self.config = config
        self.cache = cache
        self.run = run
        self.owner = owner

    @classmethod
    def below(cls, root: str, owner: int) -> Paths:
        """The same layout below another directory."""
        here = cls()
        return cls(root + here.key, root + here.config, root + here.cache, root + here.run, owner)
