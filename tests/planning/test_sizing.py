"""The chosen run spends its budget, and is what the law says is best."""

import dataclasses
import math

import pytest

from t5x_style.errors import UserError
from t5x_style.models import TransformerConfig
from t5x_style.models.parameter_shapes import abstract_parameters
from t5x_style.planning import sizing
from t5x_style.training import flops

ROWS = sizing.Rows({"decoder_length": 64}, None)
DECODER = TransformerConfig(
  vocab_size=64,
  emb_dim=256,
  num_heads=4,
  num_kv_heads=2,
  head_dim=64,
  mlp_dim=640,
  num_decoder_layers=3,
  mlp_activations=("silu", "linear"),
  positions="rotary",
)


def test_a_width_has_heads_layers_and_feed_forward_layers_of_its_size():
  narrow = sizing.resized(DECODER, 64)
  assert (narrow.num_heads, narrow.num_kv_heads, narrow.head_dim) == (1, 1, 64)
  assert (narrow.mlp_dim, narrow.num_decoder_layers, narrow.num_encoder_layers) == (160, 2, 0)
  assert (narrow.base_emb_dim, narrow.base_layers) == (128, None)
  assert sizing.resized(DECODER, 192).num_kv_heads == 1  # 2 would not divide 3 heads
  wide = sizing.resized(DECODER, 1024)
  assert (wide.num_heads, wide.num_kv_heads, wide.num_decoder_layers) == (16, 8, 8)
  assert (wide.base_emb_dim, wide.base_layers) == (128, 2)


def test_layers_that_cannot_be_stacked_stay_two():
  shared = dataclasses.replace(DECODER, share_layers=True)
  assert sizing.resized(shared, 1024).num_decoder_layers == 2


def test_parameters_are_those_of_the_layers():
  """Up to the products of queries and keys, which rows of one token hardly have."""
  model = sizing.resized(DECODER, 256)
  layers = sum(
    x.size
    for x in _leaves(abstract_parameters(model)["decoder"])
    if len(x.shape) > 1  # no scales of norms
  )
  assert sizing.parameters(model, sizing.Rows({"decoder_length": 1}, None)) == pytest.approx(
    layers, rel=1e-3
  )


def _leaves(tree):
  import jax

  return jax.tree.leaves(tree)


@pytest.mark.parametrize("budget", [1e11, 1e13, 1e16])
def test_the_budget_is_spent(budget):
  run = sizing.choose(DECODER, "causal_lm", ROWS, budget)
  step = flops.step_flops(run.model, run.batch_size, decoder_length=64)
  assert run.step_flops == step
  assert run.train_steps * step == pytest.approx(budget, rel=0.5 / run.train_steps + 1e-9)
  assert run.tokens == pytest.approx(run.train_steps * run.batch_size * 64, rel=0.03)
  assert 1 <= run.warmup_steps < run.train_steps


def test_the_size_is_that_of_the_closed_formula():
  """Hoffmann et al. 2022, equation 4: N = G (C/6)^(b/(a+b)), G = (aA / bB)^(1/(a+b))."""
  a, b = 0.3478, 0.3658
  weight = 482.01 / 2085.43
  for budget in (1e14, 1e16, 1e18):
    best = (a * weight / b) ** (1 / (a + b)) * (budget / 6) ** (b / (a + b))
    found = sizing.choose(DECODER, "causal_lm", ROWS, budget)
    others = [sizing.parameters(x, ROWS) for x in sizing.sizes(DECODER)]
    nearest = min(others, key=lambda x: abs(math.log(x / best)))
    assert found.parameters == nearest


def test_little_text_makes_no_difference_until_it_is_read_often():
  plenty = sizing.choose(DECODER, "causal_lm", ROWS, 1e15)
  same = sizing.choose(DECODER, "causal_lm", ROWS._replace(text=plenty.tokens), 1e15)
  assert same == plenty
  scarce = sizing.choose(DECODER, "causal_lm", ROWS._replace(text=plenty.tokens / 100), 1e15)
  assert scarce.model.emb_dim > plenty.model.emb_dim and scarce.tokens < plenty.tokens


def test_batches_fit_the_devices():
  run = sizing.choose(DECODER, "causal_lm", ROWS._replace(multiple=6), 1e13)
  assert run.batch_size % 6 == 0


def test_memory_bounds_all_parameters():
  """Also those of the embeddings, which are most of a small model with a large vocabulary."""
  model = dataclasses.replace(DECODER, vocab_size=50_000, tie_embeddings=True)
  free = sizing.choose(model, "causal_lm", ROWS, 1e15)
  table = 50_000 * free.model.emb_dim
  assert sizing.stored(free.model) > table > free.parameters
  small = sizing.choose(model, "causal_lm", ROWS, 1e15, most_parameters=table)
  assert sizing.stored(small.model) <= table and small.train_steps > free.train_steps


@pytest.mark.parametrize(
  "width, heads, widths",
  [
    (1472, 6, [736, 1472, 2944, 5888]),  # ByT5 small
    (4672, 64, [584, 1168, 2336, 4672]),  # ByT5 XXL
    (1152, 4, [288, 576, 1152, 2304, 4608]),
    (4096, 16, [256, 512, 1024, 2048, 4096, 8192]),  # UL2 20B
  ],
)
def test_every_number_of_heads_has_sizes(width, heads, widths):
  model = dataclasses.replace(DECODER, emb_dim=width, num_heads=heads, num_kv_heads=None)
  found = list(sizing.sizes(model))
  assert set(widths) <= {sized.emb_dim for sized in found}
  for sized in found:
    assert sized.num_heads >= 1 and sized.num_heads * width == sized.emb_dim * heads
  assert found[0].emb_dim == widths[0]
  assert sizing.base_size(model).emb_dim == widths[0]


@pytest.mark.parametrize("change", [{"share_layers": True}, {"norm_position": "post"}])
def test_two_layers_do_not_become_very_wide(change):
  model = dataclasses.replace(DECODER, **change)
  assert sizing.choose(model, "causal_lm", ROWS, 1e15).model.num_decoder_layers == 2
  with pytest.raises(UserError, match="sized only up to width 512: no learning rate is known"):
    sizing.choose(model, "causal_lm", ROWS, 1e19)


def test_a_budget_of_a_few_steps_is_refused():
  with pytest.raises(UserError, match="are not enough: 20 steps of the smallest model take"):
    sizing.choose(DECODER, "causal_lm", ROWS, 1e8)


def test_one_budget_at_a_time():
  with pytest.raises(UserError, match=r"MINUTES = 15 and FLOPS = 1e\+13 are both set"):
    sizing.Budget(minutes=15, flops=1e13)
  assert (str(sizing.Budget(minutes=15)), str(sizing.Budget())) == ("MINUTES = 15", "")
