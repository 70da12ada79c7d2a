"""A host of a fleet: what the directory publishes for it, and the agent that merges it into the cache.

No login imports it. Nothing here decides about a login.
"""
