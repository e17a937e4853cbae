"""Continuations of prompts of any lengths: few compiled programs, for many requests.

Prompts are sorted into batches of similar lengths, and lengths are rounded up, so that one program
serves all prompts of a bucket. A continuation does not depend on what else is in its batch.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.errors import UserError, require_positive
from t5x_style.inference.beam_search import search
from t5x_style.inference.choice import Choice
from t5x_style.inference.decoding import Written, decode
from t5x_style.inference.row_batches import fine_bucket, longest_row, rows_of_a_batch
from t5x_style.models import Transformer

Ids = Sequence[int]


@dataclasses.dataclass(frozen=True)
class Continuation:
  """What a model wrote after a prompt.

  Attributes:
    tokens: int32 [n], with the EOS if it was written.
    log_probabilities: float32 [n], natural, of each token given all before it, at temperature 1.
    finished: whether the last token is EOS.
    others: the other candidates of a beam search, the best first.
  """

  tokens: np.ndarray
  log_probabilities: np.ndarray
  finished: bool
  others: tuple["Continuation", ...] = ()

  @property
  def log_probability(self) -> float:
    """The natural logarithm of the probability of the whole continuation."""
    return float(self.log_probabilities.sum())


def generate(
  model: Transformer,
  params: Any,
  prompts: Sequence[Ids],
  *,
  encoder_inputs: Sequence[Ids] | None = None,
  prefix_lm: bool | Sequence[int] = False,
  max_new_tokens: int = 64,
  choice: Choice | None = None,
  eos_id: int | Sequence[int] = 1,
  pad_id: int = 0,
  batch_size: int = 16,
  seed: int = 0,
  row_numbers: Sequence[int] | None = None,
) -> list[Continuation]:
  """Continues each prompt; runs on the mesh of the partitioner's context, if there is one.

  Args:
    prompts: for each row the ids that the decoder reads first, with its start token: one or more.
    encoder_inputs: for each row the ids that the encoder of an encoder-decoder reads.
    prefix_lm: reads the prompts in both directions, as models of a prefix LM were trained to; or,
      for each row, how many tokens at the start of its prompt are read so.
    max_new_tokens: of each row, EOS included.
    choice: of the tokens; None is greedy.
    eos_id: the id or the ids with which a row ends.
    pad_id: an id that is never written; -1 if every id may be.
    batch_size: rows that are decoded together, at most.
    seed: of tokens that are drawn. A row's draws follow from `seed` and its number only.
    row_numbers: of the rows; None numbers them from 0.

  Returns:
    A continuation for each prompt, in the same order.

  Raises:
    UserError: a prompt is empty or has more tokens than the model has positions, or there are not
      as many encoder inputs as prompts.
  """
  choice = choice or Choice()
  _check_parameters(params)
  _check(model, prompts, encoder_inputs, max_new_tokens, batch_size)
  eos_ids = (eos_id,) if isinstance(eos_id, (int, np.integer)) else tuple(eos_id)
  never = (pad_id,) if pad_id >= 0 else ()
  all_numbers = np.array(range(len(prompts)) if row_numbers is None else row_numbers, np.uint32)
  found: dict[int, Continuation] = {}
  for batch in _batches(model, prompts, encoder_inputs, prefix_lm, batch_size):
    if choice.beams > 1:
      written = search(
        model,
        params,
        batch.features,
        jnp.int32(len(batch.rows)),
        jnp.int32(max_new_tokens),
        jnp.float32(choice.length_penalty),
        beams=choice.beams,
        slots=fine_bucket(max_new_tokens),
        eos_ids=eos_ids,
        never=never,
      )
    else:
      numbers = np.pad(all_numbers[batch.rows], (0, batch.size - len(batch.rows)))
      written = decode(
        model,
        params,
        batch.features,
        jnp.int32(len(batch.rows)),
        jnp.int32(max_new_tokens),
        jax.vmap(lambda row: jax.random.fold_in(jax.random.key(seed), row))(numbers),
        jnp.float32(choice.temperature or 1.0),
        jnp.float32(choice.top_p) if choice.top_p < 1 else None,
        slots=fine_bucket(max_new_tokens),
        eos_ids=eos_ids,
        never=never,
        greedy=not choice.temperature,
        top_k=choice.top_k,
      )
    found |= zip(batch.rows, _continuations(written, len(batch.rows)), strict=True)
  return [found[row] for row in range(len(prompts))]


def _check_parameters(params):
  """Raises UserError if the parameters are spread over several processes."""
  if not all(getattr(x, "is_fully_addressable", True) for x in jax.tree.leaves(params)):
    raise UserError(
      f"the parameters are spread over {jax.process_count()} processes, and one generates text: "
      "start one process, on one machine."
    )


def _check(model, prompts, encoder_inputs, max_new_tokens, batch_size):
  config = model.config
  if not config.num_decoder_layers:
    raise UserError("an encoder-only model writes no text: it fills masked tokens.")
  require_positive(max_new_tokens=max_new_tokens, batch_size=batch_size)
  if (encoder_inputs is None) == bool(config.num_encoder_layers):
    needed = "needs encoder_inputs" if config.num_encoder_layers else "takes no encoder_inputs"
    raise UserError(f"a model that is {config.architecture} {needed}.")
  if encoder_inputs is not None and len(encoder_inputs) != len(prompts):
    raise UserError(f"{len(prompts)} prompts have {len(encoder_inputs)} encoder_inputs.")
  limit = longest_row(model)
  for row, prompt in enumerate(prompts):
    if not len(prompt):
      raise UserError(f"prompt {row} is empty: a decoder reads its start token at least.")
    if limit and len(prompt) + max_new_tokens - 1 > limit:
      raise UserError(
        f"prompt {row} has {len(prompt):,} tokens, and {max_new_tokens:,} new ones are requested: "
        f"the model has {limit:,} positions. Shorten the prompt, or request at most "
        f"{max(limit + 1 - len(prompt), 0):,} new tokens."
      )
  for row, ids in enumerate(encoder_inputs or ()):
    if not len(ids):
      raise UserError(f"encoder input {row} is empty.")
    if limit and len(ids) > limit:
      raise UserError(
        f"encoder input {row} has {len(ids):,} tokens; the model has {limit:,} positions."
      )


class _Batch(NamedTuple):
  rows: list[int]  # the numbers of the prompts
  size: int  # rows of the arrays, at least as many
  features: dict[str, jax.Array]


def _batches(model, prompts, encoder_inputs, prefix_lm, batch_size) -> Iterator[_Batch]:
  """Sorts prompts into batches of one bucket each."""
  limit = longest_row(model)
  # All batches have as many rows, so that a bucket needs one program.
  size = rows_of_a_batch(fine_bucket(len(prompts), least=1), batch_size)
  buckets: dict[tuple[int, int], list[int]] = {}
  for row, prompt in enumerate(prompts):
    source = len(encoder_inputs[row]) if encoder_inputs is not None else 0
    bucket = (fine_bucket(len(prompt), limit), source and fine_bucket(source, limit))
    buckets.setdefault(bucket, []).append(row)
  for (length, source_length), members in sorted(buckets.items()):
    for start in range(0, len(members), batch_size):
      rows = members[start : start + batch_size]
      features = _decoder_features([prompts[row] for row in rows], size, length)
      if prefix_lm is not False:
        both_ways = None if prefix_lm is True else [prefix_lm[row] for row in rows]
        features["decoder_causal_attention"] = _prefixes(features, both_ways)
      if encoder_inputs is not None:
        features |= _encoder_features([encoder_inputs[row] for row in rows], size, source_length)
      yield _Batch(rows, size, {name: jnp.asarray(x) for name, x in features.items()})


def _prefixes(features, counts):
  """Returns 1 on the tokens that are read in both directions: `counts` of each row, None all."""
  segments = features["decoder_segment_ids"]
  if counts is None:
    return segments
  counts = np.pad(np.asarray(counts), (0, len(segments) - len(counts)), constant_values=1)
  return segments * (segments.cumsum(1) <= counts[:, None])


def _decoder_features(prompts, size, length):
  """Returns prompts [size, length] with padding before them; rows without one hold one token."""
  tokens, segments = np.zeros((2, size, length), np.int32)
  segments[:, -1] = 1
  for row, prompt in enumerate(prompts):
    tokens[row, length - len(prompt) :] = prompt
    segments[row, length - len(prompt) :] = 1
  return {
    "decoder_input_tokens": tokens,
    "decoder_segment_ids": segments,
    "decoder_positions": np.maximum(segments.cumsum(1) - 1, 0),
  }


def _encoder_features(inputs, size, length):
  """Returns inputs [size, length] with padding after them."""
  tokens, segments = np.zeros((2, size, length), np.int32)
  segments[:, 0] = 1
  for row, ids in enumerate(inputs):
    tokens[row, : len(ids)] = ids
    segments[row, : len(ids)] = 1
  return {
    "encoder_input_tokens": tokens,
    "encoder_segment_ids": segments,
    "encoder_positions": np.broadcast_to(np.arange(length), tokens.shape),
  }


def _continuations(written: Written, count: int) -> list[Continuation]:
  tokens, logs, lengths, finished = (np.asarray(x)[:count] for x in written)
  if lengths.ndim == 1:  # Without candidates.
    tokens, logs, lengths, finished = (x[:, None] for x in (tokens, logs, lengths, finished))

  def one(row, place):
    n = int(lengths[row, place])
    return Continuation(tokens[row, place, :n], logs[row, place, :n], bool(finished[row, place]))

  return [
    dataclasses.replace(
      one(row, 0), others=tuple(one(row, k) for k in range(1, lengths.shape[1]) if lengths[row, k])
    )
    for row in range(count)
  ]
