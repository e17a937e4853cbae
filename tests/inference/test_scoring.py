"""Scores of rows of many lengths against the model run on each row alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.inference import scoring
from t5x_style.inference.scoring import Row, score_rows
from t5x_style.models import Transformer, TransformerConfig

SIZES = {"vocab_size": 48, "emb_dim": 32, "num_heads": 4, "head_dim": 8, "mlp_dim": 48}
FAMILIES = {
  "t5": {"num_encoder_layers": 1, "num_decoder_layers": 1},
  "llama": {"num_decoder_layers": 2, "positions": "rotary", "logit_soft_cap": 2.0},
  "roberta": {
    "num_encoder_layers": 1,
    "positions": "learned",
    "position_offset": 2,
    "positions_skip_padding": True,
    "max_length": 20,
    "padding_id": 1,
    "head_bias": True,
  },
}


def build(family):
  config = TransformerConfig(**SIZES, **FAMILIES[family])
  model = Transformer(config)
  batch = {}
  if config.num_encoder_layers:
    batch["encoder_input_tokens"] = jnp.ones((2, 4), jnp.int32)
  if config.num_decoder_layers:
    batch["decoder_input_tokens"] = jnp.ones((2, 4), jnp.int32)
  params = jax.jit(model.init)(jax.random.key(4), batch)["params"]
  draw = np.random.default_rng(5)
  return model, jax.tree.map(lambda x: x + 0.3 * draw.normal(size=x.shape).astype("f"), params)


def draw_rows(config):
  """Returns rows of different lengths, with gaps between the positions that are scored."""
  draw = np.random.default_rng(0)
  ids = lambda n: draw.integers(3, config.vocab_size, n).tolist()
  rows = []
  for length, scored in ((5, 3), (20, 4), (2, 1), (16, 4)):
    positions = sorted(draw.choice(length, scored, replace=False).tolist())
    encoder = decoder = ()
    if config.num_decoder_layers:
      decoder = ids(length)
      encoder = ids(length // 2 + 3) if config.num_encoder_layers else ()
    else:
      encoder = ids(length)
    rows.append(Row(ids(len(positions)), positions, decoder, encoder))
  return rows


def alone(model, params, row):
  """Returns the logits of one row without padding [L, V], in float64."""
  batch = {}
  if row.encoder_inputs:
    batch["encoder_input_tokens"] = jnp.array([row.encoder_inputs])
  if row.decoder_inputs:
    batch["decoder_input_tokens"] = jnp.array([row.decoder_inputs])
  if row.prefix:
    seen = np.arange(len(row.decoder_inputs)) < row.prefix
    batch["decoder_causal_attention"] = jnp.array([seen], jnp.int32)
  return np.asarray(_logits(model, params, batch)[0], np.float64)


@functools.partial(jax.jit, static_argnames="model")
def _logits(model, params, batch):
  return model.apply({"params": params}, batch).logits(model.config.logit_soft_cap)


def check(model, params, rows, **options):
  found = list(score_rows(model, params, rows, **options))
  assert len(found) == len(rows)
  for row, scores in zip(rows, found, strict=True):
    logits = alone(model, params, row)[list(row.positions)]
    wanted = logits[np.arange(len(row.targets)), row.targets]
    wanted -= np.log(np.exp(logits).sum(-1))
    np.testing.assert_allclose(scores.log_probabilities, wanted, rtol=0, atol=1e-4)
    assert scores.log_probabilities.dtype == np.float32
    np.testing.assert_array_equal(scores.likeliest, logits.argmax(-1) == row.targets)


@pytest.mark.parametrize(
  "family", ["llama", *(pytest.param(x, marks=pytest.mark.slow) for x in ("t5", "roberta"))]
)
def test_padding_and_batches_change_no_score(family):
  model, params = build(family)
  check(model, params, draw_rows(model.config), batch_tokens=100)


def test_a_prefix_is_read_in_both_directions():
  model, params = build("llama")
  row = Row([5, 6, 7], [3, 4, 5], [0, 9, 8, 7, 5, 6])
  both = row._replace(prefix=4)
  check(model, params, [both, row])
  causal, bidirectional = (s.log_probabilities for s in score_rows(model, params, [row, both]))
  assert np.abs(causal - bidirectional).max() > 1e-3


def test_the_likeliest_token_is_recognised():
  model, params = build("llama")
  row = Row([5], [2], [0, 9, 8])
  best = int(alone(model, params, row)[2].argmax())
  rows = [row._replace(targets=[best]), row._replace(targets=[(best + 1) % 48])]
  assert [bool(x.likeliest[0]) for x in score_rows(model, params, rows)] == [True, False]


def test_rows_are_read_as_they_are_needed(monkeypatch):
  """A corpus of rows is never held at once."""
  monkeypatch.setattr(scoring, "_SORTED_ROWS", 4)
  model, params = build("llama")
  read = []

  def rows():
    for i in range(9):
      read.append(i)
      yield Row([5], [0], [i])

  scores = score_rows(model, params, rows(), batch_tokens=64)
  first = next(scores)
  assert len(read) == 4
  rest = list(scores)
  assert len(rest) == 8
  wanted = np.asarray(jax.nn.log_softmax(alone(model, params, Row([5], [0], [0]))[0]))[5]
  assert first.log_probabilities[0] == pytest.approx(wanted, abs=1e-4)


def test_few_lengths_are_compiled():
  model, params = build("llama")
  before = scoring._score_batch._cache_size()
  rows = [Row([5], [n - 1], [7] * n) for n in range(1, 25)]
  for _ in range(2):
    list(score_rows(model, params, rows, batch_tokens=64))
  assert scoring._score_batch._cache_size() - before <= 2


MESH = """
import sys
import jax, numpy as np
from t5x_style.partitioning.mesh import make_mesh
from t5x_style.partitioning.sharding import Partitioner
from tests.inference.test_scoring import build, draw_rows
from t5x_style.inference.scoring import score_rows

for family in ("t5", "llama", "roberta"):
  model, params = build(family)
  rows = draw_rows(model.config)
  wanted = list(score_rows(model, params, rows))
  partitioner = Partitioner(make_mesh({"data": 2, "fsdp": 2, "tensor": 2}))
  with partitioner.context():
    found = list(score_rows(model, params, rows))
  for a, b in zip(wanted, found, strict=True):
    np.testing.assert_allclose(a.log_probabilities, b.log_probabilities, atol=1e-4)
    np.testing.assert_array_equal(a.likeliest, b.likeliest)
  print(family)
"""


@pytest.mark.slow
def test_scores_on_a_mesh(on_eight_devices, tmp_path):
  program = tmp_path / "program.py"
  program.write_text(MESH)
  assert on_eight_devices(program) == ["t5", "llama", "roberta"]
