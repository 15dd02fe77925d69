"""What sun, weather, motion, camera and lens do to an image: numpy and OpenCV only, each a pure function.

Images are uint8 (H, W, 3) BGR; `amount` is 0 (nothing to be seen) to 1 (the strongest that still leaves
every plant visible); `rng` is the only source of chance. Arguments are left as they are.
"""

PAD_VALUE = 114
"""Grey of what lies outside the image: the letterbox's, which the network knows as nothing."""
