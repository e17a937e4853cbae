"""Using a trained model: decoding with a cache, scoring, filling masks."""
