"""Masks are filled as a plain run of the model on each row alone says."""

import jax
import numpy as np
import pytest

from t5x_style.inference.mask_filling import fill_masks

MASK = 4


def probabilities(model, params, row):
  """The probabilities [L, V] of one row, without padding and without other rows."""
  out = model.apply({"params": params}, {"encoder_input_tokens": np.array([row], np.int32)})
  return np.asarray(jax.nn.softmax(out.logits(model.config.logit_soft_cap)[0]))


@pytest.mark.parametrize(
  "changes",
  [
    {"positions": "learned", "max_length": 70},
    *(pytest.param(x, marks=pytest.mark.slow) for x in ({}, {"padding_id": 5})),
  ],
)
def test_candidates_are_those_of_each_row_alone(changes, tiny_model, random_rows):
  model, params = tiny_model("encoder_only", **changes)
  rows = random_rows([3, 20, 7, 66, 30])
  if "padding_id" in changes:
    rows = [[i if i != 5 else 6 for i in row] for row in rows]
  for row, places in zip(rows, [[0], [3, 19], [], range(66), [1, 2, 3]], strict=True):
    for i in places:
      row[i] = MASK
  found = fill_masks(model, params, rows, MASK, candidates=3, batch_size=2)
  for row, masks in zip(rows, found, strict=True):
    assert [m.position for m in masks] == [i for i, x in enumerate(row) if x == MASK]
    expected = probabilities(model, params, row)
    for mask in masks:
      likeliest = np.argsort(-expected[mask.position])[:3]
      assert mask.ids.tolist() == likeliest.tolist()
      np.testing.assert_allclose(mask.probabilities, expected[mask.position][likeliest], rtol=1e-4)


def test_ids_that_the_vocabulary_does_not_have_are_no_candidates(tiny_model):
  model, params = tiny_model("encoder_only")
  (((mask),),) = fill_masks(model, params, [[7, MASK, 9]], MASK, candidates=99, vocab_size=10)
  assert sorted(mask.ids.tolist()) == list(range(10))
  np.testing.assert_allclose(
    mask.probabilities, probabilities(model, params, [7, MASK, 9])[1][mask.ids], rtol=1e-4
  )
