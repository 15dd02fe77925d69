"""Training batches: order, cache, tiles, negatives; and a preview of what training sees."""
