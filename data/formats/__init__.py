"""Dataset formats: one file a format, one line in `KINDS`."""
