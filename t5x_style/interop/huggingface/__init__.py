"""Hugging Face models: folders of config.json and safetensors, read and written."""
