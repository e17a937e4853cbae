"""Positions in the data are saved and resumed, by any number of processes."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from t5x_style.data import loader
from t5x_style.data.corpora import TextFiles
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.errors import UserError


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


@pytest.mark.parametrize("streams", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_position_after_an_error_of_reading_is_exact(streams, vocabulary, tmp_path):
  """A file goes away; what is saved then resumes, once it is back, with the batch that failed."""
  texts = [f"Text {i}: {' '.join(map(str, range(i, i + 150)))}" for i in range(40)]
  for i, text in enumerate(texts):
    (tmp_path / f"{i:02d}.txt").write_text(text)

  def batches():
    data = loader.load(
      "decoder_only",
      4,
      0,
      corpus=TextFiles(f"{tmp_path}/*.txt", validation_pattern=f"{tmp_path}/00.txt"),
      vocabulary=vocabulary,
      objective=CausalLM(),
      feature_lengths={"targets": 64},
      shuffle_buffer_size=8,
      streams=streams,
    )
    return data.train()

  undisturbed = batches()
  expected = [next(undisturbed) for _ in range(200)]  # more than an epoch
  running = batches()
  read = [next(running) for _ in range(7)]
  running.get_state()
  # A file in the middle: only one of two streams has it.
  (tmp_path / "20.txt").rename(tmp_path / "away")
  with pytest.raises(UserError, match=r"20.txt: it cannot be read \(No such file"):
    for _ in range(200):
      read.append(next(running))
  state = running.get_state()
  assert 7 < len(read) < 200
  (tmp_path / "away").rename(tmp_path / "20.txt")
  again = batches()
  again.set_state(state)
  for batch in expected[len(read) :]:
    np.testing.assert_equal(next(again), batch)
  # What this iterator saves needs no skipping any more, and can be restored like every position.
  third = batches()
  third.set_state(again.get_state())
  np.testing.assert_equal(next(third), next(again))
