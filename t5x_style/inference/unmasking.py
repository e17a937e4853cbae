"""Unmasks rows step by step: how a model of masked diffusion writes (LLaDA, Nie et al. 2025)."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.inference.mask_filling import (
  encoder_outputs,
  hole_positions,
  over_positions,
)
from t5x_style.inference.row_batches import longest_row, row_batches
from t5x_style.models import Transformer


class Unmasked(NamedTuple):
  """A row without masks.

  Attributes:
    tokens: int32 [L].
    positions: int32 [P], where the masks were.
    log_probabilities: float32 [P], natural, of the tokens there, at the step that chose them.
    steps: int32 [P], the step, from 1, after which each stayed.
  """

  tokens: np.ndarray
  positions: np.ndarray
  log_probabilities: np.ndarray
  steps: np.ndarray


def unmask(
  model: Transformer,
  params: Any,
  rows: Sequence[Sequence[int]],
  mask_id: int,
  *,
  steps: int | None = None,
  temperature: float = 0.0,
  banned: Sequence[int] = (),
  batch_size: int = 16,
  seed: int = 0,
  first_row: int = 0,
) -> list[Unmasked]:
  """Replaces the masks of rows in several steps, with low-confidence remasking.

  Each step predicts all tokens that are still masked, and keeps those with the highest
  probabilities; the others stay masked (Nie et al. 2025, section 2.4 and algorithm 5). After step
  i of N, floor(P * i / N) of the P masks of a row are gone.

  Args:
    model: encoder-only.
    rows: token ids with masks.
    mask_id: the id of the masks.
    steps: N, at most P; None: P, so that each step keeps one token.
    temperature: 0 takes the likeliest token of a position; otherwise tokens are drawn.
    banned: ids that are never written, beside the mask.
    batch_size: rows of a batch.
    seed: of the draws. A row's draws follow from `seed` and its number only.
    first_row: the number of the first row.
  """
  config = model.config
  found: list[Unmasked | None] = [None] * len(rows)
  never = np.zeros(config.vocab_size, bool)
  never[[mask_id, *banned]] = True
  batches = row_batches(
    rows, batch_size=batch_size, pad_id=max(config.padding_id, 0), longest=longest_row(model)
  )
  for batch in batches:
    holes = hole_positions(batch.tokens, (batch.tokens == mask_id) & (batch.segments > 0))
    count = holes.real.sum(1)
    each = np.maximum(count if steps is None else np.minimum(count, steps), 1)
    numbers = np.zeros(len(batch.tokens), np.uint32)
    numbers[: len(batch.indices)] = batch.indices
    keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))(
      numbers + np.uint32(first_row)
    )
    written = jax.device_get(
      _unmask(
        model,
        params,
        *batch[1:],
        *holes,
        each,
        never,
        keys,
        np.float32(temperature),
        temperature > 0,
      )
    )
    for place, i in enumerate(batch.indices):
      tokens, log_probs, when = (x[place] for x in written)
      real = holes.real[place]
      found[i] = Unmasked(
        tokens[: len(rows[i])], holes.positions[place][real], log_probs[real], when[real]
      )
  return [row for row in found if row is not None]


@functools.partial(jax.jit, static_argnames=("model", "draw"))
def _unmask(
  model, params, tokens, segments, positions, real, steps, never, keys, temperature, draw
):
  """Returns tokens [B, L], and the log-probabilities and steps [B, P] of those that were written.

  Args:
    positions, real: of the holes, [B, P].
    steps: [B], how many each row takes.
    never: bool [V], what is not written.
    keys: [B], of the draws of each row.
  """
  rows = jnp.arange(tokens.shape[0])[:, None]
  count = real.sum(1)

  def choose(logits, draw_keys):
    log_probs = jax.nn.log_softmax(logits)
    scores = jnp.where(never, -jnp.inf, log_probs)
    if draw:
      gumbel = functools.partial(jax.random.gumbel, shape=logits.shape[-1:])
      scores = scores / temperature + jax.vmap(jax.vmap(gumbel))(draw_keys)
    chosen = jnp.argmax(scores, -1).astype(jnp.int32)
    return chosen, jnp.take_along_axis(log_probs, chosen[..., None], -1)[..., 0]

  def step(i, state):
    tokens, log_probs, when = state
    out = encoder_outputs(model, params, tokens, segments, positions)
    step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
    draw_keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(step_keys, positions)
    chosen, new = over_positions(choose, model, out, draw_keys)
    masked = real & (when == 0)
    place = jnp.argsort(jnp.argsort(jnp.where(masked, -new, jnp.inf), axis=1), axis=1)
    gone = count * jnp.minimum(i + 1, steps) // steps - count * jnp.minimum(i, steps) // steps
    kept = masked & (place < gone[:, None])
    tokens = tokens.at[rows, jnp.where(kept, positions, tokens.shape[1])].set(chosen, mode="drop")
    return tokens, jnp.where(kept, new, log_probs), jnp.where(kept, i + 1, when)

  start = (tokens, jnp.zeros(real.shape, jnp.float32), jnp.zeros(real.shape, jnp.int32))
  return jax.lax.fori_loop(0, steps.max(), step, start)
