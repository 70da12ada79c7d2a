"""Moving authenticators in and out: other programs' files, encrypted exports, and backups of key and cache.

One module per foreign format, each pure: it is handed bytes, and gives what it understands or says why it does not.
Nothing here is loaded at a login.
"""
