"""The gin side of launch.convert: the model that gin files describe."""

import pytest

from launch.configuration import model_gin
from launch.configuration.errors import ConfigurationError
from launch.configuration.gin_values import GinValues


def test_padding_of_another_tokenizer_is_asked_for():
  """RoBERTa counts positions from it, and the run's own files need not say it."""
  files = ["models/roberta/base.gin", "data/hf_tokenizer.gin"]
  given = ["VOCABULARY_FILE = '/x/tokenizer.json'"]
  with pytest.raises(ConfigurationError, match="which id is padding"):
    model_gin.transformer_config(GinValues(files, given))
  given.append("config.TransformerConfig.padding_id = 1")
  assert model_gin.transformer_config(GinValues(files, given)).padding_id == 1
