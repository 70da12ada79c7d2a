"""The schema of what the portal keeps, step by step."""
