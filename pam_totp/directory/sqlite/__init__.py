"""Django's SQLite, with what two writers at once need."""
