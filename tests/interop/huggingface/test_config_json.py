"""config.json: what cannot be expressed is refused by name, value and what is supported."""

import dataclasses
import json

import pytest

from t5x_style.errors import UserError
from t5x_style.interop.huggingface import config_export
from t5x_style.interop.huggingface.config_json import ConfigJson, cycle
from t5x_style.interop.huggingface.families import t5
from t5x_style.interop.huggingface.model_folder import open_folder
from t5x_style.models import TransformerConfig

LLAMA = {"model_type": "llama", "vocab_size": 8, "hidden_size": 8, "num_attention_heads": 2}
LLAMA |= {"intermediate_size": 8, "num_hidden_layers": 2}
BERT = LLAMA | {"model_type": "bert"}
REFUSED = [
  (LLAMA | {"hidden_act": "mish"}, "hidden_act = 'mish'.*supported is 'gelu', 'gelu_python'"),
  (LLAMA | {"rope_scaling": {"type": "linear", "factor": 2}}, "rope_type = 'linear'.*'llama3'"),
  (LLAMA | {"rope_parameters": {"rope_type": "yarn"}}, "rope_type = 'yarn'"),
  (LLAMA | {"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
  (LLAMA | {"attention_bias": True}, "attention_bias = True"),
  (LLAMA | {"layer_types": ["chunked_attention"] * 2}, r"layer_types\[0\] = 'chunked_attention'"),
  (LLAMA | {"model_type": "mamba"}, "model_type = 'mamba'.*'llama'"),
  ({"model_type": "llama"}, "so as in transformers: hidden_size = 4096, num_hidden_layers = 32"),
  (BERT | {"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'"),
  (BERT | {"is_decoder": True}, "is_decoder = True"),
  (BERT | {"pruned_heads": {"0": [1]}}, "pruned_heads = .*at most 0 items"),
  (BERT | {"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob = nan"),
  (LLAMA | {"quantization_config": {"bits": 4}}, "quantization_config = .*dequantize"),
  (LLAMA | {"is_causal": False}, "is_causal = False.*supported is True"),
  (LLAMA | {"sliding_window": 4}, "sliding_window = 4: transformers has no windows in models of"),
  (LLAMA | {"layer_types": ["full_attention"]}, "layer_types has 1 entries for the 2 layers"),
  (LLAMA | {"hidden_size": 9}, "width of the model, 9, has to divide by its 2 attention heads"),
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


SIZES = {"vocab_size": 32, "emb_dim": 8, "num_heads": 2, "head_dim": 4, "mlp_dim": 8}


def test_a_model_that_transformers_lacks_is_refused_with_what_differs():
  config = TransformerConfig(
    **SIZES, num_decoder_layers=2, positions="rotary", mlp_activations=("silu", "linear")
  )
  assert config_export.choose_family(config)[1]["model_type"] == "llama"
  capped = dataclasses.replace(config, logit_soft_cap=30.0)
  with pytest.raises(ValueError, match=r"llama: logit_soft_cap = 30.0, not None"):
    config_export.choose_family(capped)
  with pytest.raises(ValueError, match="gpt2.*positions = 'rotary', not 'learned'"):
    config_export.choose_family(config, name="gpt2")
  with pytest.raises(ValueError, match="--family=gpt4 is not known; known are t5"):
    config_export.choose_family(config, name="gpt4")


def test_what_is_not_about_the_model_is_kept_from_where_it_began(pretrained):
  _, path = pretrained("bart")
  folder = open_folder(path)
  larger = dataclasses.replace(folder.correspondence.config, vocab_size=128)
  _, settings = config_export.choose_family(larger, folder.config_json)
  assert settings["vocab_size"] == 128
  assert settings["forced_eos_token_id"] == 2 and settings["decoder_start_token_id"] == 2


def test_what_is_true_no_more_is_not_kept(pretrained):
  """transformers 5 writes what it derives into config.json, and reads it before all else."""
  _, path = pretrained("t5")
  folder = open_folder(path)
  assert folder.config_json.values["dense_act_fn"] == "relu"
  changed = dataclasses.replace(folder.correspondence.config, mlp_activations=("silu", "linear"))
  _, settings = config_export.choose_family(changed, folder.config_json)
  assert t5.from_config_json(ConfigJson(settings), {})["mlp_activations"] == ("silu", "linear")
  assert settings["eos_token_id"] == 1
