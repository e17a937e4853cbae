"""The families of models: for each what its config.json and its tensors mean here."""
