"""LoadedModel: a model, its parameters and its vocabulary, which all methods of it start from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from t5x_style.codecs.text_codec import TextCodec
from t5x_style.models import Transformer, TransformerConfig
from t5x_style.partitioning import Partitioner
from t5x_style.trained.framing import Template


@dataclasses.dataclass(frozen=True)
class LoadedModel:
  """A trained model with its parameters and its vocabulary; model.py adds what it can do.

  Attributes:
    model: the network.
    params: its parameters, on the devices of the partitioner's mesh.
    codec: text to the model's ids and back.
    partitioner: the mesh; programs of the model run inside `partitioner.context()`.
    path: as it was given to `load`, and the checkpoint that was read.
    step: of the checkpoint; None where it has none, as for a Hugging Face model.
    objectives: what it was trained for: each with "objective", its name, "rate", its share of the
      training, and the objective's own fields; () if that is not known, as for Hugging Face models.
    row_lengths: the longest rows of its training, {"inputs": tokens, "targets": tokens}; {} if that
      is not known.
    template: the ids that its tokenizer puts around a text; None for models of this package, which
      framing.py knows.
  """

  model: Transformer
  params: Any
  codec: TextCodec
  partitioner: Partitioner
  path: str
  step: int | None = None
  objectives: Sequence[Mapping[str, Any]] = ()
  row_lengths: Mapping[str, int] = dataclasses.field(default_factory=dict)
  template: Template | None = None

  @property
  def config(self) -> TransformerConfig:
    """The architecture and the sizes of the model."""
    return self.model.config

  def __repr__(self) -> str:
    return f"{type(self).__name__}({self.path!r}, {self.config.architecture}, {self.codec.name})"
