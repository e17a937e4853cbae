"""Feed-forward layers that are mixtures of experts: the router, the parameters, and the counts."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from t5x_style.models import expert_computation, expert_dropout
from t5x_style.models.config import TransformerConfig
from t5x_style.models.layers import gate_names, kernel_init

ROUTING = "routing"  # the collection of what the layers' routers did


class Routing(NamedTuple):
  """What the router of a layer did with the tokens that are not padding; float32 sums over them."""

  chosen: jax.Array  # [E], choices of each expert, also those that were dropped
  probability: jax.Array  # [E], that the router gave each expert
  log_z_squared: jax.Array  # scalar
  dropped: jax.Array  # scalar, choices
  tokens: jax.Array  # scalar


class ExpertMlp(nn.Module):
  """The mixture of experts in a block; several activations are multiplied, as in Mlp.

  Attributes:
    scanned: whether a scan over layers runs it: see ops.activate.
    out_scale: multiplies the initial deviation of the last kernels.
  """

  config: TransformerConfig
  scanned: bool = False
  out_scale: float = 1.0

  @nn.compact
  def __call__(self, x: jax.Array, real: jax.Array | None = None) -> jax.Array:
    """Maps [B, L, D] to [B, L, D]; what it did is sown as a Routing, if ROUTING is mutable.

    Args:
      real: bool [B, L], False on padding, of which no expert computes anything.
    """
    config, settings = self.config, self.config.experts
    assert settings is not None
    logits = Router(config, name="router")(self._jittered(x, settings))
    probabilities = jax.nn.softmax(logits)
    chosen = top_experts(probabilities, settings.experts_per_token)
    one_hot = jax.nn.one_hot(chosen, settings.num_experts)  # [B, L, K, E]
    # Not a product of matrices: TPUs would round the probabilities to bfloat16.
    weights = (one_hot * probabilities[:, :, None]).sum(-1)
    if settings.normalize:
      weights /= weights.sum(-1, keepdims=True)
    if real is not None:
      chosen = jnp.where(real[..., None], chosen, settings.num_experts)
    if settings.row_capacity is not None and x.shape[1] > settings.row_capacity:
      chosen = first_of_rows(chosen, settings.num_experts, settings.row_capacity)
    kernels = Kernels(config, self.out_scale, name="experts")()
    if self.is_initializing():
      return x
    routed = expert_computation.Routed(x.astype(config.dtype), weights, chosen)
    if settings.dropout_rate and self.has_rng("dropout"):
      routed = routed._replace(
        numbers=expert_dropout.choice_numbers(chosen.shape),
        key=jax.random.bits(self.make_rng("dropout"), (2,), jnp.uint32),
      )
    limited = self.has_rng("dropout") and settings.capacity_factor is not None
    compute = expert_computation.within_capacity if limited else expert_computation.without_limit
    y, kept = compute(config, self.scanned, routed, kernels)
    if kept is None and settings.row_capacity is not None:
      kept = chosen < settings.num_experts
    if self.is_mutable_collection(ROUTING):
      self.sow(ROUTING, "sums", _sums(logits, probabilities, one_hot, real, kept))
    return y

  def _jittered(self, x, settings):
    jitter = settings.router_jitter
    x = x.astype(jnp.float32)
    if not jitter or not self.has_rng("dropout"):
      return x
    return x * jax.random.uniform(
      self.make_rng("dropout"), x.shape, minval=1 - jitter, maxval=1 + jitter
    )


class Router(nn.Module):
  """Gives each token a logit for every expert, all in float32 (Fedus 2021, section 2.4)."""

  config: TransformerConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, L, D] to [B, L, E]."""
    config = self.config
    assert config.experts is not None
    init = nn.with_logical_partitioning(kernel_init(config), ("embed", "router"))
    shape = (config.emb_dim, config.experts.num_experts)
    kernel = self.param("kernel", init, shape, config.param_dtype)
    return jnp.einsum("bld,de->ble", x, kernel.astype(jnp.float32), precision="highest")


class Kernels(nn.Module):
  """The kernels of all experts of a layer."""

  config: TransformerConfig
  out_scale: float

  @nn.compact
  def __call__(self) -> dict[str, jax.Array]:
    """Returns {"wi_0": [E, D, F], ..., "wo": [E, F, D]}, in the dtype of activations."""
    config, settings = self.config, self.config.experts
    assert settings is not None
    width = settings.mlp_dim or config.mlp_dim
    into, out = expert_computation.INTO, expert_computation.OUT
    kernels = {
      name: Kernel(config, into, (config.emb_dim, width), name=name)()
      for name in gate_names(config)
    }
    last = Kernel(config, out, (width, config.emb_dim), self.out_scale, name="wo")
    return kernels | {"wo": last()}


class Kernel(nn.Module):
  """One kernel for each expert; each starts as that of a dense layer would."""

  config: TransformerConfig
  axes: tuple[str, ...]
  shape: tuple[int, int]
  scale: float = 1.0

  @nn.compact
  def __call__(self) -> jax.Array:
    config = self.config
    assert config.experts is not None
    init = kernel_init(config, self.scale)

    def init_each(key, shape, dtype):
      return jax.vmap(lambda key: init(key, shape[1:], dtype))(jax.random.split(key, shape[0]))

    boxed = nn.with_logical_partitioning(init_each, self.axes)
    shape = (config.experts.num_experts, *self.shape)
    return self.param("kernel", boxed, shape, config.param_dtype).astype(config.dtype)


def top_experts(probabilities: jax.Array, count: int) -> jax.Array:
  """Returns the likeliest experts [..., count] of [..., E], int32, the likeliest first.

  One maximum after the other, because the compiler would gather a whole batch to sort it.
  """
  left, found = jax.lax.stop_gradient(probabilities), []
  for _ in range(count):
    best = left.argmax(-1)
    found.append(best)
    left = jnp.where(jnp.arange(left.shape[-1]) == best[..., None], -1.0, left)
  return jnp.stack(found, -1).astype(jnp.int32)


def first_of_rows(chosen: jax.Array, num_experts: int, capacity: int) -> jax.Array:
  """Returns the choices [B, L, K] with those of an expert beyond its first ones of a row dropped.

  All first choices of a row come before its second ones.

  Args:
    chosen: int32; num_experts: no expert, as a choice that is dropped becomes.
    capacity: choices of a row that an expert computes.
  """
  in_order = chosen.swapaxes(1, 2).reshape(len(chosen), -1)
  one_hot = in_order[..., None] == jnp.arange(num_experts)
  place = (jnp.cumsum(one_hot, 1, dtype=jnp.int32) * one_hot).sum(-1)  # from 1
  kept = jnp.where(place <= capacity, in_order, num_experts)
  return kept.reshape(len(chosen), chosen.shape[2], -1).swapaxes(1, 2)


def _sums(logits, probabilities, one_hot, real, kept) -> Routing:
  mask = jnp.ones(logits.shape[:2]) if real is None else real.astype(jnp.float32)
  dropped = jnp.zeros(())
  if kept is not None:  # It is False on padding, too.
    dropped = mask.sum() * one_hot.shape[2] - kept.astype(jnp.float32).sum()
  return Routing(
    (one_hot.sum(2) * mask[..., None]).sum((0, 1)),
    (probabilities * mask[..., None]).sum((0, 1)),
    (jnp.square(jax.nn.logsumexp(logits, -1)) * mask).sum(),
    dropped,
    mask.sum(),
  )
