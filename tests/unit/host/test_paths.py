"""Where things are."""

from __future__ import annotations

from pam_totp.host.paths import Paths


def test_a_host_has_its_files_where_the_documentation_says_and_root_owns_them() -> None:
    paths = Paths()
    assert paths.key == "/etc/pam-totp/key"
    assert paths.config == "/etc/pam-totp/config.toml"
    assert paths.cache == "/var/lib/pam-totp/cache.db"
    assert paths.run == "/run/pam-totp"
    assert paths.socket == "/run/pam-totp-self.sock"
    assert paths.unsealed == "/run/pam-totp-key/key"
    assert paths.owner == 0


def test_the_same_layout_fits_below_another_directory() -> None:
    paths, below = Paths(), Paths.below("/srv/root", 1000)
    for name in ("key", "config", "cache", "run", "socket", "unsealed"):
        assert getattr(below, name) == "/srv/root" + getattr(paths, name)
    assert below.owner == 1000
