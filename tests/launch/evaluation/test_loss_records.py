"""From sums to figures, and the tables of them."""

import math

import numpy as np
import pytest

from launch.evaluation import loss_records
from t5x_style.likelihoods import Likelihood
from t5x_style.training.metrics import Sums


def kind(name, comparable):
  return Likelihood(name=name, what=f"About {name}.", comparable=comparable)


def sums(**more):
  return Sums(loss=12.0, z_loss=0.0, correct=3.0, weight=6.0, tokens=9.0, **more)


def test_the_figures_of_one_objective():
  exact = kind("exact", True)
  found = loss_records.record("40", sums(bytes=24.0), {"": exact})
  assert found == {
    "step": 40,
    "tokens": 6.0,
    "loss": 2.0,
    "perplexity": math.exp(2),
    "accuracy": 0.5,
    "bits_per_byte": pytest.approx(12 / math.log(2) / 24),
    "bytes": 24.0,
    "method": "exact",
    "comparable": True,
  }


def test_parts_of_a_mixture_are_apart_and_the_whole_has_no_bits():
  parts = {"S": kind("suffix", True), "R": kind("conditional", False), "X": kind("conditional", 0)}
  found = loss_records.record(
    "average",
    sums(
      bytes=24.0,
      component_loss=np.array([2.0, 10.0, 0.0]),
      component_weight=np.array([2.0, 4.0, 0.0]),
      component_correct=np.array([2.0, 1.0, 0.0]),
      component_bytes=np.array([4.0, 20.0, 0.0]),
    ),
    parts,
  )
  assert found["step"] == "average" and "bits_per_byte" not in found
  assert found["parts"].keys() == {"S", "R"}
  assert found["parts"]["S"]["bits_per_byte"] == pytest.approx(2 / math.log(2) / 4)
  assert found["parts"]["R"] | {"bits_per_byte": 0} == {
    "tokens": 4.0,
    "loss": 2.5,
    "perplexity": math.exp(2.5),
    "accuracy": 0.25,
    "bits_per_byte": 0,
    "bytes": 20.0,
    "method": "conditional",
    "comparable": False,
  }


def test_pairs_have_their_own_accuracy():
  found = loss_records.record(
    "2", sums(pair_loss=3.0, pair_correct=3.0, pair_weight=4.0), {"": kind("pseudo", False)}
  )
  assert (found["pair_loss"], found["pair_accuracy"]) == (0.75, 0.75)
  assert "bits_per_byte" not in found
