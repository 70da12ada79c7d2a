"""The directory's configuration file."""

from __future__ import annotations

import pytest

from pam_totp.directory import config
from pam_totp.errors import ConfigError

_WRONG_PROVIDERS: tuple[dict[str, object], ...] = (
    {"issuer": "http://auth.example.org"},
    {"issuer": "https://"},
    {"issuer": "https://user:pass@auth.example.org"},
    {"issuer": "https://auth.example.org/?x=1"},
    {"client_id": ""},
    {"client_id": 7},
    {"client_secret": "pass@"},
    {"client_secret_file": "secret"},
    {"claim": ""},
    {"acr": "mfa"},
    {"acr": []},
    {"amr": [""]},
    {"amr": [1]},
    {"acrs": ["mfa"]},
)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"name": ""},
        {"name": 7},
        {"name": "dir", "nam": "x"},
        {"name": "dir", "workers": True},
        {"name": "dir", "workers": 0},
        {"name": "dir", "manifest_days": 366},
        {"name": "dir", "tree": "http://cdn.example.org"},
        {"name": "dir", "listen": "nowhere"},
        {"name": "dir", "database": "mysql://h/d"},
        {"name": "dir", "database": "postgresql://user:pass@host"},
        {"name": "dir", "mail": "mail.example.org"},
        {"name": "dir", "mail": {"server": "m"}},
        {"name": "dir", "mail": {"from": "a@b"}},
        {"name": "dir", "mail": {"server": "m", "from": "a@b\nBcc: c@d"}},
        {"name": "dir", "mail": {"server": "m", "from": "a@b", "tls": "no"}},
        {"name": "dir", "mail": {"server": "m", "from": "a@b", "tls": "none"}},
        {
            "name": "dir",
            "mail": {"server": "localhost", "from": "a@b", "tls": "none", "user": "u", "password_file": "p"},
        },
        {"name": "dir", "mail": {"server": "m", "from": "a@b", "user": "u"}},
        {"name": "dir", "mail": {"server": "m", "from": "a@b", "password": "pass@"}},
        {"name": "dir", "mail": {"server": "m", "from": "a@b", "port": 1 << 16}},
        {"name": "dir", "mail": {"server": "m", "from": "a@b", "reminders": [True]}},
        {"name": "dir", "mail": {"server": "m", "from": "a@b", "reminders": [366]}},
        {"name": "dir", "oidc": "https://auth.example.org"},
        {"name": "dir", "oidc": {}},
        *(
            {"name": "dir", "oidc": {"issuer": "https://auth.example.org", "client_id": "dir", **wrong}}
            for wrong in _WRONG_PROVIDERS
        ),
    ],
)
def test_what_is_not_understood_is_refused_without_showing_a_password(content: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as refused:
        config.of(content)
    assert "pass@" not in str(refused.value)


def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    provider = {"issuer": "https://auth.example.org/", "client_id": "dir", "amr": ["otp", 'a "b"']}
    mail = {"server": "m", "from": "a@b", "tls": "implicit", "reminders": [0, 2]}
    content: dict[str, object] = {"name": "dir.example.org", "issuer": 'A "b" \\c', "workers": 3}
    made = config.of({**content, "listen": "127.0.0.1:8443", "mail": mail, "oidc": provider})
    path = tmp_path_factory.mktemp("config") / "directory.toml"
    path.write_text(config.text(made), encoding="utf-8")
    assert config.load(str(path)) == made
    assert (made.mail.place, made.mail.sender, made.mail.reminders) == (("m", 465), "a@b", (2, 0))
    assert made.url == "https://dir.example.org:8443"
    assert made.oidc.amr == ("otp", 'a "b"')


def test_a_database_is_named_by_one_line() -> None:
    made = config.of({"name": "dir", "database": "postgresql://u:p%40ss@db.example.org:5433/totp"})
    found = made.databases()["default"]
    assert (found["NAME"], found["USER"], found["PASSWORD"], found["HOST"], found["PORT"]) == (
        *("totp", "u", "p@ss", "db.example.org", "5433"),
    )
