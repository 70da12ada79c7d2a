"""The host that a login happens on: files and how they are opened safely, settings, NSS, PAM stacks, clocks.

Knows nothing of accounts or codes.
"""
