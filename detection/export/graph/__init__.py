"""The deploy graph: what `swath export` writes, as one exportable module for each family of detectors."""
