"""The directory's command and documents, as far as they need no Django."""
