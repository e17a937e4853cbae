"""Models of transformers in PyTorch with this package's parameters, and how they are trained."""
