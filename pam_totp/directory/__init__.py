"""The directory: one enrolment for many hosts. A Django project with one app, for Debian 13; see docs/directory.md.

Nothing of it is on a host's login path.
"""
