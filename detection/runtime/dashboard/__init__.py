"""The stream in a browser: live pictures, their age, counts, thresholds, snapshots and recordings."""
