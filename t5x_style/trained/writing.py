"""Lets a model's decoder write after prompts: one or several continuations of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from t5x_style.inference.choice import Choice
from t5x_style.inference.generation import Continuation, generate
from t5x_style.inference.row_batches import longest_row
from t5x_style.trained.loaded_model import LoadedModel


@dataclasses.dataclass(frozen=True)
class Writing:
  """How a model's decoder writes.

  Attributes:
    choice: of the tokens.
    candidates: how many continuations of each prompt; at most choice.beams of a search, and one if
      neither a search nor draws are made.
    both_ways: whether prompts are read in both directions.
    batch_size: rows that are decoded together.
    seed: of the draws.
    first_row: the number of the first prompt, from which its draws follow.
  """

  choice: Choice
  candidates: int = 1
  both_ways: bool = False
  batch_size: int = 16
  seed: int = 0
  first_row: int = 0

  def after(
    self,
    trained: LoadedModel,
    prompts: Sequence[Sequence[int]],
    inputs: Sequence[Sequence[int]],
    new_tokens: Sequence[int],
    *,
    numbers: Sequence[int] | None = None,
    prefixes: Sequence[int] | None = None,
  ) -> list[list[Continuation]]:
    """Returns continuations of each prompt, the best first, or in the order of the draws.

    A continuation ends where the model's learned positions end.

    Args:
      prompts: what the decoder reads first.
      inputs: what the encoder reads; () for a decoder-only model.
      new_tokens: how many tokens each may have.
      numbers: of the prompts, from which their draws follow; None numbers them from 0.
      prefixes: how many tokens at the start of each prompt are read in both directions, if prompts
        are; None: all.
    """
    copies = self.candidates if self.choice.temperature else 1
    limit = longest_row(trained.model)
    found: dict[int, list[Continuation]] = {i: [] for i in range(len(prompts))}
    allowed: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
      most = new_tokens[i] if limit is None else min(new_tokens[i], limit + 1 - len(prompt))
      allowed.setdefault(max(most, 1), []).append(i)
    for most, members in allowed.items():
      rows = [i for i in members for _ in range(copies)]
      each = numbers or range(len(prompts))
      written = self._generate(
        trained,
        [prompts[i] for i in rows],
        encoder_inputs=[inputs[i] for i in rows] if inputs else None,
        max_new_tokens=most,
        prefix_lm=[prefixes[i] for i in rows] if prefixes and self.both_ways else self.both_ways,
        row_numbers=[
          (self.first_row + each[i]) * copies + copy for i in members for copy in range(copies)
        ],
      )
      for i, one in zip(rows, written, strict=True):
        found[i] += [one, *one.others[: self.candidates - 1]]
    return [found[i] for i in range(len(prompts))]

  def _generate(self, trained, prompts, **settings):
    with trained.partitioner.context():
      return generate(
        trained.model,
        trained.params,
        prompts,
        choice=self.choice,
        eos_id=trained.codec.eos_id,
        pad_id=trained.codec.pad_id,
        batch_size=self.batch_size,
        seed=self.seed,
        **settings,
      )
