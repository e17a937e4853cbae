"""Exported models: transformers computes the same, and what was imported comes back bit by bit."""

import dataclasses
import json

import pytest
from safetensors.numpy import load_file

from t5x_style.interop.huggingface import (
  checkpoint_export,
  checkpoint_import,
  config_export,
  model_folder,
)
from t5x_style.models.config_differences import differences

MAX = 10**9


def test_there_and_back_is_bit_identical(name, pretrained, tmp_path):
  check_there_and_back(name, pretrained, tmp_path)


@pytest.mark.parametrize("untied", ["bert_untied", "roberta_untied"])
def test_a_bias_that_is_not_used_comes_back(untied, pretrained, tmp_path):
  check_there_and_back(untied, pretrained, tmp_path)


def check_there_and_back(name, pretrained, tmp_path):
  _, path = pretrained(name)
  folder = model_folder.open_folder(path)
  checkpoint_import.import_folder(folder, tmp_path / "step")
  checkpoint_import.keep_unused(folder, tmp_path)
  back, settings = config_export.choose_family(folder.correspondence.config, folder.config_json)
  (tmp_path / "back").mkdir()
  kept = model_folder.read_unused(tmp_path, back)
  checkpoint_export.export_step(
    tmp_path / "step", tmp_path / "back", back, max_shard_size=MAX, unused=kept
  )
  before = load_file(path / "model.safetensors")
  after = load_file(tmp_path / "back" / "model.safetensors")
  assert before.keys() == after.keys()
  for tensor in after:
    assert after[tensor].tobytes() == before[tensor].tobytes(), tensor
  assert settings == json.loads((path / "config.json").read_text())


def test_an_exported_model_computes_the_same(
  name, pretrained, draw_parameters, compare, export_and_load
):
  """Random parameters, and a config.json that is written from the TransformerConfig only."""
  _, path = pretrained(name)
  config = model_folder.open_folder(path).correspondence.config
  arrays = draw_parameters(config)
  loaded, info = export_and_load(config, arrays)
  missing = {key for key in info["missing_keys"] if not key.startswith("pooler.")}
  assert not missing and not info["unexpected_keys"] and not info["mismatched_keys"]
  compare(loaded, config, arrays)


@pytest.mark.parametrize("name", ["bert_masked", "roberta", "bart"])
def test_tables_that_are_not_tied(name, pretrained, draw_parameters, compare, export_and_load):
  """transformers then has copies of one parameter, all of which have to be in the file."""
  _, path = pretrained(name)
  there = model_folder.open_folder(path).correspondence.config
  config = dataclasses.replace(there, tie_embeddings=False)
  arrays = draw_parameters(config)
  loaded, info = export_and_load(config, arrays)
  assert not info["missing_keys"] and not info["unexpected_keys"]
  compare(loaded, config, arrays)
  back = model_folder.open_folder(loaded.name_or_path)
  assert back.correspondence.config.tie_embeddings is False
  assert not differences(config, back.correspondence.config)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert_masked", "bart"])
def test_scaled_logits_move_into_the_last_norm(
  name, pretrained, draw_parameters, compare, export_and_load
):
  """TransformerConfig can divide the last states by sqrt(D); transformers cannot."""
  _, path = pretrained(name)
  config = dataclasses.replace(
    model_folder.open_folder(path).correspondence.config, tie_embeddings=True, scale_logits=True
  )
  arrays = draw_parameters(config)
  arrays["token_embed", "embedding"] *= 30  # The logits are small otherwise.
  loaded, _ = export_and_load(config, arrays)
  compare(loaded, config, arrays)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("name", ["t5", "gpt2"])
def test_what_a_wide_tied_head_scales_by_moves_into_the_last_norm(
  name, scaled, pretrained, draw_parameters, compare, export_and_load
):
  """With BASE_EMB_DIM; transformers' T5 has the 1/sqrt(D) of scale_logits itself."""
  _, path = pretrained(name)
  config = model_folder.open_folder(path).correspondence.config
  config = dataclasses.replace(
    config, tie_embeddings=True, scale_logits=scaled, base_emb_dim=config.emb_dim // 4
  )
  assert config.tied_logit_factor == (1 / 2 if scaled else 1 / 4)
  arrays = draw_parameters(config)
  arrays["token_embed", "embedding"] *= 30
  loaded, _ = export_and_load(config, arrays)
  compare(loaded, config, arrays)
