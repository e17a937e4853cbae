"""nanoGPT's two recipes on tiny Shakespeare: characters, here bytes, which are the same 65.

github.com/karpathy/nanoGPT gives 1.88 nats a character (CPU) and 1.4697 (GPU). What counts:

- nanoGPT reads 64 characters and predicts 64, each from one character or more. A row of 64 tokens
  here predicts its first one from nothing (3.3 nats), which adds .022 to the mean of a row. So rows
  have 65 tokens, and the first one is not counted here.
- nanoGPT's figure is the mean of 20 random batches, whose standard deviation is .014. Here it is
  the whole held-out text.

NOTES.md has what each difference between the two programs is worth.
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from t5x_style.training.dataset import Batch

from . import certificate, runs
from .recipe import Context, Recipe, needs_tiny_shakespeare


class _Published(NamedTuple):
  """A figure, with the largest difference from it that passes, and what is known about it."""

  loss: float
  bound: float
  about: str


_CPU = _Published(
  1.88,
  0.025,
  "nanoGPT's README: the mean of 20 random batches, whose standard deviation is .014",
)
_GPU = _Published(1.4697, 0.015, "nanoGPT's README; repeats by others gave 1.46 to 1.48")


def recipes() -> Iterator[Recipe]:
  """Yields the recipe for a CPU and the one for a GPU."""
  run = functools.partial(_run, "nanogpt_cpu", _CPU)
  yield Recipe("nanogpt_cpu", needs_tiny_shakespeare, run)
  yield Recipe("nanogpt_gpu", _missing_gpu, functools.partial(_run, "nanogpt_gpu", _GPU))


def _missing_gpu(context: Context) -> str:
  if jax.default_backend() == "cpu":
    return "needs a GPU or a TPU: on two CPU cores it takes a day"
  return needs_tiny_shakespeare(context)


def _run(name: str, published: _Published, context: Context) -> certificate.Line:
  folder = context.folder / name
  prepared = runs.prepare(f"certificate/{name}.gin", context.settings, folder / "run")
  claim = "held-out loss, nats a character, each predicted from one character or more"

  def measure() -> float:
    context.say(f"{name}: {prepared.config.train_steps:,} steps")
    runs.train(prepared)
    return runs.best_held_out_loss(prepared, without_first)

  try:
    loss = runs.remembered(folder / "loss.json", measure)
  except FloatingPointError as error:
    return certificate.Line(name, claim, "failed", published.loss, reason=str(error))
  reason = f"published: {published.about}"
  return certificate.judged(name, claim, published.loss, loss, published.bound, reason=reason)


def without_first(batch: Batch) -> Batch:
  """Returns a batch in which the first token of each row, predicted from nothing, has no loss."""
  weights = np.array(batch["decoder_loss_weights"])
  weights[:, 0] = 0
  return {**batch, "decoder_loss_weights": weights}
