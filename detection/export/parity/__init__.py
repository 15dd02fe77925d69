"""The parity check of a graph's network and postprocessing, each by itself, and what is borderline in the boxes."""
