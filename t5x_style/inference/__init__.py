"""Using a trained model: decoding with a cache, and samples that a person can judge."""
