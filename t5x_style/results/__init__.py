"""What runs wrote: read from their folders, drawn as charts, shown on pages of HTML."""
