"""TrainedModel: what t5x_style.load returns, with all that it can do."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from t5x_style.inference.embedding import Pooling
from t5x_style.trained import embedding
from t5x_style.trained.loaded_model import LoadedModel


@dataclasses.dataclass(frozen=True, repr=False)
class TrainedModel(LoadedModel):
  """A trained model, to use; `t5x_style.load` makes it. Its attributes are those of LoadedModel.

  A method starts the function of its name, in a file of its own that takes a LoadedModel.
  """

  def embed(
    self, texts: str | Sequence[str], *, pooling: Pooling | None = None, batch_size: int = 16
  ) -> np.ndarray:
    """Returns a vector of each text: states after the last norm, before the head.

    They are the decoder's in a decoder-only model, otherwise the encoder's. The special tokens of
    the training are around the text, and count as tokens.

    Args:
      texts: one or several, of any lengths.
      pooling: "mean" over all tokens, or the "first" or "last" one. None is "last" for a decoder,
        "first" for an encoder with a head for pairs of sentences, otherwise "mean".
      batch_size: rows that are computed at once.

    Returns:
      float32 [N, D].

    Raises:
      UserError: a text is empty, or longer than the model's learned positions.
    """
    return embedding.embed(self, texts, pooling=pooling, batch_size=batch_size)
