"""The gin side of launch.convert: the model and the vocabulary that gin files describe."""

import inspect

import pytest

from launch.configuration.gin_values import GinValues
from launch.conversion import model_gin
from launch.process.errors import ConfigurationError


def test_padding_of_another_tokenizer_has_to_be_given():
  """RoBERTa counts positions from it, and the gin files of a run need not set it."""
  files = ["models/roberta/base.gin", "data/hf_tokenizer.gin"]
  given = ["VOCABULARY_FILE = '/x/tokenizer.json'"]
  with pytest.raises(ConfigurationError, match="which id is padding"):
    model_gin.transformer_config(GinValues(files, given))
  given.append("config.TransformerConfig.padding_id = 1")
  assert model_gin.transformer_config(GinValues(files, given)).padding_id == 1


def test_defaults_of_vocabularies_are_those_of_the_data():
  """They are repeated there, because the data needs TensorFlow."""
  from t5x_style.data.tokenizers import vocabularies

  for function in (vocabularies.sentencepiece, vocabularies.byte_vocabulary):
    parameters = inspect.signature(function).parameters
    assert parameters["extra_ids"].default == model_gin.EXTRA_IDS
    assert parameters["specials_from_extra_ids"].default == ()
  path = inspect.signature(vocabularies.sentencepiece).parameters["path"].default
  assert path == model_gin.VOCABULARY_PATH
  assert vocabularies.SHIPPED == model_gin.SHIPPED_VOCABULARIES


def test_the_shipped_vocabulary_is_found_without_being_named():
  binding = "VOCABULARY = @vocabularies.sentencepiece()"
  found = model_gin.vocabulary_of_run(GinValues([], [binding]))
  shipped = model_gin.SHIPPED_VOCABULARIES / model_gin.VOCABULARY_PATH
  assert (found.model, found.extra_ids) == (shipped.read_bytes(), model_gin.EXTRA_IDS)
