"""Holes that an encoder fills: each [MASK] by itself, or all of them step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from t5x_style.inference import mask_filling, unmasking
from t5x_style.trained.filled import Filled, candidate
from t5x_style.trained.loaded_model import LoadedModel
from t5x_style.trained.prompts import Prompt


def fill_masks(
  trained: LoadedModel, prompts: Sequence[Prompt], candidates: int, batch_size: int
) -> list[Filled]:
  """Fills each hole with one token, independently of the others."""
  codec = trained.codec
  with trained.partitioner.context():
    found = mask_filling.fill_masks(
      trained.model,
      trained.params,
      [prompt.encoder for prompt in prompts],
      codec.special_id("[MASK]"),
      candidates=candidates,
      vocab_size=min(codec.vocab_size, trained.config.vocab_size),
      batch_size=batch_size,
    )
  results = []
  for prompt, masks in zip(prompts, found, strict=True):
    assert prompt.holed is not None
    each = tuple(
      tuple(
        candidate(codec, [i], math.log(max(p, 1e-45)), space)
        for i, p in zip(mask.ids.tolist(), mask.probabilities.tolist(), strict=True)
      )
      for mask, space in zip(masks, prompt.holed.spaces, strict=True)
    )
    results.append(Filled(prompt.holed.joined([hole[0].text for hole in each]), each))
  return results


def unmask(
  trained: LoadedModel,
  prompts: Sequence[Prompt],
  *,
  steps: int | None,
  temperature: float,
  batch_size: int,
  seed: int,
  first_row: int,
) -> list[unmasking.Unmasked]:
  """Unmasks what the encoder reads, step by step; see inference/unmasking.py."""
  codec = trained.codec
  unknown = range(codec.vocab_size, trained.config.vocab_size)
  special = set(codec.marks) - {codec.eos_id}
  with trained.partitioner.context():
    return unmasking.unmask(
      trained.model,
      trained.params,
      [prompt.encoder for prompt in prompts],
      codec.special_id("[MASK]"),
      steps=steps,
      temperature=temperature,
      banned=[*(i for i in special if i < trained.config.vocab_size), *unknown],
      batch_size=batch_size,
      seed=seed,
      first_row=first_row,
    )


def fill_by_unmasking(
  trained: LoadedModel, prompts: Sequence[Prompt], written: Sequence[unmasking.Unmasked]
) -> list[Filled]:
  """Returns texts whose masks `unmask` replaced; each hole has one candidate."""
  results = []
  for prompt, row in zip(prompts, written, strict=True):
    assert prompt.holed is not None
    tokens = row.tokens[row.positions].tolist()
    each = tuple(
      (candidate(trained.codec, [i], log_probability, space),)
      for i, log_probability, space in zip(
        tokens, row.log_probabilities.tolist(), prompt.holed.spaces, strict=True
      )
    )
    results.append(Filled(prompt.holed.joined([hole[0].text for hole in each]), each))
  return results
