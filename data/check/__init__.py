"""What is wrong with labelled pictures."""
