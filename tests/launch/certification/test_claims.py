"""Claims about two settings: how their figures are computed and judged."""

import dataclasses

import jax
import pytest

from launch.certification import claims
from launch.configuration import reader
from t5x_style.models.parameter_shapes import abstract_parameters
from t5x_style.training import train_config


def test_steps_to_a_loss_follow_the_logarithm_of_the_steps():
  """A run whose loss is 3 - log2(steps) reaches 1 after four steps."""
  assert claims.steps_to(1.0, (2, 8), (2.0, 0.0)) == pytest.approx(4)
  assert claims.steps_to(-1.0, (2, 8), (2.0, 0.0)) == pytest.approx(16)  # beyond both runs


def test_a_claim_needs_its_sign_its_size_and_seeds_that_agree():
  verdict = lambda *found: claims.judge("geglu", "", -0.055, found, 0.045, most=0.0).verdict
  assert verdict(-0.04, -0.05, -0.06) == "passed"
  assert verdict(0.05, 0.05, 0.05) == "failed"
  assert verdict(-0.2, -0.2, -0.2) == "failed"
  assert verdict(-0.15, 0.05, -0.02) == "failed"  # The mean is right, by chance.


def test_every_run_is_trained_once(tmp_path, monkeypatch):
  """What one seed gave is remembered: after a kill only the others are trained."""
  losses = iter([1.9, 1.95, 1.91, 1.96])
  asked = []

  def train(prepared):
    asked.append(prepared)
    try:
      return next(losses)
    except StopIteration:
      raise KeyboardInterrupt from None

  class Prepared:
    def __init__(self, path, bindings, folder):
      self.name, self.config = folder.name, self
      self.train_steps = 7

  monkeypatch.setattr(claims.runs, "prepare", Prepared)
  monkeypatch.setattr(claims.runs, "train", train)
  recipe = next(x for x in claims.recipes() if x.name == "geglu")
  context = claims.Context(tmp_path, Text(), (), "", lambda what: None)
  with pytest.raises(KeyboardInterrupt):
    recipe.run(context)
  losses = iter([1.92, 1.98])
  line = recipe.run(context)
  assert [x.name for x in asked] == [
    *("geglu-0", "geglu_relu-0", "geglu-1", "geglu_relu-1", "geglu-2"),
    *("geglu-2", "geglu_relu-2"),
  ]
  assert line.details["seeds"] == pytest.approx([-0.05, -0.05, -0.06])
  assert line.verdict == "passed"


class Text:
  bindings = ()


def read(name):
  text = ["CORPUS_FILES = 'a'", "VALIDATION_FILES = 'b'", "MODEL_DIR = 'c'"]
  return reader.read([f"certificate/{name}.gin"], text).build(train_config.TrainConfig)


def test_the_two_sides_of_a_claim_differ_in_nothing_else():
  relu, geglu = read("geglu_relu"), read("geglu")
  sizes = [
    sum(x.size for x in jax.tree.leaves(abstract_parameters(config.model)))
    for config in (relu, geglu)
  ]
  assert sizes[0] == sizes[1] and geglu.model.mlp_activations == ("gelu", "linear")
  same = {"mlp_activations": ("relu",), "mlp_dim": relu.model.mlp_dim}
  assert dataclasses.replace(geglu.model, **same) == relu.model
  adamw, muon = read("muon_adamw"), read("muon")
  assert adamw.model == muon.model == relu.model
  assert (adamw.optimizer.__name__, muon.optimizer.__name__) == ("adamw", "muon")
  for field in ("train_steps", "batch_size", "clip_gradient_norm"):
    assert getattr(adamw, field) == getattr(muon, field) == getattr(relu, field), field
