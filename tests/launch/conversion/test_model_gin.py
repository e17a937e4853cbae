"""The gin side of launch.convert: the model and the vocabulary that gin files describe."""

from pathlib import Path

import pytest

from launch.configuration import reader
from launch.configuration.gin_values import GinValues
from launch.conversion import model_gin
from launch.process.errors import ConfigurationError
from t5x_style.models import Experts, TransformerConfig


def test_padding_of_another_tokenizer_has_to_be_given():
  """RoBERTa counts positions from the padding id, which gin files of a run need not set."""
  files = ["models/roberta/base.gin", "data/hf_tokenizer.gin"]
  given = ["VOCABULARY_FILE = '/x/tokenizer.json'"]
  with pytest.raises(ConfigurationError, match="which id is padding"):
    model_gin.transformer_config(GinValues(files, given))
  given.append("config.TransformerConfig.padding_id = 1")
  assert model_gin.transformer_config(GinValues(files, given)).padding_id == 1


def test_an_imported_vocab_txt_is_named_in_gin(tmp_path):
  text = model_gin.imported_tokenizer_text(tmp_path, tmp_path, ["vocab.txt", "config.json"])
  assert f"VOCABULARY_FILE = '{tmp_path}/vocab.txt'" in text
  assert "include 'data/hf_tokenizer.gin'" in text
  (tmp_path / "vocab.txt").write_text("[UNK]\nA\n")
  (tmp_path / "run.gin").write_text(text)
  found = model_gin.tokenizer_of_run(GinValues([str(tmp_path / "run.gin")], ["LOWER_CASE = True"]))
  assert found.lower_case and found.file == tmp_path / "vocab.txt"
  assert model_gin.tokenizer_of_run(GinValues(["data/vocabulary.gin"])) is None


def test_the_default_vocabulary_is_that_of_the_data():
  """It is found without being named, and without TensorFlow."""
  from t5x_style.data.tokenizers import vocabularies

  binding = "VOCABULARY = @vocabularies.sentencepiece()"
  found = model_gin.vocabulary_of_run(GinValues([], [binding]))
  wanted = vocabularies.sentencepiece()
  assert found.model == Path(wanted.sentencepiece_model_file).read_bytes()
  assert (found.extra_ids, list(found.specials)) == (wanted.extra_ids, list(wanted.borrowed))
  found = model_gin.vocabulary_of_run(
    GinValues([], ["VOCABULARY = @vocabularies.byte_vocabulary()"])
  )
  wanted = vocabularies.byte_vocabulary()
  assert (found.model, found.extra_ids) == (None, wanted.extra_ids)


def test_the_gin_file_of_an_imported_model_with_experts(tmp_path):
  experts = Experts(num_experts=6, experts_per_token=3, normalize=True, mlp_dim=20, every=2)
  sizes = {"vocab_size": 8, "emb_dim": 8, "num_heads": 1, "head_dim": 8, "mlp_dim": 8}
  config = TransformerConfig(**sizes, num_decoder_layers=2, experts=experts)
  text = model_gin.imported_model_text(config, tmp_path / "source", tmp_path)
  (tmp_path / "model.gin").write_text(text)
  assert model_gin.transformer_config(GinValues([str(tmp_path / "model.gin")])) == config
  assert reader.read([str(tmp_path / "model.gin")]).build(TransformerConfig) == config
