"""Checkpoints: saving and restoring runs, and parameters to start from."""
