"""Unmasking: the same tokens in the same order as a plain loop over the steps."""

import jax
import numpy as np
import pytest

from t5x_style.inference.unmasking import unmask

MASK = 4


def plain(model, params, row, steps):
  """Low-confidence remasking of one row, written as the paper's algorithm is."""
  row = np.array(row, np.int32)
  masks = np.flatnonzero(row == MASK)
  when = {}
  for i in range(1, steps + 1):
    out = model.apply({"params": params}, {"encoder_input_tokens": row[None]})
    scores = np.array(jax.nn.log_softmax(out.logits()[0]))
    scores[:, MASK] = -np.inf
    wanted = len(masks) * i // steps - len(when)
    left = sorted((p for p in masks if p not in when), key=lambda p: -scores[p].max())
    for p in left[:wanted]:
      row[p], when[p] = scores[p].argmax(), i
  return row.tolist(), [when[p] for p in masks]


@pytest.mark.parametrize("steps", [pytest.param(None, marks=pytest.mark.slow), 1, 3])
def test_rows_are_unmasked_as_each_alone(steps, tiny_model, random_rows):
  model, params = tiny_model("encoder_only")
  rows = random_rows([20, 6, 9, 18])
  for row, places in zip(rows, [range(3, 11), [0, 5], [], range(2, 16)], strict=True):
    for i in places:
      row[i] = MASK
  found = unmask(model, params, rows, MASK, steps=steps, batch_size=3)
  for row, result in zip(rows, found, strict=True):
    count = row.count(MASK)
    expected, when = plain(model, params, row, min(steps or count, count))
    assert result.tokens.tolist() == expected
    assert result.steps.tolist() == when
    assert result.positions.tolist() == [i for i, x in enumerate(row) if x == MASK]
    assert (result.log_probabilities < 0).all()


def test_the_draws_of_a_row_do_not_depend_on_the_batch(tiny_model):
  model, params = tiny_model("encoder_only")
  rows = [[7, *[MASK] * count] for count in (5, 12, 70)]

  def drawn(rows, batch_size, first_row=0):
    found = unmask(
      model, params, rows, MASK, temperature=1.0, batch_size=batch_size, first_row=first_row
    )
    return [row.tokens.tolist() for row in found]

  together = drawn(rows, 4)
  assert drawn(rows[:2], 1) + drawn(rows[2:], 1, first_row=2) == together
  assert drawn(rows, 4, first_row=1) != together


def test_draws_depend_on_the_seed_and_never_write_what_is_banned(tiny_model):
  model, params = tiny_model("encoder_only")
  rows = [[7] + [MASK] * 30]

  def written(seed, banned=()):
    (row,) = unmask(model, params, rows, MASK, steps=4, temperature=1.0, seed=seed, banned=banned)
    return row.tokens.tolist()

  assert written(0) == written(0) != written(1)
  assert set(written(2, banned=range(50))) <= {7, *range(50, 96)}
