"""The directory's schema, step by step."""
