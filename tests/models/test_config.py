"""Configurations of models: what is refused, and what does not change the function."""

import pytest

from t5x_style.models import TransformerConfig
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
  assert fields_about("training") == {"dropout_rate", "kernel_init_std", "embedding_init_std"}
