"""The models and the lengths that launch.benchmark decode measures."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from t5x_style.models import TransformerConfig

from ..process.errors import ConfigurationError
from . import step_cases

_NEW_TOKENS = 64
_ROWS = 8


class DecodeCase(NamedTuple):
  """A model that continues prompts of random tokens.

  Attributes:
    rows: decoded together.
    read: tokens of each prompt, or of the encoder's input.
    new: tokens that are written.
  """

  name: str
  model: TransformerConfig
  rows: int
  read: int
  new: int

  @property
  def title(self) -> str:
    """The name and sizes, e.g. "GPT-2 small: 8 x (128 + 64) tokens, float32"."""
    return f"{self.name}: {self.rows} x ({self.read:,} + {self.new:,}) tokens, {self.model.dtype}"

  def prompts(self) -> list[list[int]]:
    """Returns the random ids that each row reads, none of them 0."""
    draw = np.random.default_rng(0)
    return draw.integers(1, self.model.vocab_size, (self.rows, self.read)).tolist()


def known() -> list[DecodeCase]:
  """Returns the cases whose figures are compared with the peers', for this machine's devices."""
  shipped = step_cases.shipped_model
  if jax.default_backend() == "cpu":
    llama = dataclasses.replace(
      step_cases.DECODER_1B,
      emb_dim=512,
      num_heads=8,
      num_kv_heads=4,
      head_dim=64,
      mlp_dim=1408,
      num_decoder_layers=8,
      dtype="float32",
    )
    return [
      DecodeCase("T5, 4+4 layers of 512", step_cases.t5_for_cpus(), _ROWS, 256, _NEW_TOKENS),
      DecodeCase("Llama, 8 layers of 512", llama, _ROWS, 128, _NEW_TOKENS),
      DecodeCase("GPT-2 small", shipped("gpt2/small"), _ROWS, 128, _NEW_TOKENS),
    ]
  half: dict[str, Any] = {"dtype": "bfloat16", "param_dtype": "bfloat16"}
  return [
    DecodeCase("GPT-2 large", shipped("gpt2/large", **half), 32, 512, 256),
    DecodeCase("decoder 1B", dataclasses.replace(step_cases.DECODER_1B, **half), 32, 512, 256),
    DecodeCase("T5 1.1 large", shipped("t5_1_1/large", **half), 32, 512, 256),
  ]


def tiny() -> list[DecodeCase]:
  """Returns tiny cases with a decoder, with which the commands themselves are tried."""
  models = [(case.name, case.config.model) for case in step_cases.tiny()]
  return [DecodeCase(name, model, 2, 8, 4) for name, model in models if model.num_decoder_layers]


def from_gin(
  gin_files: Sequence[str], bindings: Sequence[str] = (), search_paths: Sequence[str] = ()
) -> DecodeCase:
  """Returns the model of a run's gin files, which reads and writes rows of the run's lengths.

  Raises:
    ConfigurationError: as for training; the files give no lengths; or the model has no decoder.
  """
  case = step_cases.from_gin(gin_files, bindings, search_paths)
  model, lengths = case.config.model, case.lengths
  if not model.num_decoder_layers:
    raise ConfigurationError(f"{case.name}: an encoder-only model writes no text.")
  read = lengths["inputs"] if model.num_encoder_layers else max(1, lengths["targets"] // 2)
  new = lengths["targets"] - (0 if model.num_encoder_layers else read)
  model = dataclasses.replace(model, **step_cases.NO_DROPOUT)
  return DecodeCase(case.name, model, case.config.batch_size, read, max(new, 2))
