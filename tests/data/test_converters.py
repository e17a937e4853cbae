"""Model features of literal examples."""

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
