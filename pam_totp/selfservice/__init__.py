"""``pam-totp self``: what users do with their own authenticators, behind a socket.

The service is root; the wire between is all that its caller can reach.
"""
