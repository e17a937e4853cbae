"""A training step on random batches: tokens/s, TFLOP/s, MFU and memory, alone or against a peer.

Without --gin_file the shapes are those that the notes compare with the peers; without a peer an
accelerator gets twice the rows. With --against=hf, Hugging Face's transformers train the same
architecture in PyTorch, with the same weights, batches, precision and number of threads; with
--against=t5x, T5X's own network does, from its source at --t5x_source. The two run in turns, round
by round. Both then train with AdamW at a constant rate, plain cross-entropy, no dropout and one
microbatch, whatever the gin file says.

A step is the whole of it: forward, backward, clipping and AdamW, on a batch that is already on the
device. A round is one step that is not timed, in which a side allocates its memory again, and then
as many steps as take about a second; only the last one is waited for. Seconds are the median of the
rounds; "spread" is the distance between the first and the third quartile, divided by the median.
FLOPs come from a formula (training/flops.py) that counts only matrix products, causal attention by
half, and no recomputation; MFU is their share of the device's peak in bfloat16.
"""

import functools
import importlib.metadata
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax

from t5x_style.training import setup
from t5x_style.training.dataset import tokens_per_row

from ..process.errors import ConfigurationError, did_you_mean
from . import huggingface_step, roofline_plot, step_cases, step_profile, t5x_step
from .flax_step import FlaxStep

FLAGS = (
  *("gin_file", "gin_bindings", "gin_search_paths", "against", "t5x_source", "case", "seconds"),
  *("tiny", "profile", "roofline"),
)
COLUMNS = {
  "step_seconds": ("s/step", ".3f"),
  "spread": ("spread", ".1%"),
  "tokens_per_second": ("tokens/s", ",.0f"),
  "tflops": ("TFLOP/s", ",.3f"),
  "mfu": ("MFU", ".1%"),
  "peak_mib": ("peak MiB", ",.0f"),
  "compile_seconds": ("compile s", ".1f"),
  "peer_step_seconds": ("peer's s", ".3f"),
  "ratio": ("ratio", ".2f"),
  "ratio_low": ("from", ".2f"),
  "ratio_high": ("to", ".2f"),
  "loss_difference": ("loss diff", ".1e"),
}
PEERS = ("hf", "t5x")
LABELS = tuple(
  [FlaxStep.label]
  + [f"against {label}" for label in (*huggingface_step.LABELS, t5x_step.T5xStep.label)]
)
FLOP_FORMULA = (
  "3 x the matrix products of the forward pass, causal attention by half, nothing for recomputation"
)
_BATCHES = 4
_COMPARED_STEPS = 5  # whose losses have to agree
_ROUND_SECONDS, _ROUNDS = 1.0, (5, 15)
_TINY_ROUND_SECONDS = 0.01
_MOST_SECONDS = 60.0  # of all rounds of a case, as far as _ROUNDS (least, most) allows


class Contestant(Protocol):
  """Something that trains on the batches of a case."""

  label: str

  def step(self, number: int) -> Any:
    """Starts training on batch `number` and returns what `loss` reads."""
    ...

  def loss(self, sums: Any) -> float:
    """Waits for a step and returns its loss in nats per target token."""
    ...

  def rest(self) -> None:
    """Frees the memory that it does not need between its turns."""
    ...


def measure(
  gin_file: Sequence[str] = (),
  gin_bindings: Sequence[str] = (),
  gin_search_paths: Sequence[str] = (),
  against: str | None = None,
  t5x_source: str | None = None,
  case: str | None = None,
  seconds: float | None = None,
  tiny: bool = False,
  profile: str | None = None,
  roofline: str | None = None,
) -> Iterator[dict[str, Any]]:
  """Yields a row per case, or per case and kind of peer; see launch.benchmark."""
  cases = step_cases.requested(gin_file, gin_bindings, gin_search_paths, against is None, tiny)
  cases = step_cases.named(cases, case)
  make_peers = _peers_of(against, t5x_source)
  if make_peers:
    cases = [step_cases.comparable(case) for case in cases]
  if roofline:
    roofline_plot.check(Path(roofline))
  limits = seconds or _MOST_SECONDS, _TINY_ROUND_SECONDS if tiny else _ROUND_SECONDS
  rows = []
  for each in cases:
    for row in _measure(each, make_peers, limits, profile):
      rows.append(row)
      yield row
  if roofline:
    roofline_plot.draw(rows, Path(roofline))


# Makes peers from a prepared run, its parameters, batches and learning rate.
MakePeers = Callable[[setup.Prepared, Any, Sequence[Any], float], Sequence[Contestant]]


def _peers_of(against: str | None, t5x_source: str | None) -> MakePeers | None:
  """Returns what makes the peers; None without peers.

  Raises:
    ConfigurationError: there is no such peer, or what it needs is missing.
  """
  if against not in (None, *PEERS):
    raise ConfigurationError(
      f"--against={against!r} is no peer.{did_you_mean(str(against), PEERS)} Write --against=hf or "
      "--against=t5x."
    )
  if t5x_source and against != "t5x":
    raise ConfigurationError("--t5x_source belongs to --against=t5x; add it.")
  if against == "t5x":
    return functools.partial(t5x_step.peers, t5x_step.load_network(t5x_source))
  if against == "hf":
    huggingface_step.check_installed()
    return huggingface_step.peers
  return None


def _measure(
  case: step_cases.StepCase,
  make_peers: MakePeers | None,
  limits: tuple[float, float],
  profile: str | None,
) -> Iterator[dict[str, Any]]:
  """Yields the rows of a case.

  Args:
    limits: seconds of all rounds, and of one.
    profile: the folder for a profile of two steps.
  """
  prepared = step_cases.prepare(case)
  stream = prepared.dataset.train()
  batches = [next(stream) for _ in range(_BATCHES)]
  flax_step = FlaxStep(prepared, batches)
  peers: Sequence[Contestant] = []
  if make_peers:
    peers = make_peers(prepared, flax_step.state.params, batches, step_cases.LEARNING_RATE)
  contestants: list[Contestant] = [flax_step, *peers]
  losses = {}
  for contestant in contestants:
    losses[contestant.label] = [
      contestant.loss(contestant.step(number)) for number in range(_COMPARED_STEPS)
    ]
    contestant.rest()
  own_losses = losses[flax_step.label]
  for peer in peers:
    _check_agreement(own_losses, losses[peer.label], case.config.model.dtype, peer.label)
  seconds = rounds_in_turns(contestants, *limits)
  own_seconds = seconds[flax_step.label]
  row = _row(case, prepared, flax_step, own_seconds)
  if profile:
    row["profile"] = step_profile.write(flax_step, Path(profile), case.name)
  if not peers:
    yield row
  for peer in peers:
    compared = _comparison(own_seconds, seconds[peer.label], own_losses, losses[peer.label])
    yield row | {"label": f"against {peer.label}"} | compared


def _check_agreement(own: Sequence[float], peer: Sequence[float], dtype: str, label: str) -> None:
  """Raises ValueError if the two do not train the same model: ratios would mean nothing."""
  allowed = 1e-3 if dtype == "float32" else 5e-2
  if not all(abs(a - b) < allowed for a, b in zip(own, peer, strict=True)):
    raise ValueError(
      f"{label} does not train the same model: the losses of the first steps are {list(peer)}, "
      f"those of t5x_style {list(own)}. transformers may lack something of this model."
    )


def rounds_in_turns(
  contestants: Sequence[Contestant],
  most_seconds: float = _MOST_SECONDS,
  round_seconds: float = _ROUND_SECONDS,
) -> dict[str, list[float]]:
  """Returns {label: seconds of a step in each round}; every other round is in reverse order.

  Args:
    most_seconds: of all rounds, of which there are at least five.
    round_seconds: how long the steps of a contestant take together in a round.
  """
  steps = {}
  for contestant in contestants:
    steps[contestant.label] = max(1, round(round_seconds / _time(contestant, 1)))
    contestant.rest()
  taken: dict[str, list[float]] = {c.label: [] for c in contestants}
  begun = time.perf_counter()
  for turn in itertools.count(1):
    for contestant in contestants if turn % 2 else contestants[::-1]:
      count = steps[contestant.label]
      _time(contestant, 1)  # It allocates the memory again that it freed for the others.
      taken[contestant.label].append(_time(contestant, count) / count)
      contestant.rest()
    enough = turn >= _ROUNDS[0] and time.perf_counter() - begun > most_seconds
    if enough or turn == _ROUNDS[1]:
      return taken
  raise AssertionError


def _time(contestant: Contestant, count: int) -> float:
  """Returns the seconds of `count` steps; only the last one is waited for."""
  start = time.perf_counter()
  for number in range(count):
    sums = contestant.step(number)
  contestant.loss(sums)
  return time.perf_counter() - start


def _row(
  case, prepared: setup.Prepared, flax_step: FlaxStep, seconds: Sequence[float]
) -> dict[str, Any]:
  device, count = jax.devices()[0], prepared.partitioner.mesh.size
  median = statistics.median(seconds)
  rate, peak = prepared.step_flops / median, prepared.peak_flops
  peak_bytes = flax_step.peak_bytes()
  return {
    "group": f"{case.title} ({count} x {device.device_kind}, jax {jax.__version__})",
    "label": flax_step.label,
    "case": case.name,
    "device": device.device_kind,
    "num_devices": count,
    "rows": case.config.batch_size,
    "lengths": dict(case.lengths),
    "precision": case.config.model.dtype,
    "fp8": case.config.model.fp8,
    "flop_formula": FLOP_FORMULA,
    "versions": _versions(),
    "num_parameters": prepared.num_parameters,
    "step_seconds": median,
    "spread": _spread(seconds),
    "rounds": len(seconds),
    "tokens_per_second": _tokens(prepared) / median,
    "step_flops": prepared.step_flops,
    "tflops": rate / 1e12,
    "peak_tflops": peak and peak / 1e12,
    "mfu": peak and rate / peak,
    "peak_bytes": peak_bytes,
    "peak_mib": peak_bytes and peak_bytes / 2**20,
    "compile_seconds": flax_step.compile_seconds,
  }


def _versions() -> dict[str, str]:
  """Returns the versions of the libraries of both sides that are imported."""
  names = ("jax", "jaxlib", "flax", "torch", "transformers")
  return {name: importlib.metadata.version(name) for name in names if name in sys.modules}


def _comparison(
  own: Sequence[float],
  peer: Sequence[float],
  own_losses: Sequence[float],
  peer_losses: Sequence[float],
) -> dict[str, Any]:
  """Returns the columns about the peer. Ratios are t5x_style's seconds over the peer's.

  Each round has its own ratio, as other programs on the machine change the time of a round.
  """
  ratios = [a / b for a, b in zip(own, peer, strict=True)]
  low, _, high = statistics.quantiles(ratios, n=4)
  return {
    "peer_step_seconds": statistics.median(peer),
    "ratio": statistics.median(ratios),
    "ratio_low": low,
    "ratio_high": high,
    "ratios": ratios,
    "loss_difference": max(abs(a - b) for a, b in zip(own_losses, peer_losses, strict=True)),
    "losses": list(own_losses),
    "peer_losses": list(peer_losses),
  }


def _spread(seconds: Sequence[float]) -> float:
  low, _, high = statistics.quantiles(seconds, n=4)
  return (high - low) / statistics.median(seconds)


def _tokens(prepared: setup.Prepared) -> int:
  """Returns the tokens that a step reads, of the encoder's and of the decoder's rows."""
  per_row = tokens_per_row(prepared.dataset.feature_shapes)
  return prepared.config.batch_size * sum(per_row.values())
