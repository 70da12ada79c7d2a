"""Where things are on a host. Tests hand in another instance; nothing else may name these paths."""

from __future__ import annotations


class Paths:
    """The files of one installation, and the uid that must own them (0 on every real host)."""

    __slots__ = ("cache", "config", "drop_ins", "key", "marker", "owner", "run", "services", "socket", "unsealed")

    def __init__(
        self,
        key: str = "/etc/pam-totp/key",
        config: str = "/etc/pam-totp/config.toml",
        cache: str = "/var/lib/pam-totp/cache.db",
        run: str = "/run/pam-totp",
        owner: int = 0,
        socket: str = "/run/pam-totp-self.sock",
        services: str = "/etc/pam.d",
        drop_ins: str = "/etc/ssh/sshd_config.d",
        marker: str = "/var/lib/misc/pam-totp",
        unsealed: str = "/run/pam-totp-key/key",
    ) -> None:
        self.key = key
        self.config = config
        self.cache = cache
        self.run = run
        self.owner = owner
        self.socket = socket
        self.services = services
        self.drop_ins = drop_ins
        self.marker = marker
        self.unsealed = unsealed

    @classmethod
    def below(cls, root: str, owner: int) -> Paths:
        """The same layout below another directory."""
        here = cls()
        paths = (here.key, here.config, here.cache, here.run, here.socket, here.services, here.drop_ins, here.marker)
        key, config, cache, run, socket, services, drop_ins, marker = (root + path for path in paths)
        return cls(key, config, cache, run, owner, socket, services, drop_ins, marker, root + here.unsealed)
