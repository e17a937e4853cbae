"""Tiny models of every family that the step benchmark compares with PyTorch."""

import dataclasses

from launch.benchmarks import step_cases
from launch.benchmarks.step_cases import shipped_model

SMALL = {"emb_dim": 32, "num_heads": 4, "head_dim": 8, "mlp_dim": 48, "vocab_size": 96}
T5_LENGTHS = {"inputs": 16, "targets": 8}
FAMILIES = {  # {name: (function that returns the model, tokens per row)}
  "t5": (step_cases.t5_for_cpus, T5_LENGTHS),
  "t5 untied": (lambda: shipped_model("t5_1_1/small"), T5_LENGTHS),
  "bert": (lambda: shipped_model("bert/base"), {"inputs": 16}),
  "gpt2": (lambda: shipped_model("gpt2/small"), {"targets": 16}),
  "llama": (
    lambda: dataclasses.replace(step_cases.DECODER_1B, num_kv_heads=2, rotary_base=100.0),
    {"targets": 16},
  ),
}


def prepared_case(name, **changes):
  """Returns a prepared run of a tiny model of the family, and two batches."""
  make_model, lengths = FAMILIES[name]
  model = make_model()
  most = changes.pop("layers", 1)
  layers = {
    field: min(most, getattr(model, field))
    for field in ("num_encoder_layers", "num_decoder_layers")
  }
  model = dataclasses.replace(model, **{**SMALL, **layers, "dtype": "float32", **changes})
  case = step_cases.comparable(step_cases.make(name, model, 2, **lengths))
  prepared = step_cases.prepare(case)
  stream = prepared.dataset.train()
  return prepared, [next(stream) for _ in range(2)]
