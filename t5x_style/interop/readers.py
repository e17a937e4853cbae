"""What INITIAL_CHECKPOINT_PATH may name besides checkpoints of our own."""

from t5x_style.interop import huggingface, t5x
from t5x_style.training.initial import Reader

READERS: tuple[Reader, ...] = (huggingface.read, t5x.read)
