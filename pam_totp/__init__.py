"""TOTP multi-factor authentication for SSH logins, enforced on the host, also without a network."""

__version__ = "0.2.0.dev0"
