"""What launch.eval measures: one file for each of its actions, and what they share."""
