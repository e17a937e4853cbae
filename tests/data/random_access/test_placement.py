"""Examples in rows, as packing.pack puts them there."""

import numpy as np

from t5x_style.data import packing
from t5x_style.data.random_access import placement


def test_two_examples_share_a_row():
  examples = {
    "inputs": np.array([[7, 8, 1], [9, 1, 0], [4, 1, 0]], np.int32),
    "targets": np.array([[5, 1, 0], [6, 4, 1], [2, 0, 0]], np.int32),
  }
  rows = placement.shared(
    examples, np.array([0, 0, 1]), 2, "encoder_decoder", {"inputs": 6, "targets": 6}
  )
  assert {name: value.tolist() for name, value in rows.items()} == {
    "inputs": [[7, 8, 1, 9, 1, 0], [4, 1, 0, 0, 0, 0]],
    "inputs_segment_ids": [[1, 1, 1, 2, 2, 0], [1, 1, 0, 0, 0, 0]],
    "targets": [[5, 1, 6, 4, 1, 0], [2, 0, 0, 0, 0, 0]],
    "targets_segment_ids": [[1, 1, 2, 2, 2, 0], [1, 0, 0, 0, 0, 0]],
  }


def test_rows_are_those_of_the_stream():
  """With a prefix, weights, and any numbers of examples in a row."""
  random = np.random.default_rng(0)
  row = np.sort(random.integers(0, 8, 20))
  row = np.unique(row, return_inverse=True)[1]
  sizes = random.integers(1, 5, (20, 2))
  examples = {
    name: np.where(np.arange(6) < sizes[:, [side]], random.integers(1, 99, (20, 6)), 0)
    for side, name in enumerate(("inputs", "targets"))
  }
  examples = {name: value.astype(np.int32) for name, value in examples.items()}
  examples["loss_weights"] = (examples["targets"] % 2).astype(np.float32)
  for architecture in ("encoder_decoder", "decoder_only"):
    lengths = {"inputs": 40, "targets": 30}
    count = int(row.max()) + 1
    rows = placement.shared(dict(examples), row, count, architecture, lengths)
    for index in range(count):
      each = [
        packing.fitted({k: v[i] for k, v in examples.items()}, lengths, architecture)
        for i in np.flatnonzero(row == index)
      ]
      expected = packing.row_of(each, packing.widths(lengths, architecture))
      assert rows.keys() == expected.keys()
      for name, value in expected.items():
        np.testing.assert_array_equal(rows[name][index], value, err_msg=name)
        assert rows[name].dtype == value.dtype, name


def test_short_examples_are_padded_to_rows():
  examples = {
    "inputs": np.ones((2, 3), np.int32),
    "targets": np.ones((2, 2), np.int32),
    "pair_label": np.ones(2, np.int32),
    "raw": np.ones((2, 9), np.int32),
  }
  rows = placement.padded(examples, {"inputs": 5, "targets": 4})
  assert {name: value.shape for name, value in rows.items()} == {
    "inputs": (2, 5),
    "targets": (2, 4),
    "pair_label": (2,),
    "raw": (2, 9),
  }
  assert rows["inputs"].tolist() == [[1, 1, 1, 0, 0]] * 2
