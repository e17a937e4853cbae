"""The peer of the decode benchmark: transformers' generate, of the same model and weights."""

import os
from typing import Any

import jax
import numpy as np

from ..torch_peers import parameters
from . import huggingface_models
from .decode_cases import DecodeCase

EAGER, COMPILED = "HF generate", "HF generate, static cache, compiled"
LABELS = (EAGER, COMPILED)


def peers(case: DecodeCase, params: Any) -> list["TorchGenerate"]:
  """Returns the ways of generating to compare with; raises ConfigurationError if there is none.

  transformers compiles the step of a decoder with a static cache on GPUs by itself.
  """
  import torch

  torch.set_num_threads(len(os.sched_getaffinity(0)))  # as many as XLA takes
  torch.set_float32_matmul_precision("high")  # As in JAX, GPUs multiply float32 in TensorFloat-32.
  model = _build(case, params)
  found = [TorchGenerate(EAGER, case, model)]
  if torch.cuda.is_available() and not case.model.num_encoder_layers:
    found.append(TorchGenerate(COMPILED, case, model, cache_implementation="static"))
  return found


def _build(case: DecodeCase, params: Any) -> Any:
  import torch

  model = huggingface_models.build(case.model, case.read + case.new)
  family = huggingface_models.family(case.model)
  parameters.load(model, parameters.tensors(case.model, params, family))
  dtype = getattr(torch, case.model.dtype)
  model = model.to("cuda" if jax.default_backend() == "gpu" else "cpu", dtype).eval()
  model.config.use_cache = True
  settings = model.generation_config
  # No row ends before the others, so that both sides write as many tokens.
  settings.eos_token_id, settings.pad_token_id, settings.bos_token_id = None, 0, None
  settings.use_cache, settings.decoder_start_token_id = True, 0
  return model


class TorchGenerate:
  """A transformers model that continues the prompts of a case. See decode.Contestant."""

  def __init__(self, label: str, case: DecodeCase, model: Any, **settings: Any):
    import torch

    self.label, self._torch, self._model, self._settings = label, torch, model, settings
    self._ids = torch.tensor(case.prompts(), device=model.device)
    self._reads = 0 if case.model.num_encoder_layers else case.read

  def write(self, count: int) -> np.ndarray:
    """Returns the `count` likeliest tokens after each prompt, int [rows, count]."""
    torch = self._torch
    with torch.inference_mode():
      written = self._model.generate(
        self._ids,
        attention_mask=torch.ones_like(self._ids),
        max_new_tokens=count,
        do_sample=False,
        **self._settings,
      )
    # Both kinds of models give back a first part that was not written: the prompt or the start.
    return written[:, self._reads or 1 :].cpu().numpy()
