"""What ``pam-totp doctor`` finds in a real Debian, and what mends it."""
