"""Two models differ in what they compute, whatever else of their settings differs."""

import dataclasses

from t5x_style.models import RotaryScaling, TransformerConfig
from t5x_style.models.config_differences import differences

SIZES = {"vocab_size": 8, "emb_dim": 8, "num_heads": 2, "head_dim": 4, "mlp_dim": 8}
CONFIG = TransformerConfig(**SIZES, num_decoder_layers=2, positions="rotary")


def test_how_a_model_is_trained_and_computed_makes_no_difference():
  other = dataclasses.replace(
    CONFIG, dropout_rate=0.1, kernel_init_std=0.02, dtype="bfloat16", remat="full", fp8=True
  )
  assert differences(CONFIG, other) == []


def test_fields_without_effect_make_no_difference():
  """Sizes of positions that the model does not have, a default that is written out."""
  other = dataclasses.replace(CONFIG, max_length=99, relative_buckets=4, num_kv_heads=2)
  assert differences(CONFIG, other) == []


def test_both_values_are_named():
  other = dataclasses.replace(CONFIG, norm_epsilon=1e-5, rotary_base=7.0)
  assert differences(other, CONFIG) == [
    "norm_epsilon = 1e-05, not 1e-06",
    "rotary_base = 7.0, not 10000.0",
  ]


def test_interpolated_positions_depend_on_the_factor_only():
  a, b, c = (
    dataclasses.replace(CONFIG, rotary_scaling=scaling)
    for scaling in (
      RotaryScaling(factor=2.0, kind="linear", original_length=64),
      RotaryScaling(factor=2.0, kind="linear"),
      RotaryScaling(factor=3.0, kind="linear"),
    )
  )
  assert differences(a, b) == []
  assert len(differences(a, c)) == 1
