"""Windows hold every token once and in order, for any number of windows at once."""

import numpy as np
import pytest
import tensorflow as tf

from t5x_style.data import window_stream

EOS = 1


def run(documents, length, epoch=0, **kwargs):
  dataset = tf.data.Dataset.from_tensor_slices(tf.ragged.constant(documents, tf.int32))
  dataset = dataset.map(
    lambda d: {"targets": d, "noise_seed": tf.stack([tf.constant(0, tf.int64), epoch])}
  )
  rows = window_stream.windows(dataset, length, eos_id=EOS, **kwargs).unbatch()
  return list(rows.as_numpy_iterator())


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_windows_join_documents_with_eos(rows):
  out = run([[5, 6, 7], [], [8], [9, 10]], 4, rows=rows)
  assert [o["tokens"].tolist() for o in out] == [[5, 6, 7, 1], [8, 1, 9, 10], [1, 0, 0, 0]]
  assert [int(o["lengths"]) for o in out] == [4, 4, 1]


def test_a_rest_that_is_too_short_is_left_out():
  assert len(run([[5, 6, 7], [8, 9]], 4, min_length=4)) == 1
  assert len(run([[5, 6, 7], [8, 9]], 4, min_length=3)) == 2
  assert run([[], []], 4) == []


def test_seeds_do_not_depend_on_the_batch_but_on_the_epoch():
  documents = [list(range(3, 200))]
  one = [int(o["seeds"]) for o in run(documents, 10, rows=1)]
  many = [int(o["seeds"]) for o in run(documents, 10, rows=8)]
  later = [int(o["seeds"]) for o in run(documents, 10, epoch=np.int64(1), rows=8)]
  assert one == many and len(set(one)) == len(one)
  assert not set(one) & set(later)
