"""Where detections go: files, brokers, other programs."""
