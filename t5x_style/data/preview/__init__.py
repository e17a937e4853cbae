"""The preview of a run's data: measuring it, and showing it as text and as a page."""
