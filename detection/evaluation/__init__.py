"""What an evaluation is made of; `detection.evaluation.evaluate` is its door."""
