"""Models that transformers does not have are refused. The others: test_huggingface_step.py."""

import dataclasses

import pytest

from launch.benchmarks import huggingface_models
from launch.benchmarks.step_cases import shipped_model
from launch.process.errors import ConfigurationError


def test_a_model_that_transformers_does_not_have_is_refused():
  gpt2 = shipped_model("gpt2/small")
  with pytest.raises(ConfigurationError, match="scale_logits True"):
    huggingface_models.family(dataclasses.replace(gpt2, scale_logits=True))
  config = dataclasses.replace(gpt2, positions="rotary")
  with pytest.raises(ConfigurationError, match="positions 'rotary'"):
    huggingface_models.family(config)
