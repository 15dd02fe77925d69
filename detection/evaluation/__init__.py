"""What an evaluation is made of; `detection.evaluate` is its door."""
