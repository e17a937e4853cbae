"""The checkpoints of other programs that INITIAL_CHECKPOINT_PATH may name, one reader each.

To add a format, write a reader (see `warm_start.Reader`) and list it here.
"""

from t5x_style.checkpoints.warm_start import Reader
from t5x_style.interop.huggingface import reader as huggingface_reader
from t5x_style.interop.t5x import reader as t5x_reader

READERS: tuple[Reader, ...] = (huggingface_reader.READER, t5x_reader.READER)
