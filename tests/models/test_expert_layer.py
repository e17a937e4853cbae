"""Layers with experts against NumPy, token by token: outputs, gradients, drops, counts."""

import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models import Experts, TransformerConfig
from t5x_style.models.expert_layer import ROUTING, ExpertMlp, first_of_rows, top_experts
from tests.models import naive_experts

SIZES = {"vocab_size": 8, "emb_dim": 12, "num_heads": 1, "head_dim": 12, "mlp_dim": 20}
ROWS, LENGTH = 4, 11
CASES = {
  "switch": {"experts_per_token": 1},
  "switch_with_drops": {"experts_per_token": 1, "capacity_factor": 0.75},
  "top_2": {"experts_per_token": 2, "normalize": True, "mlp_dim": 7},
  "top_3_with_drops": {"experts_per_token": 3, "normalize": True, "capacity_factor": 0.6},
  "two_rows_a_group": {"experts_per_token": 2, "capacity_factor": 0.6, "rows_per_group": 2},
  "first_of_a_row": {"experts_per_token": 2, "row_capacity": 3},
  "room_for_all": {"experts_per_token": 2, "capacity_factor": 100.0},
}


def build(case, names=("silu", "linear"), **changes):
  """Returns (module, parameters, x, which tokens are real)."""
  experts = Experts(num_experts=5, **CASES[case])
  config = TransformerConfig(
    **SIZES, num_decoder_layers=1, mlp_activations=names, experts=experts, **changes
  )
  module = ExpertMlp(config)
  rng = np.random.default_rng(3)
  x = jnp.asarray(rng.normal(size=(ROWS, LENGTH, 12)), jnp.float32)
  params = nn.meta.unbox(jax.jit(module.init)(jax.random.key(1), x))["params"]
  real = jnp.asarray(rng.random((ROWS, LENGTH)) < 0.8)
  return module, params, x, real


def naive(module, params, x, real, training=True):
  settings = module.config.experts
  return naive_experts.run(
    jax.tree.map(lambda p: np.asarray(p, np.float64), params),
    np.asarray(x, np.float64),
    module.config.mlp_activations,
    count=settings.experts_per_token,
    normalize=settings.normalize,
    factor=settings.capacity_factor if training else None,
    rows_per_group=settings.rows_per_group,
    row_capacity=settings.row_capacity,
    real=None if real is None else np.asarray(real),
  )


def apply(module, params, x, real, training=True):
  rngs = {"dropout": jax.random.key(2)} if training else None
  function = jax.jit(
    lambda p, x: module.apply({"params": p}, x, real, rngs=rngs, mutable=[ROUTING])
  )
  y, made = function(params, x)
  return y, made[ROUTING]["sums"][0]


SLOW = ("switch", "room_for_all", "top_3_with_drops", "first_of_a_row")


@pytest.mark.parametrize(
  "case", [pytest.param(x, marks=[pytest.mark.slow] if x in SLOW else []) for x in CASES]
)
def test_each_token_gets_what_its_experts_make_of_it(case):
  check_layer(*build(case))


def expose_masks(router, capacity_factor=None, real=None, rate=0.4, training=True):
  """Returns (what one expert of five makes of x, divided by x, and its gradient by x).

  The experts return their input times one fifth, so that both are masks divided by 5 (1 - rate).
  """
  settings = Experts(num_experts=5, capacity_factor=capacity_factor, dropout_rate=rate)
  sizes = SIZES | {"mlp_dim": 12}
  config = TransformerConfig(
    **sizes, num_decoder_layers=1, mlp_activations=("linear",), experts=settings
  )
  same = jnp.broadcast_to(jnp.eye(12), (5, 12, 12))
  kernels = {"wi": {"kernel": same}, "wo": {"kernel": same}}
  x = jnp.asarray(np.random.default_rng(3).normal(size=(ROWS, LENGTH, 12)), jnp.float32)

  def run(x):
    params = {"router": {"kernel": router}, "experts": kernels}
    rngs = {"dropout": jax.random.key(2)} if training else None
    return ExpertMlp(config).apply({"params": params}, x, real, rngs=rngs)

  y, gradient = jax.jit(lambda x: (run(x), jax.grad(lambda x: run(x).sum())(x)))(x)
  return np.asarray(y / x), np.asarray(gradient)


def test_dropout_inside_experts():
  to_first = jnp.zeros((12, 5))  # Equal probabilities: the first expert computes all tokens.
  masks, gradient = expose_masks(to_first)
  kept = np.float32(1 / 5 / 0.6)
  assert set(np.unique(masks.round(4))) == {0.0, kept.round(4)}
  np.testing.assert_allclose(gradient, masks, atol=1e-6)
  assert abs((masks > 0).mean() - 0.6) < 0.09  # Four deviations of the mean of 528 draws.
  flat = masks.reshape(-1, 12) > 0
  assert len(np.unique(flat, axis=0)) > 40  # Each of 44 tokens has a mask of its own.


@pytest.mark.slow
def test_a_token_loses_the_same_units_wherever_and_with_which_others_it_is_computed():
  to_first = jnp.zeros((12, 5))
  masks, _ = expose_masks(to_first)
  scattered = jnp.asarray(np.random.default_rng(1).normal(size=(12, 5)) * 1e-4, jnp.float32)
  real = jnp.asarray(np.random.default_rng(5).random((ROWS, LENGTH)) < 0.8)
  for factor in (None, 0.8):
    other, _ = expose_masks(scattered, factor, real)
    computed = np.asarray(real) & (np.abs(other).max(-1) > 0)
    assert computed.sum() > 20
    np.testing.assert_allclose(other[computed], masks[computed], atol=1e-3)
  np.testing.assert_allclose(expose_masks(to_first, training=False)[0], 0.2, rtol=1e-5)


def test_an_expert_computes_the_first_choices_of_a_row():
  chosen = jnp.array([[[0, 1], [0, 2], [1, 0], [3, 3], [0, 1]]])  # The fourth is padding.
  np.testing.assert_array_equal(
    first_of_rows(chosen, 3, 2), [[[0, 1], [0, 2], [1, 3], [3, 3], [3, 3]]]
  )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_without_padding(case):
  check_layer(*build(case)[:3], None)


def test_the_grouped_product_of_tpus_gives_the_same(on_platform):
  on_platform("tpu")
  check_layer(*build("top_2"))


def check_layer(module, params, x, real):
  """Compares outputs and counts with NumPy, and gradients with those of a dense formula."""
  direction = jnp.asarray(np.random.default_rng(5).normal(size=x.shape), jnp.float32)
  variables = {"rngs": {"dropout": jax.random.key(2)}, "mutable": [ROUTING]}

  def ours(params, x):
    y, made = module.apply({"params": params}, x, real, **variables)
    return (y * direction).sum(), (y, made[ROUTING]["sums"][0])

  got, (y, routing) = jax.jit(jax.grad(ours, argnums=(0, 1), has_aux=True))(params, x)
  expected, sums, kept = naive(module, params, x, real)
  np.testing.assert_allclose(y, expected, atol=2e-6)
  np.testing.assert_array_equal(routing.chosen, sums["chosen"])
  np.testing.assert_allclose(routing.probability, sums["probability"], rtol=1e-5)
  np.testing.assert_allclose(routing.log_z_squared, sums["z"], rtol=1e-5)
  assert routing.tokens == sums["tokens"]
  settings = module.config.experts
  lost = sums["tokens"] * settings.experts_per_token - kept.sum()
  assert routing.dropped == lost
  assert (lost > 0) == ((settings.capacity_factor or 100) < 1 or settings.row_capacity is not None)

  def formula(params, x):
    """Every expert computes every token, and the choices that NumPy kept have weights."""
    p = jax.nn.softmax(x @ params["router"]["kernel"])
    chosen = jax.lax.top_k(p, settings.experts_per_token)[1]
    all_choices = jax.nn.one_hot(chosen, 5)
    weights = (all_choices * kept[..., None]).sum(2) * p
    if settings.normalize:
      weights /= (all_choices.sum(2) * p).sum(-1, keepdims=True)
    return (dense(params, x, weights) * direction).sum()

  wanted = jax.jit(jax.grad(formula, argnums=(0, 1)))(params, x)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), got, wanted)
  assert float(jnp.abs(wanted[0]["router"]["kernel"]).max()) > 1e-2


def dense(params, x, weights):
  """Returns the sum over all experts of weights [B, L, E] times what they make of every token."""
  made = [jnp.einsum("bld,edf->blef", x, params["experts"][f"wi_{i}"]["kernel"]) for i in range(2)]
  hidden = jax.nn.silu(made[0]) * made[1]
  outputs = jnp.einsum("blef,efd->bled", hidden, params["experts"]["wo"]["kernel"])
  return (weights[..., None] * outputs).sum(2)


@pytest.mark.slow
def test_outside_of_training_nothing_is_dropped():
  module, params, x, real = build("switch_with_drops", ("relu",))
  y, routing = apply(module, params, x, real, training=False)
  np.testing.assert_allclose(y, naive(module, params, x, real, training=False)[0], atol=2e-6)
  assert routing.dropped == 0


def test_in_bfloat16_the_router_computes_in_float32():
  module, params, x, real = build("top_2")
  low = ExpertMlp(dataclasses.replace(module.config, dtype="bfloat16"))
  x = x.astype(jnp.bfloat16)
  y, routing = apply(low, params, x, real)
  expected, sums, _ = naive(module, params, x, real)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_array_equal(routing.chosen, sums["chosen"])
  np.testing.assert_allclose(routing.probability, sums["probability"], rtol=1e-6)
  np.testing.assert_allclose(y.astype(np.float32), expected, atol=0.03)


@pytest.mark.slow
def test_jitter_changes_only_the_router_and_only_training():
  module, params, x, _ = build("top_2")
  settings = dataclasses.replace(module.config.experts, router_jitter=0.3)
  jittered = ExpertMlp(dataclasses.replace(module.config, experts=settings))
  plain = [apply(module, params, x, None, training) for training in (True, False)]
  moved = [apply(jittered, params, x, None, training) for training in (True, False)]
  assert np.abs(moved[0][1].probability - plain[0][1].probability).max() > 1e-3
  np.testing.assert_array_equal(moved[1][0], plain[1][0])
  # With equal logits nothing depends on what the router reads; the experts read x as it is.
  flat = params | {"router": {"kernel": jnp.zeros((12, 5))}}
  results = [apply(layer, flat, x, None)[0] for layer in (module, jittered)]
  np.testing.assert_array_equal(*results)


def test_the_likeliest_experts_in_order():
  p = jnp.array([[0.1, 0.4, 0.3, 0.2], [0.25, 0.25, 0.25, 0.25]])
  np.testing.assert_array_equal(top_experts(p, 3), [[1, 2, 3], [0, 1, 2]])


def test_each_expert_starts_as_a_dense_layer_would():
  config = TransformerConfig(**SIZES, num_decoder_layers=1, experts=Experts(num_experts=300))
  params = nn.meta.unbox(jax.jit(ExpertMlp(config).init)(jax.random.key(0), jnp.zeros((1, 1, 12))))
  kernels = params["params"]["experts"]
  assert kernels["wi_0"]["kernel"].std() == pytest.approx(12**-0.5, rel=0.02)
  assert kernels["wo"]["kernel"].std() == pytest.approx(20**-0.5, rel=0.02)
  assert len(np.unique(kernels["wi_0"]["kernel"][:, 0, 0])) == 300


@pytest.mark.slow
def test_no_program_holds_every_token_of_every_expert():
  """Neither path computes all experts of all tokens, or has a one-hot matrix of the slots."""
  module, params, x, _ = build("top_2")
  x = jnp.zeros((2, 512, 12))
  for training in (True, False):
    config = module.config
    if training:
      settings = dataclasses.replace(config.experts, capacity_factor=1.0)
      config = dataclasses.replace(config, experts=settings)
    rngs = {"dropout": jax.random.key(0)} if training else None
    loss = lambda p, x, c=config, r=rngs: ExpertMlp(c).apply({"params": p}, x, rngs=r).sum()
    text = jax.jit(jax.grad(loss)).lower(params, x).compile().as_text()
    sizes = [
      np.prod([int(n) for n in shape.split(",")]) for shape in re.findall(r"f32\[([\d,]+)\]", text)
    ]
    # 1,024 tokens have 2,048 choices; padded slots are a quarter more.
    assert max(sizes) <= 1.3 * 2048 * 12
