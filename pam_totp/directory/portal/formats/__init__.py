"""How dates and times are written: as in logs, so that they sort and nobody asks which is the month."""
