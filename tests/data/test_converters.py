"""Model features of literal examples, packed ones included."""

import numpy as np
import pytest
import tensorflow as tf

from t5x_style.data import converters


def convert(architecture, lengths, **features):
  batch = {k: tf.constant(v, tf.int32) for k, v in features.items()}
  return {
    k: v.numpy().tolist() for k, v in converters.convert(batch, architecture, lengths).items()
  }


def test_encoder_decoder():
  out = convert(
    "encoder_decoder", {"inputs": 3, "targets": 4}, inputs=[[7, 8, 1]], targets=[[5, 6, 1, 0]]
  )
  assert out == {
    "encoder_input_tokens": [[7, 8, 1]],
    "decoder_input_tokens": [[0, 5, 6, 0]],
    "decoder_target_tokens": [[5, 6, 1, 0]],
    "decoder_loss_weights": [[1, 1, 1, 0]],
  }


def test_decoder_only_with_documents():
  out = convert(
    "decoder_only",
    {"targets": 6},
    targets=[[3, 8, 1, 9, 1, 0]],
    targets_segment_ids=[[1, 1, 1, 2, 2, 0]],
  )
  assert out["decoder_input_tokens"] == [[0, 3, 8, 0, 9, 0]]
  assert out["decoder_positions"] == [[0, 1, 2, 0, 1, 0]]
  assert out["decoder_segment_ids"] == [[1, 1, 1, 2, 2, 0]]
  assert out["decoder_loss_weights"] == [[1, 1, 1, 1, 1, 0]]


def test_decoder_only_with_a_prefix():
  out = convert("decoder_only", {"inputs": 3, "targets": 2}, inputs=[[5, 6, 0]], targets=[[7, 8]])
  assert out["decoder_target_tokens"] == [[5, 6, 7, 8, 0]]
  assert out["decoder_input_tokens"] == [[0, 5, 6, 7, 0]]
  assert out["decoder_loss_weights"] == [[0, 0, 1, 1, 0]]
  # What is read in both directions is 0 5 6; none of these is a target that carries loss.
  assert out["decoder_causal_attention"] == [[1, 1, 1, 0, 0]]


def test_encoder_only_takes_its_weights_from_the_task():
  batch = {
    "inputs": tf.constant([[4, 9]]),
    "targets": tf.constant([[4, 8]]),
    "loss_weights": tf.constant([[0.0, 2.5]]),
    "token_types": tf.constant([[0, 1]]),
    "pair_label": tf.constant([1]),
  }
  out = converters.convert(batch, "encoder_only", {"inputs": 2, "targets": 2})
  assert set(out) == {
    "encoder_input_tokens",
    "encoder_target_tokens",
    "encoder_loss_weights",
    "encoder_token_types",
    "pair_labels",
  }
  assert out["encoder_loss_weights"].numpy().tolist() == [[0, 2.5]]


def test_positions_start_again_in_each_segment():
  ids = tf.constant([[1, 1, 2, 3, 3, 3], [1, 2, 2, 0, 0, 0]])
  assert converters.positions(ids).numpy().tolist() == [[0, 1, 0, 0, 1, 2], [0, 0, 1, 0, 0, 0]]


def packed(architecture, lengths, examples):
  spec = {k: tf.TensorSpec([None], tf.int32) for k in examples[0]}
  dataset = tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=spec)
  rows = converters.pack(dataset, architecture, lengths).batch(1)
  rows = rows.map(lambda b: converters.convert(b, architecture, lengths))
  return [{k: v[0].tolist() for k, v in row.items()} for row in rows.as_numpy_iterator()]


EXAMPLES = [
  {"inputs": [7, 8, 1], "targets": [5, 1], "component_ids": [0, 0]},
  {"inputs": [9, 1], "targets": [6, 4, 1], "component_ids": [2, 2, 2]},
]


def test_pack_encoder_decoder():
  (row,) = packed("encoder_decoder", {"inputs": 6, "targets": 6}, EXAMPLES)
  assert row["encoder_input_tokens"] == [7, 8, 1, 9, 1, 0]
  assert row["encoder_segment_ids"] == [1, 1, 1, 2, 2, 0]
  assert row["encoder_positions"] == [0, 1, 2, 0, 1, 0]
  assert row["decoder_target_tokens"] == [5, 1, 6, 4, 1, 0]
  assert row["decoder_input_tokens"] == [0, 5, 0, 6, 4, 0]
  assert row["decoder_segment_ids"] == [1, 1, 2, 2, 2, 0]
  assert row["decoder_component_ids"] == [0, 0, 2, 2, 2, 0]
  assert row["decoder_loss_weights"] == [1, 1, 1, 1, 1, 0]


def test_pack_decoder_only():
  (row,) = packed("decoder_only", {"inputs": 6, "targets": 6}, EXAMPLES)
  assert row["decoder_target_tokens"] == [7, 8, 1, 5, 1, 9, 1, 6, 4, 1, 0, 0]
  assert row["decoder_input_tokens"] == [0, 7, 8, 1, 5, 0, 9, 1, 6, 4, 0, 0]
  assert row["decoder_segment_ids"] == [1] * 5 + [2] * 5 + [0, 0]
  assert row["decoder_loss_weights"] == [0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0]
  assert row["decoder_causal_attention"] == [1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0]
  assert row["decoder_component_ids"] == [0] * 5 + [2] * 5 + [0, 0]


@pytest.mark.parametrize("lengths", [{"inputs": 3, "targets": 3}])
def test_pack_opens_a_new_row_where_an_example_does_not_fit(lengths):
  rows = packed("encoder_decoder", lengths, EXAMPLES)
  assert [row["encoder_input_tokens"] for row in rows] == [[7, 8, 1], [9, 1, 0]]
  assert all(np.array(row["decoder_loss_weights"]).sum() in (2, 3) for row in rows)
