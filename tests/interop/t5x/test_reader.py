"""T5X checkpoints in all layouts: the model computes the same; what does not fit is named."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from t5x_style.checkpoints.adapted_start import adapted_params
from t5x_style.checkpoints.warm_start import initial_params
from t5x_style.errors import UserError
from t5x_style.interop.t5x import reader
from t5x_style.models import Transformer, TransformerConfig
from t5x_style.models.parameter_shapes import abstract_parameters
from tests.interop.t5x import conftest as files

SIZES = {
  "vocab_size": files.V,
  "emb_dim": files.D,
  "num_heads": files.N,
  "head_dim": files.H,
  "mlp_dim": files.F,
  "num_encoder_layers": files.LAYERS["encoder"],
  "num_decoder_layers": files.LAYERS["decoder"],
  "scale_attention": False,
  "tie_embeddings": False,
}
INPUTS = [5, 9, 38, 2, 11, 1, 0, 0]
DECODER_INPUTS = [0, 4, 39, 6, 6, 1]


def read(path, **changes):
  config = TransformerConfig(**(SIZES | changes))
  return config, initial_params(str(path), config, abstract(config), [reader.READER])


def abstract(config):
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), abstract_parameters(config)
  )


def logits(config, params):
  batch = {
    "encoder_input_tokens": jnp.asarray([INPUTS]),
    "decoder_input_tokens": jnp.asarray([DECODER_INPUTS]),
  }
  apply = jax.jit(lambda p, b: Transformer(config).apply({"params": p}, b).logits())
  return np.asarray(apply(params, batch))[0]


def assert_computes_the_same(path, params, **changes):
  found = logits(*read(path, **changes))
  wanted = files.t5x_logits(params, INPUTS, DECODER_INPUTS)
  assert np.abs(wanted).max() > 1
  np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


def test_t5_1_1_computes_what_t5x_does(tmp_path):
  params = files.t5x_parameters()
  files.write_msgpack(tmp_path, params)
  assert_computes_the_same(tmp_path, params)


def test_t5_1_0_computes_what_t5x_does(tmp_path):
  params = files.t5x_parameters(gated=False, tied=True)
  files.write_msgpack(tmp_path, params)
  assert_computes_the_same(
    tmp_path, params, mlp_activations=("relu",), tie_embeddings=True, scan_layers=False
  )


@pytest.mark.parametrize(
  "layers, dtype", [("unrolled", np.float32), ("scanned", ml_dtypes.bfloat16)]
)
def test_every_layout_holds_the_same_parameters(tmp_path, write, layers, dtype):
  params = files.t5x_parameters(dtype=dtype)
  write(tmp_path, files.scanned(params) if layers == "scanned" else params)
  _, result = read(tmp_path)
  wo = np.stack([params[f"encoder/layers_{i}/mlp/wo/kernel"] for i in range(3)])
  np.testing.assert_array_equal(result["encoder"]["layers"]["mlp"]["wo"]["kernel"], wo)
  query = params["decoder/layers_1/encoder_decoder_attention/query/kernel"]
  np.testing.assert_array_equal(
    result["decoder"]["layers"]["cross_attention"]["query"]["kernel"][1],
    query.reshape(files.D, files.N, files.H),
  )
  np.testing.assert_array_equal(
    result["decoder"]["layers"]["mlp_norm"]["scale"][0],
    params["decoder/layers_0/pre_mlp_layer_norm/scale"],
  )
  assert {x.dtype for x in jax.tree.leaves(result)} == {jnp.dtype("float32")}


def test_scanned_layers_compute_what_t5x_does(tmp_path):
  params = files.t5x_parameters()
  files.write_msgpack(tmp_path, files.scanned(params))
  assert_computes_the_same(tmp_path, params)


def test_the_newest_step_a_step_or_its_file_may_be_named(tmp_path):
  params = files.t5x_parameters()
  files.write_msgpack(tmp_path, params)
  (tmp_path / "checkpoint_7").rename(tmp_path / "checkpoint_100")
  files.write_msgpack(tmp_path, {k: v + 1 for k, v in params.items()})
  place = ("decoder", "final_norm", "scale")

  def scale(path):
    return np.asarray(read(path)[1][place[0]][place[1]][place[2]])

  newest = params["decoder/decoder_norm/scale"]
  np.testing.assert_array_equal(scale(tmp_path), newest)
  np.testing.assert_array_equal(scale(tmp_path / "checkpoint_100/checkpoint"), newest)
  np.testing.assert_array_equal(scale(tmp_path / "checkpoint_7"), newest + 1)


def test_a_larger_vocabulary_is_filled_up(tmp_path):
  params = files.t5x_parameters()
  files.write_msgpack(tmp_path, params)
  with pytest.warns(UserWarning, match="the 40 ids of .* became 48"):
    _, result = read(tmp_path, vocab_size=48)
  table = params["token_embedder/embedding"]
  np.testing.assert_array_equal(result["token_embed"]["embedding"][:40], table)
  np.testing.assert_allclose(result["token_embed"]["embedding"][45], table.mean(0), atol=1e-6)


def test_what_does_not_fit_is_named(tmp_path):
  params = files.t5x_parameters() | {"decoder/adapter/kernel": np.ones((2, 2), np.float32)}
  del params["decoder/layers_1/mlp/wi_1/kernel"]
  files.write_msgpack(tmp_path, params)
  with pytest.raises(ValueError, match="2 parameters differ") as error:
    read(tmp_path)
  assert "decoder/adapter/kernel: saved (2, 2), this model nothing" in str(error.value)
  assert "decoder/layers_1/mlp/wi_1/kernel: saved nothing" in str(error.value)


def test_a_model_that_computes_something_else_is_refused(tmp_path):
  files.write_msgpack(tmp_path, files.t5x_parameters(tied=True))
  with pytest.raises(ValueError, match="trained with scale_attention = False, scale_logits = True"):
    read(tmp_path, tie_embeddings=True, scale_attention=True, scale_logits=False)


def test_a_bias_in_every_layer_is_refused(tmp_path):
  params = files.scanned(files.t5x_parameters())
  params["encoder/layers/relative_posemb/rel_embedding"] = np.ones((2, 3, 32), np.float32)
  files.write_msgpack(tmp_path, params)
  with pytest.raises(ValueError, match="relative position bias in every layer"):
    read(tmp_path)


def test_a_missing_array_a_damaged_and_a_foreign_file_are_named(tmp_path):
  params = files.t5x_parameters()
  files.write_msgpack(tmp_path, params)
  step = tmp_path / "checkpoint_7"
  folder = step / "target.token_embedder.embedding"
  (folder / ".zarray").unlink()
  with pytest.raises(UserError, match="the array token_embedder/embedding cannot be opened"):
    read(tmp_path)
  (step / "checkpoint").write_bytes(b"\x81\xa3")
  with pytest.raises(ValueError, match="cannot be read as a T5X checkpoint"):
    read(tmp_path)
  (step / "checkpoint").write_bytes(b'model_checkpoint_path: "model.ckpt-1"')
  with pytest.raises(ValueError, match="is a TensorFlow checkpoint"):
    read(tmp_path)


@pytest.mark.parametrize("layers", ["unrolled", "scanned"])
def test_the_encoder_begins_a_model_of_its_own(tmp_path, layers):
  params = files.t5x_parameters()
  files.write_msgpack(tmp_path, files.scanned(params) if layers == "scanned" else params)
  changes = {"num_decoder_layers": 0, "num_encoder_layers": 5, "tie_embeddings": True}
  config = TransformerConfig(**(SIZES | changes))
  own = jax.tree.map(lambda x: jnp.zeros(x.shape), abstract(config))
  result, report = adapted_params(str(tmp_path), config, own, "interpolate", [reader.READER])
  wo = np.stack([params[f"encoder/layers_{i}/mlp/wo/kernel"] for i in (0, 0, 1, 1, 2)])
  np.testing.assert_array_equal(result["encoder"]["layers"]["mlp"]["wo"]["kernel"], wo)
  query = params["encoder/layers_2/attention/query/kernel"].reshape(files.D, files.N, files.H)
  found = result["encoder"]["layers"]["self_attention"]["query"]["kernel"][4]
  np.testing.assert_array_equal(found, query)
  assert "left out: the decoder, head/kernel" in report.summary
