"""Gradients of more than loss_sum, JAX transformations of the loss, its memory and products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.losses import linear_cross_entropy

OPTIONS = {"z_loss": 0.01, "label_smoothing": 0.1}


def with_options(hidden, kernel, targets, weights, **options):
  return linear_cross_entropy(
    hidden, kernel, targets, weights, return_per_token=True, **OPTIONS, **options
  )


@pytest.mark.parametrize("chunk_size", [None, 5])
def test_gradients_of_single_tokens_losses(chunk_size, random_inputs, assert_near):
  """The weighted per-token losses plus z_loss_sum have the gradient of loss_sum."""
  hidden, kernel, _, targets, weights = random_inputs((3, 7), 8, 20)
  weights[0, :3] = 0.0

  def whole(hidden, kernel):
    return with_options(hidden, kernel, targets, weights, chunk_size=chunk_size).loss_sum

  def parts(hidden, kernel):
    sums = with_options(hidden, kernel, targets, weights, chunk_size=chunk_size)
    return (weights * sums.per_token.loss).sum() + sums.z_loss_sum

  def mixed(hidden, kernel):
    return 0.25 * whole(hidden, kernel) + 0.75 * parts(hidden, kernel)

  expected = jax.value_and_grad(whole, (0, 1))(hidden, kernel)
  for function in (parts, mixed):
    got = jax.jit(jax.value_and_grad(function, (0, 1)))(hidden, kernel)
    jax.tree.map(lambda x, y: assert_near(x, y, 1e-5), got, expected)


def test_gradients_by_the_weights(random_inputs):
  hidden, kernel, _, targets, weights = random_inputs((12,), 8, 20)
  weights[3] = 0.0
  sums = with_options(hidden, kernel, targets, weights)
  by_loss, by_z_loss, by_weight, by_correct, _ = jax.jacobian(
    lambda weights: with_options(hidden, kernel, targets, weights)
  )(weights)
  np.testing.assert_allclose(by_loss - by_z_loss, sums.per_token.loss, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose((weights * by_loss).sum(), sums.loss_sum, rtol=1e-5)
  np.testing.assert_array_equal(by_weight, 1.0)
  np.testing.assert_allclose((weights * by_correct).sum(), sums.correct_sum, rtol=1e-6)


def test_counts_have_no_gradient(random_inputs):
  hidden, kernel, _, targets, weights = random_inputs((12,), 8, 20)
  grads = jax.grad(lambda h: with_options(h, kernel, targets, weights).correct_sum)(hidden)
  np.testing.assert_array_equal(grads, 0.0)


def test_inside_scan_remat_and_vmap(random_inputs, assert_near):
  """Microbatches, recomputed blocks and ensembles call the loss like this."""
  hidden, kernel, _, targets, weights = random_inputs((4, 9), 8, 20)

  def loss(kernel, hidden, targets, weights):
    return with_options(hidden, kernel, targets, weights, chunk_size=4).loss_sum

  expected = jax.grad(loss)(kernel, hidden, targets, weights)

  def scanned(kernel):
    body = lambda total, row: (total + jax.checkpoint(loss)(kernel, *row), None)
    return jax.lax.scan(body, 0.0, (hidden, targets, weights))[0]

  mapped = lambda kernel: jax.vmap(loss, (None, 0, 0, 0))(kernel, hidden, targets, weights).sum()
  for function in (scanned, mapped):
    assert_near(jax.jit(jax.grad(function))(kernel), expected, 1e-5)


def compiled(loss, tokens, emb_dim, vocab_size, dtype=jnp.float32):
  """Returns the compiled program of the loss and its gradients."""
  shapes = [((tokens, emb_dim), dtype), ((emb_dim, vocab_size), dtype)]
  shapes += [((tokens,), jnp.int32), ((tokens,), jnp.float32)]
  arguments = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
  return jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*arguments).compile()


def lean(chunk_size=None):
  return lambda *inputs: linear_cross_entropy(*inputs, z_loss=1e-4, chunk_size=chunk_size).loss_sum


def plain(hidden, kernel, targets, weights):
  logits = jnp.matmul(hidden, kernel, preferred_element_type=jnp.float32)
  log_z = jax.nn.logsumexp(logits, -1)
  loss = log_z - jnp.take_along_axis(logits, targets[:, None], -1)[:, 0] + 1e-4 * log_z**2
  return (weights * loss).sum()


def test_temporary_memory_is_that_of_a_chunk():
  tokens, emb_dim, vocab_size = 4096, 64, 32_768
  gradients = 4 * emb_dim * (vocab_size + tokens)
  temporary = lambda loss: (
    compiled(loss, tokens, emb_dim, vocab_size).memory_analysis().temp_size_in_bytes
  )
  spared = temporary(plain) / (temporary(lean(128)) - gradients)
  assert spared > 15, f"only {spared:.1f} times less"


def test_few_tokens_are_not_scanned():
  assert " while(" not in compiled(lean(), 64, 16, 100).as_text()
  assert " while(" in compiled(lean(16), 64, 16, 100).as_text()


@pytest.mark.parametrize(("differentiate", "products"), [(False, 1), (True, 3)])
def test_products_with_the_vocabulary(differentiate, products):
  """Training computes three products with the vocabulary, evaluation one."""

  def loss(hidden, kernel):
    return lean(16)(hidden, kernel, jnp.zeros(64, jnp.int32), jnp.ones(64))

  function = jax.grad(loss, (0, 1)) if differentiate else loss
  jaxpr = jax.make_jaxpr(function)(jnp.ones((64, 16)), jnp.ones((16, 100)))
  assert str(jaxpr).count(" dot_general[") == products


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"kernel": np.ones((9, 20))}, r"kernel \(9, 20\) must be \[D, V\] with D = 8"),
    ({"targets": np.ones(5, int)}, r"targets \(5,\) and weights \(12,\) must have the shape \(12,"),
    ({"weights": np.ones((12, 1))}, r"weights \(12, 1\) must have the shape"),
    ({"bias": np.ones(8)}, r"bias \(8,\) must be \[V\] with V = 20"),
    ({"kernel": np.ones((8, 1)), "bias": None}, "vocabulary of 1"),
    ({"label_smoothing": 1.0}, "LABEL_SMOOTHING = 1.0"),
    ({"chunk_size": 0}, "chunk_size = 0"),
    ({"targets": np.ones(12)}, "targets are float"),
  ],
)
def test_mistakes_are_named(change, message, random_inputs):
  names = ("hidden", "kernel", "bias", "targets", "weights")
  arguments = dict(zip(names, random_inputs((12,), 8, 20), strict=True)) | change
  with pytest.raises(ValueError, match=message):
    linear_cross_entropy(**arguments)
