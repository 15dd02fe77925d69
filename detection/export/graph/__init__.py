"""The end-to-end graph that `swath export` writes: one exportable module for each family of detectors."""
