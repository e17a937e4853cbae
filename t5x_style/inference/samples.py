"""Samples of what a model predicts for held-out texts, for a person to judge."""

import functools
import json
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.inference import held_out_gaps
from t5x_style.inference.generation import Choice, Continuation, generate
from t5x_style.inference.held_out_gaps import Gap, Mask, Row, ToText
from t5x_style.models import Transformer
from t5x_style.partitioning import active_mesh

Sample = dict[str, str]

_SHORT = 12  # tokens of the longest gap whose candidates are shown; longer ones are written
_SHORT_GAPS = 5
_LONG_GAPS = 2
_CANDIDATES = 4
_WRITTEN = 48  # tokens that are written at a long gap
_TEMPERATURE = 0.8
_HERE = "[?]"


def sample(
  model: Transformer,
  params: Any,
  batch: Row,
  to_text: ToText,
  special_ids: tuple[int, int, int],
) -> Sample:
  """Asks a model for what the first rows of a held-out batch hide from it.

  Short gaps, such as the holes of span corruption and masked tokens, are shown with the likeliest
  fillings and their probabilities. Longer ones, such as the second half of a text, are written
  twice: with the likeliest token each time, and with tokens that are drawn. In each row the gap is
  the middle one, whatever the model makes of it.

  Args:
    batch: features of an evaluation batch, [B, ...].
    to_text: token ids -> text, with special tokens.
    special_ids: the ids of padding (-1 if there is none), of the end and the start of a sequence.

  Returns:
    {title: text}.
  """
  if not model.config.num_decoder_layers:
    return _masked(model, params, batch, to_text, special_ids[0])
  found = (held_out_gaps.gap(row, to_text, special_ids) for row in held_out_gaps.rows(batch))
  gaps = [gap for gap in found if gap is not None and _room(model, gap) > 0]
  short = [gap for gap in gaps if gap.closing is not None and len(gap.truth) <= _SHORT]
  long = [gap for gap in gaps if gap.closing is None or len(gap.truth) > _SHORT]
  return {
    **_candidates(model, params, short[:_SHORT_GAPS], to_text, special_ids),
    **_written(model, params, long[:_LONG_GAPS], to_text, special_ids),
  }


def _candidates(model, params, gaps, to_text, special_ids) -> Sample:
  """Shows the likeliest fillings of short gaps."""
  choice = Choice(beams=_CANDIDATES, length_penalty=0.0)
  tokens = 4 + max((len(gap.truth) for gap in gaps), default=0)
  found = _generate(model, params, gaps, special_ids, tokens, choice)
  shown: Sample = {}
  for number, (gap, best) in enumerate(zip(gaps, found, strict=True), 1):
    fillings = sorted(
      ((_probability(x), _quoted(_text(x, to_text))) for x in (best, *best.others)), reverse=True
    )
    shown[f"hole {number}"] = _example(gap, _quoted(to_text(gap.truth)), fillings)
  title = "Holes in held-out texts, and the likeliest fillings with their probabilities"
  note = f"{_HERE} is the hole, {held_out_gaps.OTHER_HOLE} are others."
  return {title: note, **shown} if shown else {}


def _written(model, params, gaps, to_text, special_ids) -> Sample:
  """Shows what is written at long gaps, greedily and drawn."""
  tokens = min(_WRITTEN, max((len(gap.truth) for gap in gaps), default=0))
  greedy, drawn = (
    _generate(model, params, gaps, special_ids, tokens, choice)
    for choice in (Choice(), Choice(temperature=_TEMPERATURE))
  )
  shown: Sample = {}
  for number, gap in enumerate(gaps):
    shown |= {
      f"held-out text {number + 1}; the model writes at {_HERE}": _excerpt(gap),
      f"{number + 1}: the likeliest token each time": _text(greedy[number], to_text),
      f"{number + 1}: tokens drawn at temperature {_TEMPERATURE}": _text(drawn[number], to_text),
      f"{number + 1}: the truth": to_text(gap.truth[:_WRITTEN]),
    }
  return shown


def _generate(model, params, gaps, special_ids, tokens, choice) -> list[Continuation]:
  """Returns what the model writes at each gap: at most `tokens`, with what ended it."""
  pad_id, eos_id, _ = special_ids
  found: dict[int, Continuation] = {}
  for both_ways in (False, True):
    group = {i: gap for i, gap in enumerate(gaps) if gap.reads_both_ways == both_ways}
    if not group:
      continue
    members = list(group.values())
    inputs = [gap.inputs for gap in members if gap.inputs is not None]
    ends = {gap.closing for gap in members if gap.closing is not None}
    written = generate(
      model,
      params,
      [gap.prompt for gap in members],
      encoder_inputs=inputs or None,
      prefix_lm=both_ways,
      max_new_tokens=min(tokens, *(_room(model, gap) for gap in members)),
      choice=choice,
      eos_id=(eos_id, *sorted(ends - {eos_id})),
      pad_id=pad_id,
    )
    found |= zip(group, written, strict=True)
  return [found[i] for i in range(len(gaps))]


def _room(model: Transformer, gap: Gap) -> int:
  """Returns how many tokens can follow the prompt of a gap."""
  if model.config.positions != "learned":
    return _WRITTEN
  return model.config.max_length + 1 - len(gap.prompt)


def _text(written: Continuation, to_text: ToText) -> str:
  if written.finished:
    return to_text(written.tokens[:-1])
  return to_text(written.tokens) + "..."


def _probability(written: Continuation) -> float:
  return float(np.exp(np.sum(written.log_probabilities)))


def _masked(model, params, batch, to_text, pad_id) -> Sample:
  """Shows the likeliest tokens at masks, and the labels of pairs where there are some."""
  found = ((row, held_out_gaps.mask(row, to_text, pad_id)) for row in held_out_gaps.rows(batch))
  some: list[tuple[dict, Mask]] = [(row, mask) for row, mask in found if mask is not None]
  # Masked diffusion may hide nearly all of a text; those who read the sample need the rest of it.
  some = sorted(some, key=lambda x: x[1].hidden_share > 0.5)[:_SHORT_GAPS]
  if not some:
    return {}
  chosen, masks = zip(*some, strict=True)
  probabilities, ids, labels = _encode(model, params, chosen, masks)
  shown: Sample = {}
  for n, mask in enumerate(masks):
    fillings = [
      (p, _quoted(to_text([i]))) for p, i in zip(probabilities[n], ids[n].tolist(), strict=True)
    ]
    text = _example(mask, _quoted(to_text([mask.truth])), fillings)
    if labels is not None:
      label = int(labels[n].argmax())
      truth = int(chosen[n]["pair_labels"])
      text += f"\npair    label {truth}; the model: {label} {labels[n][label]:.0%}"
    shown[f"token {n + 1}"] = text
  title = "Hidden tokens of held-out texts, and the likeliest tokens with their probabilities"
  return {title: f"{_HERE} is the token, [MASK] are others.", **shown}


def _encode(model, params, rows: Sequence[Row], masks: Sequence[Mask]):
  """Returns probabilities and ids [N, K] of the likeliest tokens of masks; labels [N, C] or None.

  The rows are those of a batch, which may hold pairs or several texts each.
  """
  (devices,) = active_mesh.num_shards(("batch",))
  count = len(rows)
  padded = [i % count for i in range(-(-count // devices) * devices)]
  features = {
    name: np.stack([rows[i][name] for i in padded])
    for name in rows[0]
    if name.startswith("encoder_")
  }
  positions = np.array([[masks[i].position] for i in padded], np.int32)
  found = jax.device_get(_likeliest(model, params, features, positions))
  return (None if x is None else np.asarray(x)[:count] for x in found)


@functools.partial(jax.jit, static_argnames="model")
def _likeliest(model, params, features, positions):
  out = model.apply({"params": params}, features, target_positions=positions)
  logits = out.logits(model.config.logit_soft_cap)[:, 0]
  probabilities, ids = jax.lax.top_k(jax.nn.softmax(logits), min(_CANDIDATES, logits.shape[-1]))
  labels = out.pooled_logits
  return probabilities, ids, None if labels is None else jax.nn.softmax(labels.astype(jnp.float32))


def _example(gap: Gap | Mask, truth: str, fillings: Sequence[tuple[float, str]]) -> str:
  """Returns a text with a gap, the truth, and the model's candidates."""
  candidates = "   ".join(f"{text} {_percent(p)}" for p, text in fillings)
  return f"{_excerpt(gap)}\ntruth   {truth}\nmodel   {candidates}"


def _percent(probability: float) -> str:
  digits = 0 if probability >= 0.1 else 1 if probability >= 0.001 else 2
  return f"{probability:.{digits}%}"


def _excerpt(gap: Gap | Mask) -> str:
  return held_out_gaps.excerpt(gap.before, _HERE, gap.after)


def _quoted(text: str) -> str:
  """Returns a text in quotes, with line ends and tabs spelt out: spaces at its ends count."""
  return json.dumps(text, ensure_ascii=False)
