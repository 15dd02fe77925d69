"""What a training is made of; the loop itself is `detection.training.train`."""
