"""The stream in a browser: live images, their age, counts, thresholds, snapshots and recordings."""
