"""Greedy generation: tokens/s of reading prompts and of writing, alone or against a peer.

Without --gin_file the shapes are those that the notes compare with the peers. With --against=hf,
transformers' `generate` continues the same prompts in PyTorch, with the same weights, precision and
number of threads; the two run in turns, round by round, and have to write the same tokens.

Each side is called as its users call it, from ids in Python to ids in Python. A round writes one
token and then all of them: the seconds of the first are those of reading (prefill), the rest those
of writing (decode). Nothing is timed in the first calls, which compile. Seconds are the medians of
the rounds; "spread" is the distance between the first and the third quartile of writing, divided by
the median. A ratio is t5x_style's seconds over the peer's.
"""

import dataclasses
import importlib.metadata
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.inference.generation import generate
from t5x_style.models import Transformer
from t5x_style.trained import unrolled_layers

from ..process.errors import ConfigurationError, did_you_mean
from . import decode_cases, huggingface_decode, huggingface_step, step_cases
from .decode_cases import DecodeCase

FLAGS = ("gin_file", "gin_bindings", "gin_search_paths", "against", "case", "seconds", "tiny")
COLUMNS = {
  "prefill_seconds": ("s to read", ".3f"),
  "prefill_tokens_per_second": ("read tok/s", ",.0f"),
  "decode_tokens_per_second": ("written tok/s", ",.0f"),
  "milliseconds_per_token": ("ms/step", ",.1f"),
  "spread": ("spread", ".1%"),
  "compile_seconds": ("compile s", ".1f"),
  "peer_decode_tokens_per_second": ("peer's", ",.0f"),
  "prefill_ratio": ("read ratio", ".2f"),
  "decode_ratio": ("write ratio", ".2f"),
  "ratio": ("ratio", ".2f"),
  "same_tokens": ("same tok.", ".1%"),
}
PEERS = ("hf",)
_OWN = "t5x_style"
LABELS = (_OWN, *(f"against {label}" for label in huggingface_decode.LABELS))
_ROUNDS = (5, 15)
_MOST_SECONDS = 60.0  # of all rounds of a case, as far as _ROUNDS (least, most) allows
# Shares of the tokens before the first that differs. Random weights have ties, which rounding
# decides, so that bfloat16 soon writes something else.
_LEAST_SAME = {"float32": 0.8, "bfloat16": 0.02, "float16": 0.02}


class Contestant(Protocol):
  """A model that continues the prompts of a case."""

  label: str

  def write(self, count: int) -> np.ndarray:
    """Returns the `count` likeliest tokens after each prompt, int [rows, count]."""
    ...


class FlaxGenerate:
  """This package's side of the comparison."""

  label = _OWN

  def __init__(self, case: DecodeCase, params: Any):
    self._model, self._params, self._rows = Transformer(case.model), params, case.rows
    prompts = case.prompts()
    if case.model.num_encoder_layers:
      self._read: dict[str, Any] = {"prompts": [[0]] * case.rows, "encoder_inputs": prompts}
    else:
      self._read = {"prompts": prompts}

  def write(self, count: int) -> np.ndarray:
    found = generate(
      self._model,
      self._params,
      **self._read,
      max_new_tokens=count,
      batch_size=self._rows,
      eos_id=-1,  # No row ends before the others.
      pad_id=-1,
    )
    return np.stack([continuation.tokens for continuation in found])


def measure(
  gin_file: Sequence[str] = (),
  gin_bindings: Sequence[str] = (),
  gin_search_paths: Sequence[str] = (),
  against: str | None = None,
  case: str | None = None,
  seconds: float | None = None,
  tiny: bool = False,
) -> Iterator[dict[str, Any]]:
  """Yields a row per case, or per case and kind of peer; see launch.benchmark."""
  if against is not None and against not in PEERS:
    raise ConfigurationError(
      f"--against={against!r} is no peer.{did_you_mean(against, PEERS)} Write --against=hf."
    )
  if against:
    huggingface_step.check_installed()
  if gin_file:
    cases = [decode_cases.from_gin(gin_file, gin_bindings, gin_search_paths)]
  elif gin_bindings or gin_search_paths:
    raise ConfigurationError(
      "Bindings belong to a gin file: add --gin_file=quickstart_causal_lm.gin, for example."
    )
  else:
    cases = decode_cases.tiny() if tiny else decode_cases.known()
  for each in step_cases.named(cases, case):
    yield from _measure(each, against, seconds or _MOST_SECONDS)


def random_params(case: DecodeCase) -> Any:
  """Returns the initial parameters of a case."""
  ids = {"decoder_input_tokens": jnp.ones((1, 1), jnp.int32)}
  if case.model.num_encoder_layers:
    ids["encoder_input_tokens"] = ids["decoder_input_tokens"]
  return nn.meta.unbox(jax.jit(Transformer(case.model).init)(jax.random.key(0), ids)["params"])


def _measure(
  case: DecodeCase, against: str | None, most_seconds: float
) -> Iterator[dict[str, Any]]:
  model, params = unrolled_layers.unroll(case.model, random_params(case))  # as t5x_style.load
  case = case._replace(model=model)
  own = FlaxGenerate(case, params)
  start = time.perf_counter()
  written = {own.label: own.write(case.new)}
  own.write(1)
  compile_seconds = time.perf_counter() - start
  peers = huggingface_decode.peers(case, params) if against else []
  for peer in peers:
    peer.write(1)
    written[peer.label] = peer.write(case.new)
  contestants: list[Contestant] = [own, *peers]
  same = {peer.label: _same(written[own.label], written[peer.label]) for peer in peers}
  for label, share in same.items():
    _check_agreement(share, case.model.dtype, label)
  reading, whole = _rounds(contestants, case.new, most_seconds)
  row = _row(case, reading[own.label], whole[own.label], compile_seconds)
  if not peers:
    yield row
  for peer in peers:
    sides = [(reading[label], whole[label]) for label in (own.label, peer.label)]
    compared = _comparison(case, sides[0], sides[1], same[peer.label])
    compared["peer_versions"] = {x: importlib.metadata.version(x) for x in _PEER_PACKAGES}
    yield row | {"label": f"against {peer.label}"} | compared


def _same(own: np.ndarray, peer: np.ndarray) -> float:
  """Returns the share of the tokens that stand before the first different one of their row."""
  return float(np.cumprod(own == peer, axis=1).mean())


def _check_agreement(share: float, dtype: str, label: str) -> None:
  """Raises ValueError if the two do not write the same text: ratios would mean nothing."""
  if share < _LEAST_SAME[dtype]:
    raise ValueError(
      f"{label} does not write the same tokens as t5x_style: {share:.1%} of them are equal before "
      "the first difference of their row. transformers may lack something of this model."
    )


def _rounds(
  contestants: Sequence[Contestant], new: int, most_seconds: float
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
  """Returns {label: seconds} of reading, and of everything; every other round is reversed."""
  reading: dict[str, list[float]] = {c.label: [] for c in contestants}
  whole: dict[str, list[float]] = {c.label: [] for c in contestants}
  begun = time.perf_counter()
  for turn in itertools.count(1):
    for contestant in contestants if turn % 2 else contestants[::-1]:
      reading[contestant.label].append(_time(contestant, 1))
      whole[contestant.label].append(_time(contestant, new))
    enough = turn >= _ROUNDS[0] and time.perf_counter() - begun > most_seconds
    if enough or turn == _ROUNDS[1]:
      return reading, whole
  raise AssertionError


def _time(contestant: Contestant, count: int) -> float:
  start = time.perf_counter()
  contestant.write(count)
  return time.perf_counter() - start


def _row(
  case: DecodeCase, reading: Sequence[float], whole: Sequence[float], compile_seconds: float
) -> dict[str, Any]:
  device = jax.devices()[0]
  versions = f"jax {jax.__version__}"
  writing = [b - a for a, b in zip(reading, whole, strict=True)]
  steps, median = case.new - 1, statistics.median(writing)
  low, _, high = statistics.quantiles(writing, n=4)
  return {
    "group": f"{case.title} ({device.device_kind}, {versions})",
    "label": _OWN,
    "case": case.name,
    "device": device.device_kind,
    "model": dataclasses.asdict(case.model),
    "rows": case.rows,
    "lengths": {"read": case.read, "written": case.new},
    "precision": case.model.dtype,
    "flop_formula": None,  # Tokens are counted, no FLOPs.
    "rounds": len(whole),
    "prefill_seconds": statistics.median(reading),
    "prefill_tokens_per_second": case.rows * case.read / statistics.median(reading),
    "decode_seconds": median,
    "decode_tokens_per_second": case.rows * steps / median,
    "milliseconds_per_token": 1000 * median / steps,
    "whole_seconds": statistics.median(whole),
    "spread": (high - low) / median,
    "compile_seconds": compile_seconds,
  }


_PEER_PACKAGES = ("torch", "transformers")


def _comparison(
  case: DecodeCase,
  own: tuple[Sequence[float], Sequence[float]],
  peer: tuple[Sequence[float], Sequence[float]],
  same: float,
) -> dict[str, Any]:
  """Returns the columns about the peer, from (seconds of reading, seconds of everything)."""
  writing = [[b - a for a, b in zip(*side, strict=True)] for side in (own, peer)]

  def ratio(a, b):
    return statistics.median(x / y for x, y in zip(a, b, strict=True))

  return {
    "peer_prefill_seconds": statistics.median(peer[0]),
    "peer_decode_seconds": statistics.median(writing[1]),
    "peer_decode_tokens_per_second": case.rows * (case.new - 1) / statistics.median(writing[1]),
    "prefill_ratio": ratio(own[0], peer[0]),
    "decode_ratio": ratio(*writing),
    "ratio": ratio(own[1], peer[1]),
    "same_tokens": same,
  }
