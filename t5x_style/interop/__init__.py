"""Checkpoints of other programs, in and out: Hugging Face and T5X."""
