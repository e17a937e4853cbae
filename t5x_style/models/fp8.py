"""Products of matrices in 8 bits (Micikevicius 2022): e4m3 for what is multiplied forward, e5m2 for
gradients, each scaled by its own largest value as it stands.

So nothing is carried from step to step. What comes out is in x's dtype. GPUs may keep the sums of
the forward product in fewer bits than float32 has; those of gradients are asked for in full.

An array has one scale: what else is in the batch moves the others' last bits, and in a causal model
later tokens move those of earlier ones.
"""

import jax
import jax.numpy as jnp
from flax.linen import fp8_ops


@jax.custom_vjp
def project(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """[..., D] x [D, F] -> [..., F]."""
  return _forward(x, kernel)[0]


def _quantize(x, dtype):
  """An array in 8 bits, and the float32 scalar that it has to be multiplied by."""
  scale = jnp.abs(x).max().astype(jnp.float32) / fp8_ops.get_fp8_max(dtype, jnp.float32)
  scale = jnp.where(scale > 0, scale, 1.0)  # All zeros stay zeros.
  return fp8_ops.quantize(x, dtype, scale, jnp.float32), scale


def _product(x, y, contracting, scale, dtype, precision="default"):
  dimensions = (contracting, ((), ()))
  out = jax.lax.dot_general(x, y, dimensions, precision, preferred_element_type=dtype)
  return (out.astype(jnp.float32) * scale).astype(dtype)


def _forward(x, kernel):
  x8, x_scale = _quantize(x, jnp.float8_e4m3fn)
  kernel8, kernel_scale = _quantize(kernel, jnp.float8_e4m3fn)
  out = _product(x8, kernel8, ((x.ndim - 1,), (0,)), x_scale * kernel_scale, x.dtype)
  like = jnp.zeros((), kernel.dtype)
  return out, (x8, x_scale, kernel8, kernel_scale, like)


def _backward(kept, gradient):
  x8, x_scale, kernel8, kernel_scale, like = kept
  gradient8, scale = _quantize(gradient, jnp.float8_e5m2)
  last, rest = gradient.ndim - 1, tuple(range(gradient.ndim - 1))
  by_x = (gradient8, kernel8, ((last,), (1,)), scale * kernel_scale, gradient.dtype)
  by_kernel = (x8, gradient8, (rest, rest), scale * x_scale, like.dtype)
  return _product(*by_x, "highest"), _product(*by_kernel, "highest")


project.defvjp(_forward, _backward)
