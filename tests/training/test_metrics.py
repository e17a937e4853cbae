"""Means of the sums of several steps, against means over all tokens."""

import math

import numpy as np
import pytest

from t5x_style.training.metrics import Sums, add, means


def test_means_weigh_tokens_not_steps():
  rng = np.random.default_rng(0)
  losses, weights = rng.random(10), rng.integers(0, 3, 10).astype(float)
  correct, parts = rng.random(10) < 0.5, np.arange(10) % 2
  totals = None
  for rows in (slice(0, 3), slice(3, 10)):
    loss, weight, part = losses[rows], weights[rows], parts[rows]
    of_part = lambda x, part=part: np.array([x[part == 0].sum(), x[part == 1].sum(), 0])
    sums = Sums(
      loss=np.float32((loss * weight).sum()),
      z_loss=np.float32(0),
      correct=(correct[rows] * weight).sum(),
      weight=weight.sum(),
      tokens=np.float32(len(loss)),
      bytes=np.float32(4 * len(loss)),
      component_loss=of_part(loss * weight),
      component_weight=of_part(weight),
    )
    totals = add(totals, sums)
  found = means(totals, ("even", "odd", "absent"))
  even = parts == 0
  assert found == pytest.approx(
    {
      "loss": np.average(losses, weights=weights),
      "accuracy": np.average(correct, weights=weights),
      "bits_per_byte": (losses * weights).sum() / math.log(2) / 40,
      "loss/even": np.average(losses[even], weights=weights[even]),
      "loss/odd": np.average(losses[~even], weights=weights[~even]),
    },
    rel=1e-6,
  )


def test_the_components_of_a_corpus_have_a_mean_together():
  sums = Sums(
    loss=np.float32(0),
    z_loss=np.float32(0),
    correct=np.float32(0),
    weight=np.float32(1),
    tokens=np.float32(1),
    component_loss=np.array([6.0, 3.0, 8.0, 0.0]),
    component_weight=np.array([2.0, 3.0, 4.0, 0.0]),
  )
  found = means(add(None, sums), ("new/R", "new/S", "old/R", "old/S"))
  losses = {name: value for name, value in found.items() if name.startswith("loss/")}
  assert losses == pytest.approx(
    {"loss/new": 9 / 5, "loss/new/R": 3.0, "loss/new/S": 1.0, "loss/old": 2.0, "loss/old/R": 2.0}
  )


def test_pairs_have_means_of_their_own():
  sums = Sums(loss=6.0, z_loss=0.5, correct=1.0, weight=2.0, tokens=9.0)
  sums = sums._replace(pair_loss=3.0, pair_correct=3.0, pair_weight=4.0)
  assert means(add(None, sums)) == {
    "loss": 3.0,
    "accuracy": 0.5,
    "z_loss": 0.25,
    "pair_loss": 0.75,
    "pair_accuracy": 0.75,
  }


def test_sums_that_began_without_bytes_have_no_bits_per_byte():
  """A run may resume, in the middle of a period, from a version that did not count bytes."""
  old = Sums(
    loss=np.float64(8.0),
    z_loss=np.float64(0.0),
    correct=np.float64(1.0),
    weight=np.float64(4.0),
    tokens=np.float64(4.0),
  )
  new = old._replace(bytes=np.float64(12.0))
  assert "bits_per_byte" not in means(add(old, new))
  assert means(add(add(None, new), new))["bits_per_byte"] > 0
