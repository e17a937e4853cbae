"""The losses of routers: their weights, microbatches, padding, what is reported, and whole runs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.models import Experts, Transformer, TransformerConfig
from t5x_style.models.expert_layer import Router, Routing
from t5x_style.training import optimizers, setup
from t5x_style.training.expert_loss import router_loss, token_scales
from t5x_style.training.loss import TrainingLoss
from t5x_style.training.metrics import add, means
from tests import tiny

EXPERTS = Experts(num_experts=4, experts_per_token=2, every=2, balance_loss=0.5, router_z_loss=0.25)


def routing(*layers):
  """Returns what layers sow, stacked; each is (chosen, probability, z, dropped, tokens)."""
  return Routing(*(jnp.asarray(x, jnp.float32) for x in zip(*layers, strict=True)))


def test_the_losses_of_both_sides_are_added():
  scanned = routing(
    ([4, 4, 2, 2], [1.5, 1.5, 1.5, 1.5], 30.0, 1, 6), ([3, 3, 3, 3], [3, 1, 1, 1], 6.0, 0, 6)
  )
  single = routing(([2, 0, 0, 2], [0.5, 0.5, 0.5, 0.5], 8.0, 2, 2))
  sown = {
    "encoder": {"layers": {"block_1": {"mlp": {"sums": (scanned,)}}}},
    "decoder": {"layers_1": {"mlp": {"sums": (jax.tree.map(lambda x: x[0], single),)}}},
  }
  scales = {"encoder": 1 / 12, "decoder": 1 / 2}  # The batch has another 6 tokens to encode.
  # 4 * sum of chosen / tokens * probability / tokens, in each layer.
  balances = [4 * 1.5 * 12 / 36, 4 * (9 + 3 + 3 + 3) / 36, 4 * (1 + 1) / 4]
  total, sums = router_loss(EXPERTS, sown, scales)
  balance = 0.5 * (balances[0] + balances[1]) + balances[2]
  assert total == pytest.approx(0.5 * balance + 0.25 * (36 / 12 + 8 / 2))
  assert sums.routed == 14 and sums.dropped == 1.5 and sums.router_z_loss == 44
  assert sums.balance_loss == pytest.approx(6 * balances[0] + 6 * balances[1] + 2 * balances[2])
  assert sums.busiest == pytest.approx((4 + 3 + 2) * 4 / 2)
  pooled = dataclasses.replace(EXPERTS, balance_over="model", router_z_loss=0.0)
  joined = 4 * (7 * 4.5 + 7 * 2.5 + 5 * 2.5 + 5 * 2.5) / 12**2
  total, sums = router_loss(pooled, sown, scales)
  assert total == pytest.approx(0.5 * (0.5 * joined + balances[2]))
  assert sums.balance_loss == pytest.approx(12 * joined + 2 * balances[2])


def build(**changes):
  """Returns (loss of an encoder-decoder with experts, parameters, a batch with padding)."""
  config = TransformerConfig(
    vocab_size=40,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=24,
    num_encoder_layers=2,
    num_decoder_layers=3,
    scan_layers=False,
    experts=dataclasses.replace(EXPERTS, **changes),
  )
  rng = np.random.default_rng(0)
  lengths = {"encoder": rng.integers(4, 10, 4), "decoder": rng.integers(2, 7, 4)}
  batch = {}
  for side, size in (("encoder", 9), ("decoder", 6)):
    real = np.arange(size) < lengths[side][:, None]
    batch[f"{side}_input_tokens"] = rng.integers(1, 40, (4, size)) * real
  batch["decoder_target_tokens"] = batch["decoder_input_tokens"]
  batch["decoder_loss_weights"] = (batch["decoder_target_tokens"] > 0).astype(np.float32)
  batch = jax.tree.map(jnp.asarray, batch)
  model = Transformer(config)
  return (
    TrainingLoss(model),
    jax.jit(model.init)(jax.random.key(0), batch)["params"],
    batch,
    lengths,
  )


@pytest.mark.slow
def test_the_loss_is_the_cross_entropy_and_the_routers_weighted_losses():
  loss, params, batch, lengths = build()
  plain = TrainingLoss(build(balance_loss=0.0, router_z_loss=0.0)[0].model)
  scales = loss.scales(batch)
  assert scales.routers is not None
  for side, tokens in lengths.items():
    assert scales.routers[side] * tokens.sum() == pytest.approx(1)
  total, sums = jax.jit(loss)(params, batch, scales)
  cross_entropy, same = jax.jit(plain)(params, batch, scales)
  found = means(add(None, sums))
  assert found["loss"] == pytest.approx(float(cross_entropy), rel=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), sums, same)
  # One layer of each side has experts, so that both means are over all tokens of a side.
  assert sums.routed == lengths["encoder"].sum() + lengths["decoder"].sum()
  per_side = [router_share(params, loss, batch, side) for side in ("encoder", "decoder")]
  added = sum(0.5 * balance + 0.25 * z for balance, z, _ in per_side)
  assert float(total - cross_entropy) == pytest.approx(added, rel=1e-4)
  assert found["balance_loss"] == pytest.approx(weighted(per_side, 0), rel=1e-4)
  assert found["router_z_loss"] == pytest.approx(weighted(per_side, 1), rel=1e-4)
  assert found["dropped"] == 0 and found["busiest_expert"] > 1


def weighted(per_side, index):
  return sum(x[index] * x[2] for x in per_side) / sum(x[2] for x in per_side)


def router_share(params, loss, batch, side):
  """Returns (balance, mean of log(Z)^2, tokens) of a side, from the inputs of its router."""
  run = functools.partial(
    loss.model.apply,
    capture_intermediates=lambda module, _: isinstance(module, Router),
    mutable=["intermediates"],
  )
  _, found = jax.jit(run)({"params": params}, batch)
  (logits,) = jax.tree.leaves(found["intermediates"][side])
  tokens = batch["encoder_input_tokens" if side == "encoder" else "decoder_target_tokens"] > 0
  logits = np.asarray(logits, np.float64).reshape(*tokens.shape, 4)[np.asarray(tokens)]
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  balance = 4 * sum(
    np.mean([e in np.argsort(-one)[:2] for one in p]) * p[:, e].mean() for e in range(4)
  )
  return balance, np.square(np.log(np.exp(logits).sum(-1))).mean(), len(logits)


@pytest.mark.slow
def test_microbatches_balance_their_own_tokens():
  loss, params, batch, lengths = build()
  scales = loss.scales(batch)
  halves = [jax.tree.map(lambda x, i=i: x[i::2], batch) for i in range(2)]
  run = jax.jit(loss)
  parts = [run(params, half, scales) for half in halves]
  alone = [run(params, half, loss.scales(half)) for half in halves]
  # The losses of a half that is a batch of its own, by its share of the tokens of each side.
  expected = 0.0
  for i, half in enumerate(halves):
    for side, name in (("encoder", "input"), ("decoder", "target")):
      balance, z, _ = router_share(params, loss, half, side)
      share = (half[f"{side}_{name}_tokens"] > 0).sum() / lengths[side].sum()
      expected += float(share) * (0.5 * balance + 0.25 * z)
    assert alone[i][1].balance_loss == parts[i][1].balance_loss
  nats = sum(float(sums.loss) for _, sums in parts) * float(scales.tokens)
  assert float(sum(total for total, _ in parts)) - nats == pytest.approx(expected, rel=1e-4)


def test_what_does_not_divide_is_refused_before_anything_is_compiled(tmp_path):
  groups = Experts(num_experts=4, capacity_factor=1.0, rows_per_group=3)
  with pytest.raises(UserError, match="rows_per_group = 3 does not divide the 8 rows"):
    setup.prepare(tiny.config("decoder_only", tmp_path, model={"experts": groups}))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("architecture", "changes", "optimizer"),
  [
    ("decoder_only", {"capacity_factor": 0.8}, optimizers.adafactor),
    pytest.param("encoder_decoder", {}, optimizers.adamw, marks=pytest.mark.slow),
    pytest.param("encoder_only", {"router_jitter": 0.1}, optimizers.muon, marks=pytest.mark.slow),
  ],
)
def test_a_run_resumes_with_the_same_bits(tmp_path, architecture, changes, optimizer):
  experts = Experts(num_experts=4, experts_per_token=2, every=1, **changes)
  make = functools.partial(
    tiny.config, architecture, model={"experts": experts, "remat": "full"}, optimizer=optimizer
  )
  once = tiny.train(make(tmp_path / "once", num_microbatches=2))
  tiny.train(make(tmp_path / "twice", num_microbatches=2, train_steps=2))
  twice = tiny.train(make(tmp_path / "twice", num_microbatches=2))
  jax.tree.map(np.testing.assert_array_equal, once.state.params, twice.state.params)
  # Two layers, of whose four experts of 3 x 32 x 64 parameters a token uses two.
  prepared = once.job.prepared
  if architecture != "encoder_decoder":
    gates = len(prepared.config.model.mlp_activations)
    idle = 2 * 2 * (gates + 1) * 32 * 64
    assert prepared.num_parameters - prepared.num_active_parameters == idle
  records = tiny.records(tmp_path / "once")
  assert records == tiny.records(tmp_path / "twice")
  assert (records[0]["dropped"] > 0) == ("capacity_factor" in changes)
  assert 1.9 < records[0]["balance_loss"] < 3
  assert tiny.records(tmp_path / "once", "validation")[0]["dropped"] == 0


def test_token_scales_are_of_models_with_experts_only():
  loss, _, batch, _ = build()
  dense = dataclasses.replace(loss.model.config, experts=None)
  assert token_scales(dense, batch) is None
