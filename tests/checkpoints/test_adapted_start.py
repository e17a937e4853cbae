"""Models that begin with the parameters of another architecture compute what the other did."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.checkpoints import restoring
from t5x_style.checkpoints.adapted_start import adapted_params
from t5x_style.checkpoints.arrays import orbax_arrays
from t5x_style.checkpoints.manager import Checkpoints
from t5x_style.errors import UserError
from t5x_style.models import Experts, Transformer, TransformerConfig
from t5x_style.training import setup
from tests.checkpoints.damages import change_a_number
from tests.checkpoints.test_warm_start import abstract, save

SIZES = {
  "vocab_size": 96,
  "emb_dim": 16,
  "num_heads": 2,
  "head_dim": 8,
  "mlp_dim": 24,
  "positions": "rotary",
}
DECODER, ENCODER = {"num_decoder_layers": 2}, {"num_encoder_layers": 2}
TOKENS = jnp.asarray([[5, 9, 38, 2, 11, 1]])
BATCH = {"encoder_input_tokens": TOKENS, "decoder_input_tokens": TOKENS[:, ::-1]}


def own_params(config):
  """Returns 0.5 for all parameters: what is new is seen at once."""
  return jax.tree.map(lambda x: jnp.full(x.shape, 0.5, x.dtype), abstract(config))


def start(path, **model):
  """Returns (model, its parameters, the report) of a model that starts from `path`."""
  config = TransformerConfig(**(SIZES | model))
  params, report = adapted_params(str(path), config, own_params(config), "interpolate")
  return Transformer(config), params, report


def logits(model, params, batch=BATCH):
  return np.asarray(jax.jit(lambda p, b: model.apply({"params": p}, b).logits())(params, batch))


def test_the_decoder_of_an_adapted_model_computes_what_it_did(tmp_path):
  """If its cross-attention adds nothing, which is new to it. Scanned layers become unrolled."""
  before = save(tmp_path, **SIZES, **DECODER)
  source = Transformer(TransformerConfig(**SIZES, **DECODER))
  model, params, report = start(tmp_path, **DECODER, **ENCODER, scan_layers=False)
  for i in range(2):
    layer = params["decoder"][f"layers_{i}"]
    attention = layer["cross_attention"]
    jax.tree.map(np.testing.assert_array_equal, attention, layer["self_attention"])
    attention["out"]["kernel"] *= 0
  np.testing.assert_allclose(logits(model, params), logits(source, before), rtol=1e-4, atol=1e-4)
  assert "cross-attention: the self-attention of the same layers" in report.summary
  assert "0 new, 0 of the checkpoint left out" in report.summary


def test_the_encoder_of_an_adapted_model_computes_what_it_did(tmp_path):
  before = save(tmp_path, **SIZES, **ENCODER)
  source = Transformer(TransformerConfig(**SIZES, **ENCODER))
  model, params, _ = start(tmp_path, **ENCODER, **DECODER)

  def encode(model, params):
    return jax.jit(lambda p: model.apply({"params": p}, BATCH, method="encode"))(params)

  np.testing.assert_allclose(encode(model, params), encode(source, before), rtol=1e-5, atol=1e-5)


def test_an_encoder_computes_what_the_decoder_did_where_nothing_is_on_the_right(tmp_path):
  before = save(tmp_path, **SIZES, **DECODER)
  source = Transformer(TransformerConfig(**SIZES, **DECODER))
  model, params, _ = start(tmp_path, **ENCODER)
  one = dict.fromkeys(BATCH, TOKENS[:, :1])
  np.testing.assert_allclose(logits(model, params, one), logits(source, before, one), rtol=1e-4)


def test_experts_that_begin_as_a_dense_layer_compute_what_it_did(tmp_path):
  """Sparse upcycling: equal experts, whose weights have the sum 1, whatever the router is."""
  layers = {"num_decoder_layers": 4}
  before = save(tmp_path, **SIZES, **layers)
  source = Transformer(TransformerConfig(**SIZES, **layers))
  experts = Experts(num_experts=3, experts_per_token=2, every=2, normalize=True)
  model, params, report = start(tmp_path, **layers, experts=experts)
  assert params["decoder"]["layers"]["block_1"]["mlp"]["experts"]["wo"]["kernel"].shape[1] == 3
  np.testing.assert_allclose(logits(model, params), logits(source, before), rtol=1e-4, atol=1e-4)
  assert "experts: each the dense feed-forward network of the same layer" in report.summary
  assert "new: decoder/layers_*/mlp/router/kernel" in report.summary
  assert "not trained with" not in report.summary


@pytest.mark.parametrize(
  ("saved", "wanted", "message"),
  [
    (
      None,
      Experts(num_experts=3, mlp_dim=20),
      rf"covers the width of experts = 20, in the checkpoint {SIZES['mlp_dim']}\.",
    ),
    (Experts(num_experts=3), None, "layers_0/mlp/wo/kernel: saved nothing"),
    (Experts(num_experts=3), Experts(num_experts=4), "experts = 4, in the checkpoint 3"),
  ],
)
def test_experts_that_no_rule_makes_of_the_checkpoint(saved, wanted, message, tmp_path):
  save(tmp_path, **SIZES, **DECODER, experts=saved)
  with pytest.raises(UserError, match=message):
    start(tmp_path, **DECODER, experts=wanted)


def test_the_report_names_every_parameter(tmp_path):
  save(tmp_path, **SIZES | {"positions": "relative"}, **DECODER)
  _, params, report = start(tmp_path, num_encoder_layers=4, head_bias=True)
  lines = [line.split() for line in report.report.splitlines()]
  assert [
    "encoder/layers/mlp/wo/kernel[3]",
    "float32",
    "24x16",
    "decoder/layers_1/mlp/wo/kernel",
  ] in lines
  assert ["head/bias", "float32", "96", "new:"] in [line[:4] for line in lines]
  assert lines[-1] == ["left", "out:", "2x32", "decoder/relative_bias/embedding"]
  layered = len(jax.tree.leaves(params["encoder"]["layers"]))
  single = len(jax.tree.leaves(params)) - layered
  assert len(lines) == 4 * layered + single + 1
  assert "encoder: layers 0 0 1 1 of the decoder" in report.summary
  assert "new: head/bias" in report.summary
  assert "left out: decoder/relative_bias/embedding" in report.summary


def test_own_initial_values_fill_what_a_table_lacks(tmp_path):
  learned = {"positions": "learned", "max_length": 6}
  before = save(tmp_path, **SIZES | learned, **DECODER)["position_embed"]["embedding"]
  config = TransformerConfig(**(SIZES | learned | ENCODER | {"max_length": 9}))
  own = own_params(config)
  replaced = own["token_embed"]["embedding"]
  params, _ = adapted_params(str(tmp_path), config, own, "interpolate")
  table = np.asarray(params["position_embed"]["embedding"])
  np.testing.assert_array_equal(table[:6], before)
  np.testing.assert_array_equal(table[6:], np.full((3, 16), 0.5))
  assert replaced.is_deleted()  # Its memory is free before the next one is read.


def test_the_first_norm_that_modernbert_lacks_is_new(tmp_path):
  layers = {"num_encoder_layers": 3}
  before = save(tmp_path, **SIZES, **layers, first_attention_norm=False)["encoder"]
  _, params, report = start(tmp_path, **layers)
  scale = np.asarray(params["encoder"]["layers"]["self_attention_norm"]["scale"])
  np.testing.assert_array_equal(scale[0], np.full(16, 0.5))
  np.testing.assert_array_equal(scale[1:], before["layers"]["self_attention_norm"]["scale"])
  assert "1 new" in report.summary


def save_run(config, spoil=1.0):
  """Saves the first state of a run, its parameters times `spoil`; returns the folder's path."""
  prepared = setup.prepare(config)
  state = prepared.init(0)
  state = state.replace(params=jax.tree.map(lambda x: x * spoil, state.params))
  with Checkpoints(prepared.model_dir / "checkpoints") as saved:
    saved.save(state, {"stream_00000": b"0"}, identity=prepared.identity(), progress={})
  return str(prepared.model_dir)


@pytest.fixture
def decoder_run(tiny_config, tmp_path):
  return save_run(tiny_config("decoder_only", tmp_path / "decoder"))


@pytest.fixture
def encoder_from(tiny_config, tmp_path):
  """encoder_from(path): the prepared run of an encoder that starts from a checkpoint there."""

  def prepare(path, rule="interpolate"):
    start = {"initial_checkpoint_path": path, "initial_checkpoint_adapt": rule}
    return setup.prepare(tiny_config("encoder_only", tmp_path / "encoder", **start))

  return prepare


def test_a_run_starts_from_another_architecture(decoder_run, encoder_from):
  prepared = encoder_from(decoder_run)
  job = restoring.open_run(prepared)
  job.checkpoints.close()
  kernel = job.state.params["encoder"]["layers"]["mlp"]["wo"]["kernel"]
  saved = orbax_arrays(Path(decoder_run) / "checkpoints/0/state", "params")
  np.testing.assert_array_equal(kernel, saved["decoder/layers/mlp/wo/kernel"].read())
  assert int(job.state.step) == 0
  assert restoring.check_start(prepared) == job.initial  # A dry run says the same.
  assert "encoder: layers 0 1 of the decoder" in job.initial.summary
  save_run(prepared.config)
  assert restoring.check_start(prepared) is None  # From here on it resumes.


def test_without_the_setting_the_error_names_it(decoder_run, encoder_from):
  with pytest.raises(UserError, match='set INITIAL_CHECKPOINT_ADAPT = "interpolate"'):
    restoring.check_start(encoder_from(decoder_run, rule=None))


def test_the_setting_without_a_checkpoint_is_refused(encoder_from):
  with pytest.raises(UserError, match="INITIAL_CHECKPOINT_PATH = None"):
    encoder_from(None)


def test_other_settings_are_named(tmp_path, tiny_config, encoder_from):
  other = {"positions": "relative", "mlp_activations": ("silu", "linear")}
  path = save_run(tiny_config("decoder_only", tmp_path / "decoder", model=other))
  report = restoring.check_start(encoder_from(path))
  assert "positions = 'rotary', not 'relative'" in report.summary
  assert "mlp_activations = ('gelu', 'linear'), not ('silu', 'linear')" in report.summary
  assert "num_" not in report.summary and "padding_id" not in report.summary


def test_numbers_that_are_not_finite_are_refused(tiny_config, tmp_path, encoder_from):
  path = save_run(tiny_config("decoder_only", tmp_path / "decoder"), spoil=np.nan)
  with pytest.raises(UserError, match="INITIAL_CHECKPOINT_PATH = .* not finite"):
    restoring.open_run(encoder_from(path))


def test_damage_is_refused(decoder_run, encoder_from):
  change_a_number(Path(decoder_run) / "checkpoints" / "0")
  with pytest.raises(UserError, match="cannot be read: 1 of 11 arrays in state/ are not what was"):
    restoring.open_run(encoder_from(decoder_run))
