"""The config.json of an exported model: exactly this model, or an error that names differences."""

import dataclasses

import pytest

from t5x_style.interop.huggingface import config_export
from t5x_style.interop.huggingface.config_json import ConfigJson
from t5x_style.interop.huggingface.families import t5
from t5x_style.interop.huggingface.model_folder import open_folder
from t5x_style.models import TransformerConfig

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


def test_what_does_not_describe_the_model_is_kept_from_the_imported_one(pretrained):
  _, path = pretrained("bart")
  folder = open_folder(path)
  larger = dataclasses.replace(folder.correspondence.config, vocab_size=128)
  _, settings = config_export.choose_family(larger, folder.config_json)
  assert settings["vocab_size"] == 128
  assert settings["forced_eos_token_id"] == 2 and settings["decoder_start_token_id"] == 2


def test_what_is_no_longer_true_is_not_kept(pretrained):
  """transformers 5 writes keys that it derives from others, and prefers them when it reads."""
  _, path = pretrained("t5")
  folder = open_folder(path)
  assert folder.config_json.values["dense_act_fn"] == "relu"
  changed = dataclasses.replace(folder.correspondence.config, mlp_activations=("silu", "linear"))
  _, settings = config_export.choose_family(changed, folder.config_json)
  assert t5.from_config_json(ConfigJson(settings), {})["mlp_activations"] == ("silu", "linear")
  assert settings["eos_token_id"] == 1


@pytest.mark.parametrize("name", ["bert_labels", "bert_bare"])
def test_a_head_for_words_that_is_not_written_scales_nothing(name, pretrained):
  config = open_folder(pretrained(name)[1]).correspondence.config
  wide = dataclasses.replace(config, tie_embeddings=True, base_emb_dim=8)
  correspondence, settings = config_export.choose_family(wide)
  assert settings["model_type"] == "bert"
  assert {rule.factor for rule in correspondence.rules} == {1.0}
