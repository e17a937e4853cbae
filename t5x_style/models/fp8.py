"""Products of matrices in 8 bits (Micikevicius 2022): e4m3 in the forward pass, e5m2 for gradients.

Each array is scaled by its own current largest value, so there is no state from step to step.
Results have the dtype of x. GPUs may accumulate the forward product in fewer bits than float32 has;
gradients are requested in full precision.

Because an array has one scale, the other rows of a batch change the last bits of a row, and in a
causal model later tokens change those of earlier ones.
"""

import warnings

import jax
import jax.numpy as jnp
from flax.linen import fp8_ops

from t5x_style import hardware


@jax.custom_vjp
def project(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns x [..., D] @ kernel [D, F], which is [..., F]."""
  return _forward(x, kernel)[0]


def _quantize(x, dtype):
  """Returns the array in 8 bits, and the float32 scalar to multiply it by."""
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


def warn_if_emulated(device: jax.Device) -> None:
  """Warns, at the caller's caller, if a device only rounds as if it multiplied in 8 bits."""
  if (hardware.compute_capability(device) or (0,)) < (8, 9):
    warnings.warn(
      f"FP8 = True: {device.device_kind} does not multiply in 8 bits; results are rounded as "
      "if it did, and training is no faster. GPUs of compute capability 8.9 and above do.",
      stacklevel=3,
    )
