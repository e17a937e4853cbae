"""T5X checkpoints: which arrays their folders hold, and their parameters under our names."""
