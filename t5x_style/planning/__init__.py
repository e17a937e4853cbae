"""What a run will need: estimates, compiling ahead of time, reading compiled programs."""
