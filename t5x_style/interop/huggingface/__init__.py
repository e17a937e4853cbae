"""Hugging Face models: folders of config.json and safetensors, read and written."""

PREFIX = "hf:"  # of a path, to say that it is a Hugging Face folder
