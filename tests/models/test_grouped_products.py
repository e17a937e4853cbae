"""Products with the kernels of groups of rows, against a loop over the rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models.grouped_products import grouped_product, groups


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("counts", [[5, 0, 40, 19], [0, 0, 0, 64], [1, 1, 1, 0], [0, 0, 0, 0]])
def test_each_row_is_multiplied_with_the_kernel_of_its_expert(counts, platform, on_platform):
  on_platform(platform)
  where = groups(jnp.asarray(counts), 64)
  rng = np.random.default_rng(1)
  kernels = rng.normal(size=(4, 6, 10)).astype(np.float32)
  x, expected = np.zeros((where.num_rows, 6), np.float32), np.zeros((where.num_rows, 10))
  used = np.zeros(where.num_rows, bool)
  for expert, count in enumerate(counts):
    for row in range(int(where.starts[expert]), int(where.starts[expert]) + count):
      assert not used[row] and row < where.ends[expert]
      used[row], x[row] = True, rng.normal(size=6)
      expected[row] = x[row] @ kernels[expert]
  assert where.num_rows <= 64 * 1.25
  direction = rng.normal(size=expected.shape).astype(np.float32) * used[:, None]

  def loss(x, kernels):
    product = grouped_product(x, kernels, where)
    return (product * direction).sum(), product

  arrays = jnp.asarray(x), jnp.asarray(kernels)
  (by_x, by_kernels), product = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(*arrays)
  np.testing.assert_allclose(product[used], expected[used], atol=1e-5)
  for expert in range(4):
    rows = range(int(where.starts[expert]), int(where.starts[expert]) + counts[expert])
    total = sum((np.outer(x[row], direction[row]) for row in rows), np.zeros((6, 10)))
    np.testing.assert_allclose(by_kernels[expert], total, atol=1e-5)
    for row in rows:
      np.testing.assert_allclose(by_x[row], direction[row] @ kernels[expert].T, atol=1e-5)
