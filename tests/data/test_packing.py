"""Packing: literal rows, nothing lost, and how full the rows are."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data import converters, iterator, packing, packing_stream


def rows_of(architecture, lengths, examples, **dtypes):
  spec = {k: tf.TensorSpec([None], dtypes.get(k, tf.int32)) for k in examples[0]}
  dataset = tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=spec)
  return iterator.with_options(packing_stream.pack(dataset, architecture, lengths))


def packed(architecture, lengths, examples, **dtypes):
  rows = rows_of(architecture, lengths, examples, **dtypes).batch(1)
  rows = rows.map(lambda b: converters.convert(b, architecture, lengths))
  return [{k: v[0].tolist() for k, v in row.items()} for row in rows.as_numpy_iterator()]


EXAMPLES = [
  {"inputs": [7, 8, 1], "targets": [5, 1], "component_ids": [0, 0]},
  {"inputs": [9, 1], "targets": [6, 4, 1], "component_ids": [2, 2, 2]},
]


def test_encoder_decoder():
  (row,) = packed("encoder_decoder", {"inputs": 6, "targets": 6}, EXAMPLES)
  assert row["encoder_input_tokens"] == [7, 8, 1, 9, 1, 0]
  assert row["encoder_segment_ids"] == [1, 1, 1, 2, 2, 0]
  assert row["encoder_positions"] == [0, 1, 2, 0, 1, 0]
  assert row["decoder_target_tokens"] == [5, 1, 6, 4, 1, 0]
  assert row["decoder_input_tokens"] == [0, 5, 0, 6, 4, 0]
  assert row["decoder_segment_ids"] == [1, 1, 2, 2, 2, 0]
  assert row["decoder_component_ids"] == [0, 0, 2, 2, 2, 0]
  assert row["decoder_loss_weights"] == [1, 1, 1, 1, 1, 0]


def test_decoder_only():
  (row,) = packed("decoder_only", {"inputs": 6, "targets": 6}, EXAMPLES)
  assert row["decoder_target_tokens"] == [7, 8, 1, 5, 1, 9, 1, 6, 4, 1, 0, 0]
  assert row["decoder_input_tokens"] == [0, 7, 8, 1, 5, 0, 9, 1, 6, 4, 0, 0]
  assert row["decoder_segment_ids"] == [1] * 5 + [2] * 5 + [0, 0]
  assert row["decoder_loss_weights"] == [0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0]
  assert row["decoder_causal_attention"] == [1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0]
  assert row["decoder_component_ids"] == [0] * 5 + [2] * 5 + [0, 0]


def test_only_targets():
  examples = [{"targets": [5, 1]}, {"targets": [6, 4, 3, 1]}, {"targets": [9, 1]}]
  first, second = packed("decoder_only", {"targets": 5}, examples)
  assert first["decoder_target_tokens"] == [5, 1, 9, 1, 0]
  assert first["decoder_segment_ids"] == [1, 1, 2, 2, 0]
  assert second["decoder_target_tokens"] == [6, 4, 3, 1, 0]
  assert "decoder_causal_attention" not in first


@pytest.mark.parametrize("architecture", ["encoder_decoder", "decoder_only"])
def test_weights_keep_their_fractions(architecture):
  examples = [
    {"inputs": [7, 1], "targets": [5, 1], "loss_weights": [0.5, 0.0]},
    {"inputs": [8, 1], "targets": [6, 1], "loss_weights": [0.25, 1.5]},
  ]
  lengths = {"inputs": 4, "targets": 4}
  (row,) = packed(architecture, lengths, examples, loss_weights=tf.float32)
  expected = {
    "encoder_decoder": [0.5, 0, 0.25, 1.5],
    "decoder_only": [0, 0, 0.5, 0, 0, 0, 0.25, 1.5],
  }
  assert row["decoder_loss_weights"] == expected[architecture]


def test_a_new_row_where_an_example_does_not_fit():
  rows = packed("encoder_decoder", {"inputs": 3, "targets": 3}, EXAMPLES)
  assert [row["encoder_input_tokens"] for row in rows] == [[7, 8, 1], [9, 1, 0]]
  assert [sum(row["decoder_loss_weights"]) for row in rows] == [2, 3]


def test_long_examples_are_cut():
  (row,) = packed("encoder_decoder", {"inputs": 2, "targets": 1}, EXAMPLES[:1])
  assert row["encoder_input_tokens"] == [7, 8]
  assert row["decoder_target_tokens"] == [5]


@pytest.mark.parametrize("architecture", ["encoder_decoder", "decoder_only"])
def test_padding_of_examples_takes_no_room(architecture):
  padded = [{k: [*v, 0, 0] for k, v in example.items()} for example in EXAMPLES]
  lengths = {"inputs": 6, "targets": 6}
  assert packed(architecture, lengths, padded) == packed(architecture, lengths, EXAMPLES)


@pytest.mark.parametrize("architecture", ["encoder_decoder", "decoder_only"])
def test_an_empty_side(architecture):
  examples = [{"inputs": [], "targets": [5, 1]}, {"inputs": [7, 1], "targets": []}]
  examples = [e | {"component_ids": [1] * len(e["targets"])} for e in examples]
  (row,) = packed(architecture, {"inputs": 3, "targets": 3}, examples)
  if architecture == "encoder_decoder":
    assert row["encoder_input_tokens"] == [7, 1, 0]
    assert row["encoder_segment_ids"] == [2, 2, 0]
    assert row["decoder_segment_ids"] == [1, 1, 0]
  else:
    assert row["decoder_target_tokens"] == [5, 1, 7, 1, 0, 0]
    assert row["decoder_loss_weights"] == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("architecture", ["encoder_decoder", "decoder_only"])
def test_weights_of_targets_that_are_cut(architecture):
  example = {"inputs": [7, 1], "targets": [5, 6, 1], "loss_weights": [0.5, 1.0, 2.0]}
  lengths = {"inputs": 2, "targets": 2}
  (row,) = packed(architecture, lengths, [example], loss_weights=tf.float32)
  assert row["decoder_loss_weights"][-2:] == [0.5, 1.0]
  few = example | {"loss_weights": [0.5]}
  with pytest.raises(tf.errors.InvalidArgumentError, match="loss_weights are fewer than targets"):
    packed(architecture, lengths, [few], loss_weights=tf.float32)


def test_groups_follow_each_other_and_a_position_is_saved_between(monkeypatch):
  monkeypatch.setattr(packing, "GROUP", 4)
  examples = [{"targets": [e + 2] * (1 + e % 3)} for e in range(10)]
  dataset = rows_of("decoder_only", {"targets": 4}, examples[:4])
  first = [row["targets"].tolist() for row in dataset.as_numpy_iterator()]
  flat = tf.ragged.constant([e["targets"] for e in examples])
  source = tf.data.Dataset.from_tensor_slices(flat).map(lambda tokens: {"targets": tokens})
  rows = iterator.with_options(packing_stream.pack(source, "decoder_only", {"targets": 4}))
  whole = [row["targets"].tolist() for row in rows.as_numpy_iterator()]
  assert whole[: len(first)] == first
  assert sorted(t for row in whole for t in row if t) == sorted(flat.flat_values.numpy())
  for taken in range(len(whole)):
    stream, again = iterator.Stream(rows), iterator.Stream(rows)
    for _ in range(taken):
      next(stream)
    again.set_state(stream.get_state())
    assert next(again)["targets"].tolist() == whole[taken]


def test_examples_of_a_known_length():
  dataset = tf.data.Dataset.from_tensor_slices({"targets": np.arange(1, 13).reshape(4, 3)})
  rows = packing_stream.pack(dataset, "decoder_only", {"targets": 7})
  first, second = [row["targets"].tolist() for row in rows.as_numpy_iterator()]
  assert (first, second) == ([1, 2, 3, 4, 5, 6, 0], [7, 8, 9, 10, 11, 12, 0])


ROOM = np.array([13, 7])


@settings(deadline=None)
@given(
  st.lists(st.tuples(st.integers(0, 13), st.integers(0, 7)), min_size=1, max_size=300),
  st.booleans(),
)
def test_rows_are_as_full_as_they_can_be(needs, one_side):
  needs, room = np.array(needs), ROOM
  if one_side:
    needs, room = needs[:, :1], room[:1]
  row = packing.best_fit(needs, room)
  used = np.zeros((row.max() + 1, len(room)), int)
  np.add.at(used, row, needs)
  assert (used <= room).all()
  # A row is opened for what fits in no other: no two of them would go into one.
  for i in range(len(used)):
    assert ((used[i] + used[i + 1 :] > room).any(axis=1)).all()
  # Rows come in the order of their largest examples.
  shares = (needs / room).max(axis=1)
  largest = [min(np.flatnonzero(row == r), key=lambda e: (-shares[e], e)) for r in range(len(used))]
  assert largest == sorted(largest)


@settings(deadline=None, max_examples=10)
@given(st.data())
def test_every_token_once_and_beside_its_own(data):
  count = data.draw(st.integers(1, 40))
  sizes = [(data.draw(st.integers(1, 13)), data.draw(st.integers(1, 7))) for _ in range(count)]
  # Tokens tell which example they are of, and their place in it.
  examples = [
    {
      "inputs": [1000 * e + i for i in range(1, n + 1)],
      "targets": [1000 * e + 500 + i for i in range(1, m + 1)],
    }
    for e, (n, m) in enumerate(sizes)
  ]
  seen = []
  for row in rows_of("encoder_decoder", {"inputs": 13, "targets": 7}, examples).as_numpy_iterator():
    assert all(((row[k] > 0) == (row[f"{k}_segment_ids"] > 0)).all() for k in ("inputs", "targets"))
    for segment in range(1, row["inputs_segment_ids"].max() + 1):
      one, other = (
        row[k][row[f"{k}_segment_ids"] == segment].tolist() for k in ("inputs", "targets")
      )
      seen.append({"inputs": one, "targets": other})
  assert sorted(seen, key=lambda e: e["inputs"]) == examples


@pytest.mark.parametrize("architecture", ["encoder_decoder", "decoder_only"])
def test_numpy_fills_the_rows_of_the_stream(architecture):
  random, lengths = np.random.default_rng(0), {"inputs": 13, "targets": 7}
  examples = []
  for n, m in random.integers(1, (16, 9), (50, 2)):  # Some are too long, some end with padding.
    example = {"inputs": random.integers(2, 99, n), "targets": random.integers(2, 99, m)}
    example |= {"loss_weights": random.random(m), "component_ids": np.full(m, n)}
    example["inputs"][n // 2 :] *= n % 3 > 0
    examples.append(example)
  rows = list(rows_of(architecture, lengths, examples, loss_weights=tf.float32).as_numpy_iterator())
  fitted = [packing.fitted(example, lengths, architecture) for example in examples]
  widths = packing.widths(lengths, architecture)
  needs = np.array([[len(example[name]) for name in widths] for example in fitted])
  chosen = packing.best_fit(needs, np.array(list(widths.values())))
  assert len(rows) == chosen.max() + 1
  for number, row in enumerate(rows):
    found = packing.row_of([fitted[i] for i in np.flatnonzero(chosen == number)], widths)
    assert found.keys() == row.keys()
    for name, value in found.items():
      assert value.dtype == row[name].dtype
      np.testing.assert_array_equal(value, row[name], err_msg=name)


def test_density():
  """Pairs have about 300 and 60 tokens; filled in order, rows would be .67 and .57 full."""
  random = np.random.default_rng(0)
  room = np.array([512, 128])
  needs = np.minimum(1 + random.lognormal(np.log([250, 50]), 0.7, (2048, 2)).astype(int), room)
  row = packing.best_fit(needs, room)
  inputs, targets = needs.sum(axis=0) / ((row.max() + 1) * room)
  assert inputs > 0.88 and targets > 0.75
  # Long and short examples are mixed: the first half of the rows holds half of the examples.
  assert 0.45 < (row <= row.max() // 2).mean() < 0.55
