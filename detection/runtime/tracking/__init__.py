"""Follows each plant through the images of a camera that drives over it, and counts it once."""
