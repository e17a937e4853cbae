"""What a run shows and writes: the terminal, metrics, the description of a run, profiles."""
