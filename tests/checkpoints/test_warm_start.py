"""Starting from other parameters: layouts of the layers, larger vocabularies, what is refused."""

import dataclasses
import warnings
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.checkpoints.manager import Checkpoints
from t5x_style.checkpoints.warm_start import initial_params
from t5x_style.errors import UserError
from t5x_style.models import Transformer, TransformerConfig
from t5x_style.training.guard import Guard
from t5x_style.training.state import TrainState

SIZES = {"vocab_size": 96, "emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 24}


def abstract(config):
  tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
  batch = {"encoder_input_tokens": tokens, "decoder_input_tokens": tokens}
  shapes = jax.eval_shape(Transformer(config).init, jax.random.key(0), batch)["params"]
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), nn.meta.unbox(shapes)
  )


def save(folder, **model):
  """Saves random parameters as a checkpoint, and returns them."""
  random, config = np.random.default_rng(0), TransformerConfig(**(SIZES | model))
  params = jax.tree.map(
    lambda x: jnp.asarray(random.normal(size=x.shape), x.dtype), abstract(config)
  )
  state = TrainState(
    step=jnp.int32(3), params=params, opt_state=(), rng=jnp.zeros(2, jnp.uint32), guard=Guard.new()
  )
  checkpoints = Checkpoints(folder / "checkpoints")
  identity = {"model": dataclasses.asdict(config)}
  checkpoints.save(state, {}, identity=identity, progress={})
  checkpoints.close()
  return params


def read(folder, **model):
  config = TransformerConfig(**(SIZES | model))
  return initial_params(str(folder), config, abstract(config))


@pytest.mark.parametrize("scanned", [True, False])
def test_scanned_layers_become_unrolled_ones_and_back(tmp_path, scanned):
  layers = {"num_encoder_layers": 11, "num_decoder_layers": 2}
  before = save(tmp_path, scan_layers=scanned, **layers)
  after = read(tmp_path, scan_layers=not scanned, **layers)
  stacked, single = (before, after) if scanned else (after, before)
  for stack, count in (("encoder", 11), ("decoder", 2)):
    assert jax.tree.structure(stacked[stack]["layers"]) == jax.tree.structure(
      single[stack]["layers_0"]
    )
    for i in range(count):
      jax.tree.map(
        lambda all_layers, one, i=i: np.testing.assert_array_equal(all_layers[i], one),
        stacked[stack]["layers"],
        single[stack][f"layers_{i}"],
      )
    np.testing.assert_array_equal(
      before[stack]["relative_bias"]["embedding"], after[stack]["relative_bias"]["embedding"]
    )


def test_cycles_of_windows_become_single_layers_and_other_cycles(tmp_path):
  model = {"num_encoder_layers": 8, "positions": "rotary"}
  cycle = {"attention_windows": (None, 4, 4)}
  before = save(tmp_path, **model, scan_layers=False)
  in_threes = read(tmp_path, **model, **cycle)["encoder"]
  assert {"layers_0", "layers_1", "layers"} <= in_threes.keys()  # 8 = 2 + 2 * 3
  kernel = [before["encoder"][f"layers_{i}"]["mlp"]["wo"]["kernel"] for i in range(8)]
  blocks = in_threes["layers"]
  np.testing.assert_array_equal(in_threes["layers_1"]["mlp"]["wo"]["kernel"], kernel[1])
  for block in range(3):
    stacked = blocks[f"block_{block}"]["mlp"]["wo"]["kernel"]
    np.testing.assert_array_equal(stacked[0], kernel[2 + block])
    np.testing.assert_array_equal(stacked[1], kernel[5 + block])
  saved = save(tmp_path / "threes", **model, **cycle)["encoder"]
  plain = read(tmp_path / "threes", **model, scan_layers=False)["encoder"]
  np.testing.assert_array_equal(
    plain["layers_7"]["mlp"]["wo"]["kernel"],
    saved["layers"]["block_2"]["mlp"]["wo"]["kernel"][1],
  )


def test_the_same_layout_is_read_as_it_is(tmp_path):
  before = save(tmp_path, num_decoder_layers=2)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    after = read(tmp_path, num_decoder_layers=2)
  jax.tree.map(np.testing.assert_array_equal, before, after)


UNTIED = {"num_encoder_layers": 2, "tie_embeddings": False, "head_bias": True}


def test_new_ids_begin_as_the_mean_of_the_old(tmp_path):
  params = save(tmp_path, **UNTIED)
  with pytest.warns(UserWarning, match="the 96 ids of .* became 104: .* mean") as caught:
    result = read(tmp_path, **UNTIED, vocab_size=104)
  assert len([w for w in caught if "became" in str(w.message)]) == 1
  for (module, name), axis in {
    ("token_embed", "embedding"): 0,
    ("head", "kernel"): 1,
    ("head", "bias"): 0,
  }.items():
    old, new = np.asarray(params[module][name]), np.asarray(result[module][name])
    np.testing.assert_array_equal(np.take(new, range(96), axis), old)
    mean = np.repeat(old.mean(axis, keepdims=True), 8, axis)
    np.testing.assert_allclose(np.take(new, range(96, 104), axis), mean, atol=1e-6)
  jax.tree.map(np.testing.assert_array_equal, params["encoder"], result["encoder"])


def test_a_tied_head_has_to_scale_as_in_training(tmp_path):
  layers = {"num_decoder_layers": 1}
  save(tmp_path, base_emb_dim=4, **layers)
  with pytest.raises(UserError, match="BASE_EMB_DIM = 4, .* has None; set BASE_EMB_DIM = 4"):
    read(tmp_path, **layers)
  read(tmp_path, base_emb_dim=4, **layers)
  save(tmp_path / "plain", **layers)
  read(tmp_path / "plain", base_emb_dim=16, **layers)  # The same: its own width.
  save(tmp_path / "untied", tie_embeddings=False, **layers)
  read(tmp_path / "untied", tie_embeddings=False, base_emb_dim=4, **layers)


def test_a_smaller_vocabulary_is_refused(tmp_path):
  save(tmp_path, **UNTIED)
  with pytest.raises(ValueError, match=r"token_embed/embedding: saved \(96, 16\), this model \(88"):
    read(tmp_path, **UNTIED, vocab_size=88)


def test_all_parameters_that_do_not_fit_are_named(tmp_path):
  save(tmp_path, num_encoder_layers=11)
  with pytest.raises(ValueError, match="9 parameters differ") as error:
    read(tmp_path, num_encoder_layers=12, scan_layers=False, vocab_size=128)
  text = str(error.value)
  assert "layers_11/mlp/wo/kernel: saved nothing, this model (24, 16)" in text
  assert "token_embed" not in text  # it may grow
  assert "layers_10" not in text
  with pytest.raises(UserError, match="holds no complete checkpoint"):
    read(tmp_path / "no", num_encoder_layers=11)


def test_parameters_are_read_in_the_dtype_of_the_model(tmp_path):
  before = save(tmp_path, num_decoder_layers=2, param_dtype="bfloat16")
  after = read(tmp_path, num_decoder_layers=2, scan_layers=False)
  table = after["token_embed"]["embedding"]
  assert table.dtype == jnp.float32
  np.testing.assert_array_equal(table, np.asarray(before["token_embed"]["embedding"], np.float32))


def test_on_eight_devices_each_has_its_part(on_eight_devices, tmp_path):
  """The vocabulary is in four parts and the width in two. It runs in a process of its own."""
  params = save(tmp_path / "a", **UNTIED)
  kernel = params["encoder"]["layers"]["mlp"]["wo"]["kernel"]
  np.savez(tmp_path / "one.npz", embedding=params["token_embed"]["embedding"], kernel=kernel)
  program = Path(__file__).with_name("sharded_warm_start_program.py")
  printed = on_eight_devices(program, tmp_path)
  assert "shards of the embedding: (26, 8)" in printed
  assert "shards of the decoder: (4, 12, 16)" in printed


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("scanned", [True, False])
def test_a_new_head_begins_at_random_values_and_the_rest_is_read(before, scanned, tmp_path):
  layers = {"num_encoder_layers": 2}
  saved = save(tmp_path, pooled_classes=before, **layers)
  config = TransformerConfig(**SIZES, **layers, pooled_classes=3, scan_layers=scanned)
  initial = jax.tree.map(lambda x: jnp.full(x.shape, 7.0), abstract(config))
  with pytest.warns(UserWarning, match="begin at random values: pooler/classes/kernel") as warned:
    found = initial_params(str(tmp_path), config, abstract(config), initial=initial)
  assert np.all(found["pooler"]["classes"]["kernel"] == 7)
  dense = found["pooler"]["dense"]["kernel"]
  if before:  # What fits is read, as the pooler of a BERT with next sentence.
    np.testing.assert_array_equal(dense, saved["pooler"]["dense"]["kernel"])
    assert "dense" not in str(warned[0].message)
  else:
    assert np.all(dense == 7)
  np.testing.assert_array_equal(
    found["token_embed"]["embedding"], saved["token_embed"]["embedding"]
  )
  with pytest.raises(UserError, match="not a checkpoint of this model; 1 parameters differ"):
    read(tmp_path, **layers, pooled_classes=3, head_bias=True)
