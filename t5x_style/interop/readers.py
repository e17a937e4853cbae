"""What INITIAL_CHECKPOINT_PATH may name besides checkpoints of our own."""

from t5x_style.checkpoints.warm_start import Reader
from t5x_style.interop import huggingface, t5x

READERS: tuple[Reader, ...] = (huggingface.read, t5x.read)
