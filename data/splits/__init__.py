"""Splits that keep what belongs together on one side."""
