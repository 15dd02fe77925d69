"""What the robot keeps of a season: pictures around faults, pictures to label again, and their replay."""
