"""Checkpoints of runs: saving, restoring, and parameters to start from.

Formats of other programs, such as Hugging Face's and T5X's, are listed in
interop/checkpoint_formats.py.
"""
