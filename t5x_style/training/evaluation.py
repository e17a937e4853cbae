"""The loss on held-out batches: summed over all of them, then divided once."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from t5x_style.training.dataset import Batch
from t5x_style.training.metrics import Sums, add, means
from t5x_style.training.setup import Prepared
from t5x_style.training.step import sum_over_microbatches


class Evaluate(Protocol):
  """Returns means over held-out batches, as `metrics.means` describes them.

  It looks at `left` before each batch but the first, and returns None as soon as that is true.
  """

  def __call__(
    self, params: Any, batches: Iterable[Batch], left: Callable[[], object] = lambda: False
  ) -> dict[str, float] | None: ...


def make_evaluate(prepared: Prepared, progressed: Callable[[], None] = lambda: None) -> Evaluate:
  """Compiles the evaluation.

  The loss is the plain negative log-likelihood: without z-loss, label smoothing and dropout.

  Args:
    progressed: called after each batch.
  """
  sums = make_sums(prepared, progressed)

  def evaluate(
    params: Any, batches: Iterable[Batch], left: Callable[[], object] = lambda: False
  ) -> dict[str, float] | None:
    totals = sums(params, batches, left)
    return None if totals is None else means(totals, prepared.dataset.component_names)

  return evaluate


def make_sums(
  prepared: Prepared, progressed: Callable[[], None] = lambda: None
) -> Callable[..., Sums | None]:
  """Compiles the evaluation; the function is `make_evaluate`'s, but returns the sums themselves."""
  compiled = compile_evaluation(prepared)

  def sums(
    params: Any, batches: Iterable[Batch], left: Callable[[], object] = lambda: False
  ) -> Sums | None:
    totals: Sums | None = None
    running = None
    for batch in batches:
      if running is not None and left():
        return None
      previous, running = running, compiled(params, prepared.partitioner.put(batch))
      if previous is not None:  # Waits for it while the device computes this batch.
        totals = add(totals, jax.device_get(previous))
        progressed()
    assert running is not None, "There is no batch to evaluate on."
    totals = add(totals, jax.device_get(running))
    progressed()
    return totals

  return sums


def compile_evaluation(prepared: Prepared) -> jax.stages.Compiled:
  """Compiles (params, batch) -> Sums of the batch.

  A batch is divided into as many microbatches as in training. No gradient keeps the activations, so
  evaluation fits in memory where the training step fits.
  """
  loss = prepared.evaluation_loss

  def sums(_, batch, params):
    return loss(params, batch, loss.scales(batch))[1]

  def eval_step(params, batch):
    one, count = functools.partial(sums, params=params), prepared.config.num_microbatches
    return one(0, batch) if count == 1 else sum_over_microbatches(one, batch, count)

  jitted = jax.jit(eval_step, out_shardings=prepared.partitioner.replicated())
  with prepared.partitioner.context():
    return jitted.lower(prepared.abstract.params, prepared.batch).compile()


def unigram_entropy(batches: Iterable[Batch], side: str, labels_only: bool = False) -> float:
  """Returns the entropy, in nats per token, of the target tokens of all processes that carry loss.

  With `labels_only` it is that of the labels of rows, in nats per label.

  No model that ignores its input can reach a lower loss on these batches: a model that has learnt
  anything from context has a lower loss.
  """
  counts = np.zeros(0, np.int64)
  for batch in batches:
    has_loss = batch[f"{side}_loss_weights"] > 0
    if labels_only:
      ids = batch["pair_labels"][has_loss.any(-1)]
    else:
      ids = batch[f"{side}_target_tokens"][has_loss]
    new = np.bincount(ids)
    counts = np.pad(counts, (0, max(0, len(new) - len(counts))))
    counts[: len(new)] += new
  if jax.process_count() > 1:  # Each row is on one process, or each is on equally many.
    size = int(multihost_utils.process_allgather(np.int32(len(counts))).max())
    counts = np.pad(counts, (0, size - len(counts)))
    counts = multihost_utils.process_allgather(counts.astype(np.int32)).astype(np.int64).sum(0)
  shares = counts[counts > 0] / max(counts.sum(), 1)
  return float(-(shares * np.log(shares)).sum())
