"""Batches that harm a run come at their step, also after a restart."""

import numpy as np
import pytest

from t5x_style.training import synthetic
from tests.soak import harmful_batches


def opened(harm, **settings):
  def load(**arguments):
    return synthetic.load(feature_lengths={"targets": 8}, vocab_size=96, **arguments)

  return harmful_batches.load("decoder_only", 4, 0, dataset=load, harm=harm, first=3, **settings)


def batches(iterator, count):
  return [next(iterator) for _ in range(count)]


def test_only_the_harmful_batches_differ():
  plain = opened("nan")._dataset
  got = batches(opened("nan", count=2).train(), 6)
  for number, batch in enumerate(got, start=1):
    weights = batch["decoder_loss_weights"]
    assert np.isnan(weights).all() == (number in (3, 4))
    tokens = plain.batch(number - 1)["decoder_input_tokens"]
    np.testing.assert_array_equal(batch["decoder_input_tokens"], tokens)


def test_the_weights_of_a_spike_nearly_cancel():
  weights = batches(opened("spike").train(), 3)[2]["decoder_loss_weights"]
  assert weights.sum() == pytest.approx(1e-4, rel=1e-2)
  assert np.abs(weights).sum() > 30


def test_batches_that_are_left_out_are_those_that_would_harm():
  plain = opened("nan")._dataset
  got = batches(opened("left out", count=2).train(), 4)
  for batch, number in zip(got, (0, 1, 4, 5), strict=True):
    np.testing.assert_array_equal(
      batch["decoder_input_tokens"], plain.batch(number)["decoder_input_tokens"]
    )


@pytest.mark.parametrize("before", [1, 2, 3])
def test_a_restored_iterator_counts_on(before):
  iterator = opened("nan").train()
  batches(iterator, before)
  restored = opened("nan").train()
  restored.set_state(iterator.get_state())
  for expected, got in zip(batches(iterator, 3), batches(restored, 3), strict=True):
    np.testing.assert_array_equal(got["decoder_loss_weights"], expected["decoder_loss_weights"])


def test_harm_happens_once(tmp_path):
  once = tmp_path / "happened"
  first = batches(opened("nan", once=str(once)).train(), 3)[2]
  assert np.isnan(first["decoder_loss_weights"]).all() and once.read_text() == "3"
  assert np.isfinite(
    batches(opened("nan", once=str(once)).train(), 3)[2]["decoder_loss_weights"]
  ).all()
