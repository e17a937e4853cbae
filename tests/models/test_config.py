"""Configurations of models: what is refused, and what does not change the function."""

import pytest

from t5x_style.errors import UserError
from t5x_style.models import RotaryScaling, TransformerConfig
from t5x_style.models.config import fields_about

SIZES = {"vocab_size": 64, "emb_dim": 32, "num_heads": 4, "head_dim": 8, "mlp_dim": 48}


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"num_decoder_layers": 0, "num_encoder_layers": 0}, "has no layers"),
    ({"norm": "batch"}, "norm = 'batch' is not one of 'rms', 'layer'"),
    ({"num_kv_heads": 3}, "num_kv_heads = 3 must divide num_heads = 4"),
    ({"emb_dim": 0}, "emb_dim = 0 must be a positive integer"),
    ({"dropout_rate": 1.0}, "dropout_rate = 1.0 must lie in"),
    ({"attention_dropout_rate": 1.0}, "must lie in .* set ATTENTION_DROPOUT_RATE"),
    ({"dropout_places": "gpt"}, "dropout_places = 'gpt' is not one of 't5', 'bert', 'modernbert'"),
    ({"attention_windows": (None, 0)}, "attention_windows = .None, 0. holds 0: a window is"),
    ({"share_layers": True, "first_attention_norm": False}, "share_layers needs layers that are"),
    ({"share_layers": True, "attention_windows": (None, 4)}, "1 layers do not divide by the 2"),
    ({"first_attention_norm": False, "norm_position": "post"}, "norm_position = 'post' has none"),
    ({"factorized_dim": 8}, "factorized_dim = 8: a tied head needs head_transform = True"),
    ({"attention_windows": ()}, "must be a tuple with one entry"),
    ({"positions": "rotary", "head_dim": 7}, "head_dim = 7 must be even"),
  ],
)
def test_impossible_configurations_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    TransformerConfig(**{**SIZES, "num_decoder_layers": 1, **changes})


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"kind": "ntk"}, r"RotaryScaling.kind = 'ntk' is not one of 'llama3', 'linear', 'yarn'"),
    ({"low": 4.0}, r"RotaryScaling.high = 4.0 must be more than RotaryScaling.low = 4.0"),
    ({"kind": "linear", "attention_factor": 1.1}, "of kind 'yarn' only, and kind is 'linear'"),
  ],
)
def test_impossible_scalings_are_refused(changes, message):
  with pytest.raises(UserError, match=message):
    RotaryScaling(factor=2.0, **changes)


@pytest.mark.parametrize(
  ("positions", "why"), [("learned", "max_length = 512"), ("relative", "TASK_FEATURE_LENGTHS")]
)
def test_only_rotary_positions_can_be_scaled(positions, why):
  scaling = RotaryScaling(factor=2.0, kind="linear")
  with pytest.raises(UserError, match=f"rotary_scaling is set, but .*{positions!r}.*{why}"):
    TransformerConfig(**SIZES, num_decoder_layers=2, positions=positions, rotary_scaling=scaling)


def test_the_highest_frequency_that_is_scaled_depends_on_the_kind():
  assert RotaryScaling(factor=2.0).high == 4.0
  assert RotaryScaling(factor=2.0, kind="yarn").high == 32.0


def test_lists_of_gin_files_become_tuples():
  config = TransformerConfig(**SIZES, num_decoder_layers=1, attention_windows=[None, 4])
  assert config.attention_windows == (None, 4)
  assert hash(config) == hash(
    TransformerConfig(**SIZES, num_decoder_layers=1, attention_windows=(None, 4))
  )


def test_what_does_not_change_the_function():
  assert fields_about("compilation") == {"remat", "attention"}
  assert fields_about("numerics", "compilation") == {
    *("dtype", "param_dtype", "fp8", "scan_layers", "remat", "attention")
  }
  assert fields_about("training") == {
    *("dropout_rate", "dropout_places", "attention_dropout_rate"),
    *("kernel_init_std", "embedding_init_std", "init_cutoff", "scale_residual_init"),
    *("base_head_dim", "base_layers"),
  }


def test_depth_is_carried_over_only_where_a_rule_is_known():
  deep = {**SIZES, "num_decoder_layers": 4, "base_layers": 2}
  assert TransformerConfig(**deep).base_layers == 2
  for changes, reason in (
    ({"norm_position": "post"}, "norms after them"),
    ({"share_layers": True}, "layers that share their parameters"),
  ):
    with pytest.raises(UserError, match=f"BASE_LAYERS = 2: no rule is known .* {reason}"):
      TransformerConfig(**(deep | changes))
    TransformerConfig(**(deep | changes | {"base_layers": 4}))
