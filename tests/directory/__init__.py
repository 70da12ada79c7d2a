"""The directory: in a Debian 13, with its own Django, gunicorn and keeper."""
