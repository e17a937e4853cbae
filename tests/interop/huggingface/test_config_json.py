"""config.json: what cannot be expressed is refused by name, value and what is supported."""

import json

import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.interop.huggingface.config_json import (
  ACTIVATIONS,
  ConfigJson,
  activation_name,
  cycle,
)
from t5x_style.interop.huggingface.model_folder import open_folder
from t5x_style.models import ops

LLAMA = {"model_type": "llama", "vocab_size": 8, "hidden_size": 8, "num_attention_heads": 2}
LLAMA |= {"intermediate_size": 8, "num_hidden_layers": 2}
BERT = LLAMA | {"model_type": "bert"}
REFUSED = [
  (LLAMA | {"hidden_act": "mish"}, "hidden_act = 'mish'.*supported is 'gelu', 'gelu_python'"),
  (LLAMA | {"rope_scaling": {"type": "dynamic", "factor": 2}}, "rope_type = 'dynamic'.*'yarn'"),
  (LLAMA | {"rope_parameters": {"rope_type": "longrope"}}, "rope_type = 'longrope'"),
  (LLAMA | {"rope_parameters": {"rope_type": "yarn"}}, "nothing about rope_parameters.factor"),
  (
    LLAMA | {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "truncate": False}},
    "rope_parameters.truncate = False.*supported is True",
  ),
  (
    LLAMA | {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "beta_fast": 0.5}},
    "rope_parameters.beta_fast = 0.5.*supported is 'more than 1.0'",
  ),
  (LLAMA | {"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
  (LLAMA | {"attention_bias": True}, "attention_bias = True"),
  (LLAMA | {"layer_types": ["chunked_attention"] * 2}, r"layer_types\[0\] = 'chunked_attention'"),
  (LLAMA | {"model_type": "mamba"}, "model_type = 'mamba'.*'llama'"),
  (
    {"model_type": "llama"},
    "so transformers' defaults are used: hidden_size = 4096, num_hidden_layers = 32",
  ),
  (BERT | {"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'"),
  (BERT | {"is_decoder": True}, "is_decoder = True"),
  (BERT | {"pruned_heads": {"0": [1]}}, "pruned_heads = .*at most 0 items"),
  (BERT | {"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob = nan"),
  (LLAMA | {"quantization_config": {"bits": 4}}, "quantization_config = .*dequantize"),
  (LLAMA | {"is_causal": False}, "is_causal = False.*supported is True"),
  (LLAMA | {"sliding_window": 4}, "sliding_window = 4: transformers has no windows in models of"),
  (LLAMA | {"layer_types": ["full_attention"]}, "layer_types has 1 entries for the 2 layers"),
  (
    LLAMA | {"hidden_size": 9},
    "width of the model, 9, has to be a multiple of its 2 attention heads",
  ),
  (
    LLAMA | {"model_type": "qwen3", "layer_types": ["sliding_attention"] * 2},
    "use_sliding_window = False with sliding_window = 4096 gives it no window",
  ),
  (
    LLAMA | {"rope_parameters": {"full_attention": {}}},
    "rope_parameters.full_attention = {}.*one table for all layers",
  ),
  ({"model_type": "gpt2", "n_layer": 2, "num_hidden_layers": 3}, "two names of one thing"),
  ({"model_type": "bart", "normalize_before": True}, "normalize_before = True"),
  (BERT | {"model_type": "albert", "num_hidden_groups": 2}, "num_hidden_groups = 2"),
  (BERT | {"model_type": "modernbert", "mlp_bias": True}, "mlp_bias = True"),
  ({"model_type": "gpt2", "n_embd": 8, "n_head": 2, "add_cross_attention": True}, "cross"),
  (
    {"model_type": "bart", "d_model": 8, "encoder_attention_heads": 2, "encoder_ffn_dim": 8}
    | {"decoder_attention_heads": 4},
    "decoder_attention_heads = 4",
  ),
  (
    {"model_type": "t5", "feed_forward_proj": "gated-tanh"},
    "feed_forward_proj = 'gated-tanh'.*supported is 'gelu' or",
  ),
]


@pytest.mark.parametrize(("values", "message"), REFUSED)
def test_what_cannot_be_expressed(tmp_path, values, message):
  from safetensors.numpy import save_file

  save_file({}, tmp_path / "model.safetensors")
  (tmp_path / "config.json").write_text(json.dumps(values))
  with pytest.raises(ValueError, match=message):
    open_folder(tmp_path)


def test_no_folder_and_no_json(tmp_path):
  with pytest.raises(UserError, match="does not exist.*not fetched"):
    ConfigJson.read(tmp_path / "bert-base-uncased")
  with pytest.raises(UserError, match="holds no config.json"):
    ConfigJson.read(tmp_path)
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(ValueError, match="config.json' cannot be read"):
    ConfigJson.read(tmp_path)


def test_cycles():
  assert cycle([1, 2, 2, 1, 2]) == (1, 2, 2)
  assert cycle([3, 3, 3]) == (3,)
  assert cycle([1, 1, 2]) == (1, 1, 2)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_transformers(name):
  torch, activations = pytest.importorskip("torch"), pytest.importorskip("transformers.activations")
  x = np.linspace(-6, 6, 401, dtype=np.float32)
  own = np.asarray(ops.ACTIVATIONS[ACTIVATIONS[name]](x))
  np.testing.assert_allclose(own, activations.ACT2FN[name](torch.tensor(x)), rtol=1e-5, atol=3e-6)


def test_the_name_that_is_written_is_read_as_the_same_activation():
  for own in set(ACTIVATIONS.values()):
    assert ACTIVATIONS[activation_name(own)] == own
  with pytest.raises(UserError, match="'linear', for which ACTIVATIONS of .* has no name"):
    activation_name("linear")
