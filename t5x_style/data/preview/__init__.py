"""The preview of a run's data: measured, and shown in the terminal and as an HTML page."""
