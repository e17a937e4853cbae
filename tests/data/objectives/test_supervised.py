"""Texts that are cut: only a share worth mentioning is."""

import warnings

import tensorflow as tf

from t5x_style.data.objectives import supervised


def documents(lengths):
  tokens = tf.ragged.constant([[7] * n for n in lengths], tf.int32)
  dataset = tf.data.Dataset.from_tensor_slices(tokens)
  return lambda: dataset.map(lambda x: {"targets": x})


def test_a_few_long_texts_are_no_reason_to_warn():
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    room = {"targets": ("inputs", 5)}
    supervised.warn_of_cut_texts(documents([5] * 199 + [6]), room, "the corpus")
