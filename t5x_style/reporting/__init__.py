"""What a run shows and writes: terminal, metrics, description, profiles, summary."""
