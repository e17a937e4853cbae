"""Pre-training objectives, one file each: what is hidden of a text, and what is predicted."""
