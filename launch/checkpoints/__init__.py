"""What launch.checkpoint does: one file for each of its actions, and what they share."""
