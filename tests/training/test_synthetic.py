"""Random batches: the same for any number of processes; each generates only its own rows."""

import tracemalloc

import numpy as np
import pytest

from t5x_style.training import synthetic

LENGTHS = {"inputs": 40, "targets": 24}


def load(architecture, count=1, index=0, rows=64):
  return synthetic.load(
    architecture, rows, 3, index, count, feature_lengths=LENGTHS, vocab_size=1000
  )


@pytest.mark.parametrize("architecture", ["encoder_decoder", "decoder_only", "encoder_only"])
def test_rows_of_all_processes_are_the_batch_of_one_process(architecture):
  whole = load(architecture)
  parts = [load(architecture, 4, index) for index in range(4)]
  for number in (0, 7):
    batch = whole.batch(number)
    assert {k: v.shape for k, v in batch.items()} == {
      k: x.shape for k, x in whole.feature_shapes.items()
    }
    each = [part.batch(number) for part in parts]
    for name, rows in batch.items():
      assert np.array_equal(np.concatenate([part[name] for part in each]), rows)
      assert rows.dtype == whole.feature_shapes[name].dtype
  tokens = f"{'encoder' if architecture == 'encoder_only' else 'decoder'}_target_tokens"
  assert not np.array_equal(whole.batch(0)[tokens], whole.batch(1)[tokens])


def test_tokens_are_uniform_and_the_requested_share_is_masked():
  batch = load("encoder_only", rows=512).batch(0)
  tokens = batch["encoder_input_tokens"]
  assert tokens.min() == 1 and tokens.max() == 999
  counts = np.bincount(tokens.ravel(), minlength=1000)[1:]
  expected = tokens.size / 999
  assert abs(counts - expected).max() < 5 * np.sqrt(expected)
  assert (batch["encoder_loss_weights"].sum(axis=1) == round(0.15 * 40)).all()
  assert not np.array_equal(tokens, batch["encoder_target_tokens"])


def test_a_process_generates_only_its_own_rows():
  data = load("encoder_only", count=64, rows=4096)
  tracemalloc.start()
  rows = data.batch(0)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert (
    sum(x.nbytes for x in rows.values()) < peak < 4096 * 40 * 4
  )  # bytes of one feature of the whole batch
