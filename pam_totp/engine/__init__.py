"""How PAM reaches a login: the hooks, and what calls them.

The only room that knows what PAM is.
"""
