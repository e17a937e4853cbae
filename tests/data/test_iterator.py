"""Positions in the data are saved and resumed, by any number of processes."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from t5x_style.data.objectives.causal_lm import CausalLM


@pytest.mark.parametrize("streams", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_share_the_global_batch(streams, load):
  def run(index, count):
    return load("decoder_only", CausalLM(), 4, 0, index, count, streams=streams).train()

  one, two = run(0, 1), [run(0, 2), run(1, 2)]
  for _ in range(2):
    whole = next(one)
    halves = [next(process) for process in two]
    np.testing.assert_equal(whole, {k: np.concatenate([h[k] for h in halves]) for k in whole})
  # Continued by another number of processes, from what each of two saved.
  state = {k: v for process in two for k, v in process.get_state().items()}
  assert len(state) == streams
  whole = next(one)
  for count in (1, 4):
    parts = []
    for index in range(count):
      process = run(index, count)
      process.set_state(state)
      parts.append(next(process))
    np.testing.assert_equal(whole, {k: np.concatenate([part[k] for part in parts]) for k in whole})


def test_a_saved_position_needs_the_same_streams(load):
  state = load("decoder_only", CausalLM()).train().get_state()
  with pytest.raises(ValueError, match="DATA_STREAMS"):
    load("decoder_only", CausalLM(), streams=2).train().set_state(state)


CHILD = """
import pickle, sys
from t5x_style.data import loader
from t5x_style.data.corpora import TextFiles
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.tokenizers import vocabularies

pattern, state, out = sys.argv[1:]
data = loader.load(
  "encoder_decoder", 4, 0, corpus=TextFiles(pattern, validation_fraction=0.1),
  vocabulary=vocabularies.sentencepiece(), objective=SpanCorruption(),
  feature_lengths={"inputs": 64}, shuffle_buffer_size=32,
)
batches = data.train()
if state != "-":
  batches.set_state(pickle.load(open(state, "rb")))
first = [next(batches) for _ in range(3)]
saved = batches.get_state()
pickle.dump((first, saved, [next(batches) for _ in range(3)]), open(out, "wb"))
"""


@pytest.mark.slow
def test_a_new_process_resumes_where_the_last_one_stopped(tmp_path):
  for i in range(30):
    (tmp_path / f"{i}.txt").write_text(f"This is the text of file {i}. " * 50)
  pattern = str(tmp_path / "*.txt")

  def run(state, out):
    command = [sys.executable, "-c", CHILD, pattern, state, str(out)]
    subprocess.run(command, check=True, timeout=300)
    return pickle.loads(out.read_bytes())

  _, state, after = run("-", tmp_path / "first.pickle")
  (tmp_path / "state.pickle").write_bytes(pickle.dumps(state))
  first, _, _ = run(str(tmp_path / "state.pickle"), tmp_path / "second.pickle")
  for one, other in zip(after, first, strict=True):
    np.testing.assert_equal(one, other)
