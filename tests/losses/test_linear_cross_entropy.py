"""Values and gradients against float64, over shapes, options, weights and extreme logits."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.losses import linear_cross_entropy

FLOAT32 = 1e-5
# Rounding of inputs to the products and of the gradients themselves: 8 bits each.
BFLOAT16 = 2.0**-7


def evaluate(hidden, kernel, bias, targets, weights, **options):
  """Returns the sums and the gradients of hidden, kernel and, if there is one, bias."""

  def loss(hidden, kernel, bias):
    sums = linear_cross_entropy(
      hidden, kernel, targets, weights, bias=bias, return_per_token=True, **options
    )
    return sums.loss_sum, sums

  by = (0, 1) if bias is None else (0, 1, 2)
  (_, sums), grads = jax.jit(jax.value_and_grad(loss, by, has_aux=True))(hidden, kernel, bias)
  return sums, grads


def compare(inputs, reference, assert_near, tolerance=FLOAT32, **options):
  sums, grads = evaluate(*inputs, **options)
  options.pop("chunk_size", None)
  true_sums, true_grads = reference(*inputs, **options)
  # If large terms cancel, their rounding errors remain.
  hidden, kernel, weights = (np.abs(inputs[i]) for i in (0, 1, 4))
  rounding = np.float64(2.0**-22) * np.array(
    [weights.max() * kernel.max(), weights.sum() * hidden.max(), weights.sum()]
  )
  named = jax.tree.leaves_with_path(sums)
  for (path, ours), theirs in zip(named, jax.tree.leaves(true_sums), strict=True):
    assert_near(ours, theirs, tolerance, jax.tree_util.keystr(path), rounding[2])
  for name, ours, theirs, slack in zip(
    ("hidden", "kernel", "bias"), grads, true_grads, rounding, strict=False
  ):
    assert_near(ours, theirs, tolerance, f"gradient by {name}", slack)


SHAPES = [
  # leading, D, V, chunk_size
  ((3, 7), 16, 33, None),
  ((3, 7), 16, 33, 5),
  ((3, 7), 16, 33, 1),
  ((3, 7), 16, 33, 1000),
  ((64,), 8, 2, 9),
  ((2, 3, 4), 8, 1000, 7),
  ((1, 1), 4, 3, None),
  ((1, 6), 4, 262_144, 4),
]
OPTIONS = [
  {},
  {"z_loss": 1e-2},
  {"label_smoothing": 0.1},
  {"z_loss": 1e-2, "label_smoothing": 0.1, "logit_soft_cap": 5.0},
]


def test_the_reference_by_differences(reference, random_inputs):
  """The gradients of the reference are those of its values."""
  hidden, kernel, bias, targets, weights = random_inputs((3, 2), 4, 7)
  options = {"z_loss": 0.1, "label_smoothing": 0.2, "logit_soft_cap": 4.0}
  _, grads = reference(hidden, kernel, bias, targets, weights, **options)
  rng = np.random.default_rng(0)
  for i, grad in enumerate(grads):
    direction = rng.normal(size=grad.shape)

    def value(step, i=i, direction=direction):
      moved = [np.asarray(x, np.float64) for x in (hidden, kernel, bias)]
      moved[i] = moved[i] + step * direction
      return reference(*moved, targets, weights, **options)[0][0]

    np.testing.assert_allclose((value(1e-5) - value(-1e-5)) / 2e-5, (grad * direction).sum(), 1e-6)


@pytest.mark.parametrize(("leading", "emb_dim", "vocab_size", "chunk_size"), SHAPES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_values_and_gradients(
  leading, emb_dim, vocab_size, chunk_size, options, reference, random_inputs, assert_near
):
  inputs = random_inputs(leading, emb_dim, vocab_size)
  compare(inputs, reference, assert_near, chunk_size=chunk_size, **options)


@pytest.mark.parametrize("chunk_size", [None, 5])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_columns_aligned_for_gpus(
  chunk_size, with_bias, options, reference, random_inputs, assert_near, on_platform
):
  on_platform("gpu")
  hidden, kernel, bias, targets, weights = random_inputs((3, 7), 16, 33)
  inputs = (hidden, kernel, bias if with_bias else None, targets, weights)
  compare(inputs, reference, assert_near, chunk_size=chunk_size, **options)


@pytest.mark.parametrize(("columns", "aligned"), [(33, 128), (128, 128), (129, 256)])
def test_products_with_aligned_columns(columns, aligned, random_inputs, on_platform):
  on_platform("gpu")
  inputs = random_inputs((21,), 16, columns)
  program = jax.jit(evaluate).lower(*inputs).as_text()
  products = re.findall(r"dot_general .*: \((.*)\) -> tensor<(\S+)xf32>", program)
  # The logits, hidden's gradient and the kernel's.
  assert [shape for _, shape in products] == [f"21x{aligned}", "21x16", f"16x{aligned}"]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_without_bias(options, reference, random_inputs, assert_near):
  hidden, kernel, _, targets, weights = random_inputs((4, 5), 8, 50)
  compare((hidden, kernel, None, targets, weights), reference, assert_near, chunk_size=6, **options)


@settings(max_examples=10, deadline=None)
@given(
  tokens=st.integers(1, 40),
  vocab_size=st.integers(2, 300),
  chunk_size=st.none() | st.integers(1, 50),
  z_loss=st.sampled_from([0.0, 1e-4, 0.1]),
  label_smoothing=st.sampled_from([0.0, 0.1, 0.5]),
  share=st.sampled_from([0.0, 0.3, 1.0]),
  spread=st.sampled_from([0.0, 1.0, 30.0]),
  seed=st.integers(0, 2**16),
)
def test_property_values_and_gradients(
  tokens,
  vocab_size,
  chunk_size,
  z_loss,
  label_smoothing,
  share,
  spread,
  seed,
  reference,
  random_inputs,
  assert_near,
):
  """Any number of tokens and ids, any share of zero weights, logits from equal to far apart.

  Hidden states and kernel have few bits: the logits are exact, and only the loss has errors.
  """
  hidden, kernel, *inputs, weights = random_inputs((tokens,), 8, vocab_size, seed, spread)
  inputs = (
    np.round(8 * hidden) / 8,
    np.round(4 * kernel) / 4,
    np.round(8 * inputs[0]) / 8,
    inputs[1],
  )
  weights = weights * (np.random.default_rng(seed).random(tokens) < share)
  compare(
    (*inputs, weights.astype(np.float32)),
    reference,
    assert_near,
    z_loss=z_loss,
    label_smoothing=label_smoothing,
    chunk_size=chunk_size,
  )


@pytest.mark.parametrize("chunk_size", [None, 6])
def test_bfloat16_within_its_own_rounding(chunk_size, reference, random_inputs, assert_near):
  """Compared with float64 on the same rounded inputs; the sums are as good as float32."""
  hidden, kernel, bias, targets, weights = random_inputs((4, 8), 64, 500)
  hidden, kernel = (jnp.asarray(x, jnp.bfloat16) for x in (hidden, kernel))
  inputs = (hidden, kernel, bias, targets, weights)
  options = {"z_loss": 1e-3, "label_smoothing": 0.1}
  sums, grads = evaluate(*inputs, chunk_size=chunk_size, **options)
  true_sums, true_grads = reference(*inputs, **options)
  assert_near(sums.loss_sum, true_sums[0], FLOAT32)
  assert [g.dtype for g in grads] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
  for ours, theirs in zip(grads, true_grads, strict=True):
    assert_near(ours.astype(jnp.float32), theirs, BFLOAT16)


def test_gradient_of_a_float32_kernel_keeps_float32(reference, random_inputs, assert_near):
  """Products with bfloat16 hidden states are in bfloat16; the sum over chunks is in float32."""
  hidden, _, _, _, _ = random_inputs((256,), 16, 8)
  _, kernel, bias, targets, weights = random_inputs((256,), 16, 8)
  hidden = jnp.asarray(hidden, jnp.bfloat16)
  one, many = (evaluate(hidden, kernel, bias, targets, weights, chunk_size=c)[1] for c in (256, 1))
  assert one[1].dtype == jnp.float32
  assert_near(many[1], one[1], FLOAT32)


def test_logits_of_ten_thousand(reference, assert_near):
  """Hidden states select rows of the kernel, so that the logits themselves are exact."""
  rng = np.random.default_rng(0)
  hidden = np.eye(6, dtype=np.float32)
  kernel = rng.choice([-1e4, -9999.0, 0.0, 9999.0, 1e4], (6, 40)).astype(np.float32)
  kernel[0], kernel[1] = 1e4, -1e4
  kernel[2, 5:] = -1e4
  targets = np.array([3, 4, 2, 7, 8, 9], np.int32)
  weights = np.ones(6, np.float32)
  inputs = (hidden, kernel, np.zeros(40, np.float32), targets, weights)
  together = {"z_loss": 1e-2, "label_smoothing": 0.1}
  for options in ({}, together, together | {"logit_soft_cap": 5.0}):
    compare(inputs, reference, assert_near, chunk_size=4, **options)


@pytest.mark.parametrize("chunk_size", [None, 4])
def test_a_soft_cap_of_saturated_logits(chunk_size, reference):
  """Every logit is 4 to 10 times the cap; each entry of the gradient is accurate.

  Where tanh is rounded to 1 the slope is 1e-8, not 0, and the largest logit stays the prediction.
  """
  rng = np.random.default_rng(0)
  hidden = np.eye(6, dtype=np.float32)
  kernel = (rng.choice([-1, 1], (6, 40)) * rng.integers(160, 400, (6, 40)) / 8).astype(np.float32)
  kernel[0, 7], kernel[1, 8], kernel[2, 9] = 51, 52, 53
  inputs = (hidden, kernel, None, np.arange(7, 13, dtype=np.int32), np.ones(6, np.float32))
  for options in ({}, {"z_loss": 1e-2}):
    options["logit_soft_cap"] = 5.0
    sums, grads = evaluate(*inputs, chunk_size=chunk_size, **options)
    true_sums, true_grads = reference(*inputs, **options)
    found, expected = (jax.tree.leaves(x) for x in ((sums, grads), (true_sums, true_grads)))
    for ours, theirs in zip(found, expected, strict=True):
      np.testing.assert_allclose(ours, theirs, rtol=2e-5)
  assert sums.correct_sum >= 3


def weightings():
  zero, one = np.zeros(12, np.float32), np.zeros(12, np.float32)
  one[7] = 1.0
  return {"none": zero, "one": one, "whole": np.ones(12, np.float32), "negative": -one}


@pytest.mark.parametrize("name", weightings())
@pytest.mark.parametrize("chunk_size", [None, 5])
def test_weights(name, chunk_size, reference, random_inputs, assert_near):
  *inputs, _ = random_inputs((12,), 8, 30)
  compare((*inputs, weightings()[name]), reference, assert_near, z_loss=0.01, chunk_size=chunk_size)


@pytest.mark.parametrize("planted", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("chunk_size", [None, 4])
def test_positions_of_zero_weight_do_nothing(planted, chunk_size, random_inputs):
  """Also if hidden states are NaN or infinite and targets are not ids."""
  hidden, kernel, bias, targets, weights = random_inputs((3, 6), 8, 20)
  weights[1, 2:5] = 0.0
  targets[1, 2] = -100
  clean = evaluate(hidden, kernel, bias, targets, weights, z_loss=0.1, chunk_size=chunk_size)
  dirty = hidden.copy()
  dirty[1, 2:5] = planted
  sums, grads = evaluate(dirty, kernel, bias, targets, weights, z_loss=0.1, chunk_size=chunk_size)
  jax.tree.map(np.testing.assert_array_equal, (sums, grads), clean)
  assert np.all(np.asarray(grads[0])[1, 2:5] == 0.0)
  assert np.all(np.asarray(grads[0])[1, 0] != 0.0)
  assert np.all(np.asarray(sums.per_token.loss)[1, 2:5] == 0.0)


def test_hidden_states_that_are_nan_make_the_loss_nan(random_inputs):
  hidden, kernel, bias, targets, weights = random_inputs((3, 6), 8, 20)
  hidden[1, 2] = np.nan
  assert np.isnan(linear_cross_entropy(hidden, kernel, targets, weights, bias=bias).loss_sum)


@pytest.mark.parametrize("target", [-1, 20, 2**30])
def test_a_target_that_is_not_an_id_makes_the_loss_nan(target, random_inputs):
  hidden, kernel, bias, targets, weights = random_inputs((3, 6), 8, 20)
  targets[2, 1] = target
  sums, grads = evaluate(hidden, kernel, bias, targets, weights, chunk_size=4)
  assert np.isnan(sums.loss_sum)
  assert np.isnan(sums.per_token.loss).sum() == 1
  assert np.isnan(grads[0][2, 1]).all() and np.isnan(grads[1]).all()


def test_a_perfect_prediction_of_smoothed_targets_costs_nothing():
  """T5X's convention: the entropy of the smoothed targets is subtracted."""
  wanted = np.full(9, 0.1 / 8)
  wanted[4] = 0.9
  hidden, kernel = np.ones((1, 1), np.float32), np.log(wanted)[None].astype(np.float32)
  loss = lambda target: (
    linear_cross_entropy(
      hidden, kernel, np.array([target]), np.ones(1), label_smoothing=0.1
    ).loss_sum
  )
  assert abs(loss(4)) < 1e-6
  assert loss(5) > 1


def test_of_equal_logits_the_first_is_the_prediction():
  """As in numpy.argmax: a model with equal logits is not right everywhere."""
  hidden, kernel = np.ones((4, 2), np.float32), np.zeros((2, 4), np.float32)
  sums = linear_cross_entropy(hidden, kernel, np.arange(4), np.ones(4), chunk_size=3)
  assert sums.correct_sum == 1.0
  np.testing.assert_allclose(sums.loss_sum, 4 * np.log(4), rtol=1e-6)
