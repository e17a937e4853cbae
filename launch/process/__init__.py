"""Preparing the process that a command runs in, and joining it to the others of a job."""
