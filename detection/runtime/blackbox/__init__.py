"""What the robot keeps of a season: images around faults, images to label again, and their replay."""
