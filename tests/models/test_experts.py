"""The settings of experts: what cannot work is refused, and which layers have experts."""

import dataclasses

import jax
import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.models import Experts, Transformer, TransformerConfig, layer_path
from t5x_style.models.config import config_of_json
from t5x_style.models.config_differences import differences

SIZES = {"vocab_size": 8, "emb_dim": 8, "num_heads": 1, "head_dim": 8, "mlp_dim": 8}


def config(layers=4, experts=None, **changes):
  experts = experts or Experts(num_experts=4)
  return TransformerConfig(**SIZES, num_decoder_layers=layers, experts=experts, **changes)


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"num_experts": 2, "experts_per_token": 3}, "more than Experts.num_experts = 2"),
    ({"num_experts": 4, "normalize": True}, "the router would get no gradient"),
    ({"num_experts": 4, "dropout_rate": 1.0}, "set EXPERT_DROPOUT_RATE"),
    ({"num_experts": 4, "balance_over": "all"}, "is not one of 'layer', 'model'"),
    ({"num_experts": 4, "rows_per_group": 2}, "set capacity_factor, or rows_per_group = 1"),
  ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
  with pytest.raises(UserError, match=message):
    Experts(**settings)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"fp8": True, "dtype": "bfloat16"}, "Set fp8 = False, or experts = None"),
    ({"use_bias": True}, "experts have no biases"),
    ({"share_layers": True}, "layers that are shared are dense"),
    ({"layers": 2, "experts": Experts(num_experts=4, every=3)}, "set every to 2 or less"),
  ],
)
def test_models_that_cannot_work_are_refused(changes, message):
  with pytest.raises(UserError, match=message):
    config(**changes)


@pytest.mark.parametrize(
  ("layers", "every", "windows", "with_experts"),
  [
    (4, 1, (None,), {0, 1, 2, 3}),
    (4, 2, (None,), {1, 3}),
    (5, 2, (None,), {1, 3}),
    (7, 3, (None, 4), {2, 5}),
  ],
)
@pytest.mark.parametrize("scan", [True, False])
def test_every_nth_layer_has_experts(layers, every, windows, with_experts, scan):
  made = config(
    layers, Experts(num_experts=4, every=every), attention_windows=windows, scan_layers=scan
  )
  tokens = jax.ShapeDtypeStruct((1, 2), np.int32)
  shapes = jax.eval_shape(
    Transformer(made).init, jax.random.key(0), {"decoder_input_tokens": tokens}
  )
  found = set()
  for layer in range(layers):
    path, _ = layer_path(made, layers, layer)
    tree = shapes["params"]["decoder"]
    for key in path:
      tree = tree[key]
    if "experts" in tree["mlp"]:
      found.add(layer)
  assert found == with_experts == {i for i in range(layers) if made.has_experts(i)}


def test_json_keeps_the_experts():
  made = config(experts=Experts(num_experts=4, experts_per_token=2, capacity_factor=1.5))
  assert config_of_json(dataclasses.asdict(made), "x") == made


def test_only_what_a_trained_model_computes_makes_two_models_differ():
  a = config(experts=Experts(num_experts=4, experts_per_token=2))
  b = config(
    experts=Experts(
      num_experts=4, experts_per_token=2, capacity_factor=1.0, mlp_dim=8, dropout_rate=0.4
    )
  )
  c = config(experts=Experts(num_experts=4, experts_per_token=2, normalize=True))
  d = config(experts=Experts(num_experts=4, experts_per_token=2, row_capacity=8))
  assert differences(a, b) == []
  assert len(differences(a, c)) == len(differences(a, d)) == 1
  assert any("experts" in x for x in differences(a, dataclasses.replace(a, experts=None)))
