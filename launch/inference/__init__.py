"""The parts of launch.infer: its input, its output, and what it shows."""
