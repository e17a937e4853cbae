"""Trained models in EleutherAI's lm-evaluation-harness (the package lm-eval), for its tasks.

import lm_eval, t5x_style
from t5x_style.trained.evaluation_harness import harness_model
model = harness_model(t5x_style.load(MODEL_DIR))
lm_eval.simple_evaluate(model=model, tasks=["lambada_openai"])
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from t5x_style.errors import UserError
from t5x_style.inference.choice import Choice
from t5x_style.inference.generation import generate
from t5x_style.inference.row_batches import longest_row
from t5x_style.inference.scoring import Row, score_rows
from t5x_style.trained.framing import decoder_prompt
from t5x_style.trained.loaded_model import LoadedModel
from t5x_style.trained.scoring_frames import (
  context_of_decoder,
  decoder_start,
  encoder_frame,
  reads_context_both_ways,
)
from t5x_style.trained.scoring_methods import fitting_methods

_LONGEST = 2048  # tokens of a row where neither the model nor its training has a limit
_MAX_NEW_TOKENS = 256  # where a task does not say, as in the harness

Request = tuple[Any, list[int], list[int]]  # (texts, ids of the context, ids of the continuation)


def harness_model(model: LoadedModel, *, max_length: int | None = None) -> Any:
  """Returns a model that lm_eval.simple_evaluate takes.

  Log-likelihoods are those of the harness's own "hf" model: a context and its continuation are
  encoded together in decoder-only models, apart in encoder-decoders; rows that are too long lose
  their beginning. A text without context follows the start token.

  Args:
    max_length: the most tokens of a row; None takes the model's learned positions, or the rows of
      its training, or 2,048.

  Raises:
    UserError: lm-eval is not installed, or the model is an encoder.
  """
  if model.config.architecture == "encoder_only":
    raise UserError(
      f"{model.path} is an encoder, which lm-evaluation-harness cannot evaluate; for minimal pairs "
      "there is `python -m launch.eval pairs`."
    )
  return _harness_class()(model, max_length)


class _Evaluated:
  """What the harness asks of a model, without the harness's base class."""

  def __init__(self, model: LoadedModel, max_length: int | None):
    super().__init__()
    self._model, self._codec = model, model.codec
    self._reads_text = model.config.architecture == "encoder_decoder"
    self.backend = "seq2seq" if self._reads_text else "causal"
    self._prefix = not self._reads_text and fitting_methods(model, True) == ["prefix_lm"]
    self._both_ways = self._prefix and reads_context_both_ways(model)
    lengths = model.row_lengths
    trained = lengths.get("inputs", 0) if self._reads_text else sum(lengths.values())
    self.max_length = max_length or longest_row(model.model) or trained or _LONGEST

  @property
  def eot_token_id(self) -> int:
    return self._codec.eos_id

  @property
  def prefix_token_id(self) -> int:
    """The id before a text without context; an encoder reads EOS."""
    return self._codec.eos_id if self._reads_text else self._codec.start_id

  @property
  def tokenizer_name(self) -> str:
    return self._codec.name

  def tok_encode(
    self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
  ) -> list[int]:
    """Returns the ids of a text, with what the model reads around it unless that is refused."""
    del kwargs
    ids = self._codec.encode(string)
    if add_special_tokens is False:
      return ids
    if self._reads_text:
      return encoder_frame(self._model, "prefix_lm").around(ids)
    read = context_of_decoder(self._model, ids) if self._prefix else ids
    return decoder_prompt(self._codec, self._model.template, read)

  def _loglikelihood_tokens(
    self, requests: Sequence[Request], disable_tqdm: bool = False, **kwargs: Any
  ) -> list[tuple[float, bool]]:
    """Returns (log-likelihood of the continuation in nats, whether greedy decoding writes it)."""
    del disable_tqdm, kwargs
    rows = [self._row(context, continuation) for _, context, continuation in requests]
    with self._model.partitioner.context():
      scores = list(score_rows(self._model.model, self._model.params, rows))
    found = []
    for request, score in zip(requests, scores, strict=True):
      total = float(score.log_probabilities.sum(dtype=np.float64))
      found.append((total, bool(score.likeliest.all())))
      if request[0] is not None:
        self.cache_hook.add_partial("loglikelihood", request[0], found[-1])  # type: ignore[attr-defined]
    return found

  def _row(self, context: list[int], ids: list[int]) -> Row:
    if self._reads_text:
      start = decoder_start(self._model)
      ids = ids[-(self.max_length + 1 - len(start)) :]
      positions = range(len(start) - 1, len(start) - 1 + len(ids))
      return Row(ids, positions, [*start, *ids[:-1]], context[-self.max_length :])
    whole = [*context, *ids][-(self.max_length + 1) :]
    ids = ids[-(len(whole) - 1) :]
    before = len(whole) - len(ids)
    positions = range(before - 1, len(whole) - 1)
    return Row(ids, positions, whole[:-1], prefix=before if self._both_ways else 0)

  def loglikelihood_rolling(
    self, requests: Sequence[Any], disable_tqdm: bool = False
  ) -> list[float]:
    """Returns the log-likelihood of each text, long ones in windows, in nats.

    Every token is scored once, the later windows with as much text before it as fits.
    """
    del disable_tqdm
    windows: list[Request] = []
    owners: list[int] = []
    for number, request in enumerate(requests):
      for window in self._windows(self._codec.encode(request.args[0])):
        windows.append((None, *window))
        owners.append(number)
    totals = [0.0] * len(requests)
    for number, (total, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
      totals[number] += total
    for request, total in zip(requests, totals, strict=True):
      self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)  # type: ignore[attr-defined]
    return totals

  def _windows(self, ids: list[int]) -> Iterator[tuple[list[int], list[int]]]:
    from lm_eval import utils

    windows = utils.get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1)
    return map(utils.make_disjoint_window, windows)

  def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
    """Returns what the model writes after each context, up to the first stop sequence."""
    del disable_tqdm
    groups: dict[tuple[int, Choice], list[int]] = {}
    for number, request in enumerate(requests):
      groups.setdefault(_length_and_choice(request.args[1]), []).append(number)
    texts = [""] * len(requests)
    for (length, choice), members in groups.items():
      contexts = [requests[i].args[0] for i in members]
      for i, text in zip(members, self._continued(contexts, length, choice), strict=True):
        texts[i] = _cut(text, requests[i].args[1].get("until"))
        self.cache_hook.add_partial("generate_until", requests[i].args, texts[i])  # type: ignore[attr-defined]
    return texts

  def _continued(self, contexts: Sequence[str], length: int, choice: Choice) -> list[str]:
    rows = [self.tok_encode(context) for context in contexts]
    if self._reads_text:
      encoder_inputs = [row[-self.max_length :] for row in rows]
      prompts: list[list[int]] = [decoder_start(self._model)] * len(rows)
    else:
      room = self.max_length - length
      if room < 1:
        raise UserError(
          f"The task may write {length} tokens, and rows of the model have {self.max_length}: "
          "set max_gen_toks of the task's generation_kwargs, or harness_model(max_length=...)."
        )
      encoder_inputs, prompts = None, [row[-room:] for row in rows]
    with self._model.partitioner.context():
      written = generate(
        self._model.model,
        self._model.params,
        prompts,
        encoder_inputs=encoder_inputs,
        prefix_lm=self._both_ways,
        max_new_tokens=length,
        choice=choice,
        eos_id=self._codec.eos_id,
        pad_id=self._codec.pad_id,
      )
    return [self._codec.decode(x.tokens) for x in written]


def _length_and_choice(settings: dict[str, Any]) -> tuple[int, Choice]:
  """Returns the most new tokens, and how they are chosen, of a task's generation settings."""
  names = ("max_gen_toks", "max_new_tokens", "max_tokens")
  length = next((settings[name] for name in names if settings.get(name)), _MAX_NEW_TOKENS)
  temperature = float(settings.get("temperature") or 0.0)
  if settings.get("do_sample") is False:
    temperature = 0.0
  elif settings.get("do_sample") and not temperature:
    temperature = 1.0
  beams = int(settings.get("num_beams") or 1)
  if not temperature:
    return length, Choice(beams=beams)
  top_k, top_p = int(settings.get("top_k") or 0), float(settings.get("top_p") or 1.0)
  return length, Choice(temperature=temperature, top_k=top_k, top_p=top_p)


def _cut(text: str, until: str | Sequence[str] | None) -> str:
  """Returns the text before the first of the stop sequences."""
  for stop in (until,) if isinstance(until, str) else until or ():
    if stop:
      text = text.partition(stop)[0]
  return text


@functools.cache
def _harness_class() -> type:
  """Returns the class that lm_eval knows as a model.

  Raises:
    UserError: lm-eval is not installed.
  """
  try:
    from lm_eval.api.model import TemplateLM
  except ImportError as error:
    raise UserError(
      f"lm-evaluation-harness is not installed ({error}): pip install 't5x_style[lm_eval]'."
    ) from error
  return type("TrainedModelLM", (_Evaluated, TemplateLM), {})
