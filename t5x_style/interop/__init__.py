"""Checkpoints of other programs: Hugging Face (read and written) and T5X (read).

A new family of Hugging Face models is a file in huggingface/families/, which says what it has to
define; a new checkpoint format is a reader in checkpoint_formats.py.
"""
