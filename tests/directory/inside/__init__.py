"""Runs in a Debian 13 that tests/directory/lane.py has made."""
