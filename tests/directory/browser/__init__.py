"""Runs in a Debian 13 with Chromium that tests/directory/lane.py has made."""
