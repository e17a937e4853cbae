"""TensorFlow is imported in one place, and only where it is needed."""

import subprocess
import sys

from tests.test_import_rules import DATA_AND_GIN, ROOT, imported, modules, room_of

# Modules of data that a run on a token cache uses, which needs no TensorFlow.
WITHOUT_TENSORFLOW = (
  "objectives",
  "noise",
  "converters",
  "model_ids",
  "packing",
  "tokenizers.huggingface_tokenizers",
  "tokenizers.vocabularies",
)


def test_examples_are_made_without_tensorflow():
  """Its import takes longer than a short run, and a machine that trains may not have it."""
  program = f"""
import importlib, sys
for module in {WITHOUT_TENSORFLOW!r}:
  importlib.import_module(f"t5x_style.data.{{module}}")
  found = {DATA_AND_GIN!r} & set(sys.modules)
  assert not found, f"{{module}} loads {{found}}"
from t5x_style.data.objectives.base import known
assert len(known()) > 10
assert not {DATA_AND_GIN!r} & set(sys.modules)
"""
  run = subprocess.run(
    [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
  )
  assert run.returncode == 0, run.stderr[-500:]


def test_data_takes_tensorflow_from_one_file():
  """It hides the accelerators from TensorFlow, which would take their memory."""
  found = [m for m, path in modules().items() if "tensorflow" in imported(path)]
  assert [module for module in found if room_of(module) == "data"] == [
    "t5x_style.data.tensorflow_setup"
  ]
