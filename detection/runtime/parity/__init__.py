"""Do two detectors give the same boxes? The parity check, and its repetition on the robot."""
