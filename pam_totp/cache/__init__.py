"""What is kept about accounts, sealed: the ledger of each, the cache file, the host key, and the copy in ``/run``.

Decides nothing about a login.
"""
