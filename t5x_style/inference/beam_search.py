"""Beam search with a cache, as one compiled program.

The order of candidates, when a row is finished and the penalty of lengths are those of
`transformers`, with early_stopping=False, so that both find the same texts.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from t5x_style.inference.decoding import Decoder, Written, log_softmax, map_rows
from t5x_style.models import Transformer
from t5x_style.models.transformer import Batch

_WORST = -1.0e9  # below every sum of log-probabilities, and finite


class _Beams(NamedTuple):
  """Candidates of each row, best first."""

  tokens: jax.Array  # [B, K, N]
  log_probabilities: jax.Array  # [B, K, N]
  scores: jax.Array  # [B, K]: their sum; of finished ones divided by length ** length_penalty
  lengths: jax.Array  # [B, K]
  finished: jax.Array  # [B, K]


class _State(NamedTuple):
  last: jax.Array  # the index of the last token of the running candidates
  cache: Any  # of B * K rows
  running: _Beams
  ended: _Beams
  improvable: jax.Array  # [B]: whether a running candidate may still become the best


@functools.partial(jax.jit, static_argnames=("model", "beams", "slots", "eos_ids", "never"))
def search(
  model: Transformer,
  params: Any,
  batch: Batch,
  real_rows: jax.Array,
  count: jax.Array,
  length_penalty: jax.Array,
  *,
  beams: int,
  slots: int,
  eos_ids: tuple[int, ...],
  never: tuple[int, ...] = (),
) -> Written:
  """Searches for the likeliest continuations of prompts.

  Args:
    batch: what Transformer.prefill reads, {feature: [B, L]}, with decoder_segment_ids.
    real_rows: scalar: the rows after these only fill the batch up, and nothing waits for them.
    count: scalar, how many tokens are written at most.
    length_penalty: as of Choice.
    beams: K, the candidates of a row.
    slots: N, at least `count`: another number needs another program.
    eos_ids: a row ends with one of these.
    never: ids that are never written.

  Returns:
    Written with an axis of the K candidates after that of the rows, [B, K, ...], the best first.
  """
  one = Decoder(model, params, batch, slots)
  decoder = one.repeated(beams)
  rows = batch["decoder_input_tokens"].shape[0]
  ends = jnp.array(eos_ids, jnp.int32)

  def choose(index, logits, running, ended, improvable):
    """Extends the running candidates by one token: (running, ended, improvable, their parents)."""
    candidates, parents = _extended(model, running, logits, index, never, ends)
    stops = jnp.isin(candidates.tokens[:, :, index], ends) | (index + 1 >= count)
    scores = jnp.where(stops, candidates.scores + _WORST, candidates.scores)
    chosen = jax.lax.top_k(scores, beams)[1]
    new_running = _taken(candidates._replace(scores=scores), chosen)
    ended = _with_ended(ended, candidates, stops, improvable, index + 1, length_penalty, ends)
    best_possible = new_running.scores[:, 0] / (index + 1.0) ** length_penalty
    worst = jnp.where(ended.lengths > 0, ended.scores.min(1, keepdims=True), _WORST)
    improvable &= (best_possible[:, None] > worst).any(1)
    return new_running, ended, improvable, jnp.take_along_axis(parents, chosen, 1)

  def body(state):
    tokens = jnp.take_along_axis(
      state.running.tokens, jnp.broadcast_to(state.last, (rows, beams, 1)), 2
    )
    logits, cache = decoder.step(state.cache, tokens.reshape(-1), state.last)
    logits = logits.reshape(rows, beams, -1)
    index = state.last + 1
    running, ended, improvable, parents = choose(
      index, logits, state.running, state.ended, state.improvable
    )
    return _State(index, _reordered(cache, parents), running, ended, improvable)

  def unfinished(state):
    return (state.last + 1 < count) & state.improvable.any()

  empty = _no_beams(rows, beams, slots)
  # All candidates of a row are the same prompt: only the first one is extended.
  running = empty._replace(scores=empty.scores.at[:, 0].set(0.0))
  logits = jnp.repeat(one.first_logits()[:, None], beams, 1)
  running, ended, improvable, _ = choose(
    jnp.int32(0), logits, running, empty, jnp.arange(rows) < real_rows
  )
  first = _State(jnp.int32(0), decoder.cache, running, ended, improvable)
  found = jax.lax.while_loop(unfinished, body, first).ended
  return Written(found.tokens, found.log_probabilities, found.lengths, found.finished)


def _no_beams(rows, beams, slots):
  shape = (rows, beams)
  return _Beams(
    jnp.zeros((*shape, slots), jnp.int32),
    jnp.zeros((*shape, slots), jnp.float32),
    jnp.full(shape, _WORST),
    jnp.zeros(shape, jnp.int32),
    jnp.zeros(shape, bool),
  )


def _extended(model, running, logits, index, never, ends):
  """Returns the best extensions of all candidates of a row, and which candidate each extends.

  Their number suffices for the next step even if all candidates end.
  """
  rows, beams, vocab_size = logits.shape
  logs = log_softmax(model, logits)
  scores = logs.at[:, :, jnp.array(never, jnp.int32)].set(-jnp.inf) if never else logs
  scores = (scores + running.scores[:, :, None]).reshape(rows, -1)
  kept = min(max(2, 1 + len(ends)) * beams, beams * vocab_size)
  scores, places = jax.lax.top_k(scores, kept)
  parents, tokens = places // vocab_size, places % vocab_size
  extended = _taken(running, parents)
  logs = jnp.take_along_axis(logs.reshape(rows, -1), places, 1)
  return (
    extended._replace(
      tokens=extended.tokens.at[:, :, index].set(tokens),
      log_probabilities=extended.log_probabilities.at[:, :, index].set(logs),
      scores=scores,
    ),
    parents,
  )


def _with_ended(ended, candidates, stops, improvable, length, length_penalty, ends):
  """Returns the best of the ended candidates so far and of those that end now."""
  beams = ended.scores.shape[1]
  # What ranks below the first K candidates is there only to keep the search running.
  ends_now = stops & (jnp.arange(stops.shape[1]) < beams) & improvable[:, None]
  scores = candidates.scores / length**length_penalty
  new = candidates._replace(
    scores=jnp.where(ends_now, scores, scores + _WORST),
    lengths=jnp.where(ends_now, length, 0),
    finished=jnp.isin(candidates.tokens[:, :, length - 1], ends),
  )
  both = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), ended, new)
  return _taken(both, jax.lax.top_k(both.scores, beams)[1])


def _taken(candidates: _Beams, places: jax.Array) -> _Beams:
  """Returns the candidates at `places` [B, K']."""

  def take(x):
    return jnp.take_along_axis(x, places.reshape(places.shape + (1,) * (x.ndim - 2)), 1)

  return jax.tree.map(take, candidates)


def _reordered(cache, parents):
  """Returns the cache of the candidates that extend `parents` [B, K].

  Keys of the encoder's output are the same for all candidates of a row, and stay where they are.
  """
  rows, beams = parents.shape
  places = (jnp.arange(rows)[:, None] * beams + parents).reshape(-1)

  def reorder(path, x):
    if any(getattr(key, "key", None) == "cross_attention" for key in path):
      return x
    return map_rows(lambda y, axis: jnp.take(y, places, axis=axis), x)

  return jax.tree_util.tree_map_with_path(reorder, cache)
