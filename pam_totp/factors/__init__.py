"""What proves who somebody is: codes, recovery codes, invitations, public keys, and how a new key comes to be.

Reads no clock and asks nobody.
"""
