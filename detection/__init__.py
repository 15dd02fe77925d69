"""Swath: from labelled field photos to an object detector on a farm robot.

Importing this package imports no torch; the robot's half is `detection.runtime`.
"""

__version__ = "0.1.0"
