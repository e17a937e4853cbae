"""The vocabulary of a run that names none, for code that must not import TensorFlow."""

from pathlib import Path

VOCABULARY_FOLDER = Path(__file__).parent / "data" / "tokenizers" / "vocabulary_files"
DEFAULT_VOCABULARY_FILE = "python_stdlib.model"  # in VOCABULARY_FOLDER
DEFAULT_EXTRA_IDS = 128  # sentinels, after the ids of the file
