"""Faults, races and hostile input: nothing is lost, and nobody is let in."""
