"""Follows each plant through the pictures of a camera that drives over it, and counts it once."""
