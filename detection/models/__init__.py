"""Detectors: presets, heads, label assignment, backbones, necks, pruning, weights, checkpoints."""
