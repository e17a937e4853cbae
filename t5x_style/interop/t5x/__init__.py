"""T5X checkpoints: the arrays of their folders, and their parameters under this package's names."""
