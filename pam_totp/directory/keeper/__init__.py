"""The keeper: a small process of its own that alone holds the directory's keys. It opens secrets, and signs.

Whoever asks it gets what its requests give, and no key. The web process is one that asks.
"""
