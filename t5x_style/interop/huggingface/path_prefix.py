"""How a path says that it is the folder of a Hugging Face model."""

PREFIX = "hf:"
