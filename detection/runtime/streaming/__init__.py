"""Images through the detector into outputs, for a season."""
