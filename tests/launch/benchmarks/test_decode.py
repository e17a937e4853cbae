"""The decode benchmark: both sides write the same tokens; rows, rounds and mistakes."""

import dataclasses

import numpy as np
import pytest

from launch.benchmarks import decode, huggingface_decode
from launch.benchmarks.decode_cases import DecodeCase
from launch.process.errors import ConfigurationError
from tests.launch.benchmarks.tiny_cases import FAMILIES, SMALL


def tiny_case(name):
  model = FAMILIES[name][0]()
  fields = ("num_encoder_layers", "num_decoder_layers")
  layers = {field: min(2, getattr(model, field)) for field in fields}
  model = dataclasses.replace(model, **SMALL, **layers, dtype="float32")
  return DecodeCase(name, model, rows=3, read=7, new=5)


@pytest.mark.parametrize("name", ["t5", "gpt2", "llama"])
def test_both_sides_write_the_same_tokens(name):
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  case = tiny_case(name)
  params = decode.random_params(case)
  (peer,) = huggingface_decode.peers(case, params)
  for count in (1, case.new):
    own = decode.FlaxGenerate(case, params).write(count)
    assert own.shape == (3, count)
    np.testing.assert_array_equal(own, peer.write(count))
  assert len(np.unique(own)) > 1


def test_seconds_of_writing_are_those_of_all_less_those_of_reading():
  case = tiny_case("gpt2")
  row = decode._row(case, [1.0, 1.0, 2.0], [3.0, 4.0, 4.0], 9.0)
  assert row["prefill_seconds"] == 1 and row["prefill_tokens_per_second"] == 3 * 7
  assert row["decode_tokens_per_second"] == 3 * 4 / 2 and row["milliseconds_per_token"] == 500
  peer = ([2.0, 4.0, 4.0], [10.0, 8.0, 12.0])
  found = decode._comparison(case, ([1.0, 1.0, 2.0], [3.0, 4.0, 4.0]), peer, 1.0)
  assert found["prefill_ratio"] == 0.5 and found["decode_ratio"] == 0.25
  assert found["ratio"] == pytest.approx(1 / 3)


def test_tokens_that_differ_end_the_comparison():
  own = np.array([[1, 2, 3, 4], [1, 2, 3, 4]])
  assert decode._same(own, np.array([[1, 2, 9, 4], [1, 2, 3, 4]])) == 0.75
  decode._check_agreement(0.9, "float32", "HF")
  with pytest.raises(ValueError, match=r"HF does not write the same tokens .*: 50\.0% of them"):
    decode._check_agreement(0.5, "float32", "HF")


def test_mistakes():
  with pytest.raises(ConfigurationError, match="'hg' is no peer"):
    next(decode.measure(against="hg"))
  with pytest.raises(ConfigurationError, match="Bindings belong to a gin file"):
    next(decode.measure(gin_bindings=["A = 1"]))


@pytest.mark.slow
def test_the_model_of_a_run_is_measured(monkeypatch):
  monkeypatch.setattr(decode, "_ROUNDS", (2, 2))
  bindings = ["BATCH_SIZE = 2", "config.TransformerConfig.num_decoder_layers = 1"]
  files = ["quickstart_causal_lm.gin"]
  (row,) = decode.measure(files, [*bindings, "TASK_FEATURE_LENGTHS = {'targets': 16}"])
  assert row["group"].startswith("quickstart_causal_lm: 2 x (8 + 8) tokens, float32")
  assert row["label"] == "t5x_style" and row["decode_tokens_per_second"] > 0
  with pytest.raises(ConfigurationError, match="an encoder-only model writes no text"):
    next(decode.measure(["quickstart_masked_lm.gin"]))
