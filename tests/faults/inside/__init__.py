"""What runs in a machine, with the machine's own Python, SQLite and package; called through `agent`."""
