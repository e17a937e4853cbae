"""INITIAL_CHECKPOINT_PATH: a Hugging Face folder, and what launch.convert makes of one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.checkpoints.adapted_start import adapted_params
from t5x_style.checkpoints.warm_start import initial_params
from t5x_style.errors import UserError
from t5x_style.interop.checkpoint_formats import READERS
from t5x_style.interop.huggingface import checkpoint_import, correspondence, model_folder, reader
from t5x_style.models import RotaryScaling


def abstract(config, as_tree):
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return as_tree(
    {
      keys: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here)
      for keys, x in correspondence.abstract_params(config).items()
    }
  )


@pytest.mark.parametrize("name", ["t5_1_1", "albert_masked", "modernbert"])
@pytest.mark.parametrize("scanned", [True, False])
@pytest.mark.parametrize("converted", [True, False])
def test_both_give_the_parameters(
  name, scanned, converted, pretrained, read_parameters, as_tree, tmp_path
):
  _, path = pretrained(name)
  folder = model_folder.open_folder(path, scan_layers=scanned)
  config = folder.correspondence.config
  where = f"hf:{path}"
  if converted:
    checkpoint_import.import_folder(model_folder.open_folder(path), tmp_path / "step")
    where = str(tmp_path / "step")
  found = initial_params(where, config, abstract(config, as_tree), READERS)
  jax.tree.map(np.testing.assert_array_equal, found, as_tree(read_parameters(folder)))


def test_new_ids_get_the_mean_row(pretrained, read_parameters, as_tree):
  _, path = pretrained("qwen3")
  folder = model_folder.open_folder(path)
  config = folder.correspondence.config
  larger = dataclasses.replace(config, vocab_size=config.vocab_size + 3)
  with pytest.warns(UserWarning, match="96 ids .* became 99"):
    found = initial_params(f"hf:{path}", larger, abstract(larger, as_tree), READERS)
  table = np.asarray(found["token_embed"]["embedding"])
  before = read_parameters(folder)["token_embed", "embedding"]
  np.testing.assert_array_equal(table[:-3], before)
  np.testing.assert_allclose(table[-1], before.mean(0), atol=1e-6)


def test_the_same_shapes_and_another_function_are_refused(pretrained, as_tree):
  _, path = pretrained("llama")
  config = model_folder.open_folder(path).correspondence.config
  other = dataclasses.replace(config, mlp_activations=("gelu", "linear"), rotary_base=7.0)
  with pytest.raises(ValueError) as raised:
    initial_params(f"hf:{path}", other, abstract(other, as_tree), READERS)
  assert "mlp_activations = ('gelu', 'linear'), not ('silu', 'linear')" in str(raised.value)
  assert "rotary_base = 7.0, not 500.0" in str(raised.value)


def test_longer_rows_are_an_extension_and_no_mistake(pretrained, as_tree, read_parameters):
  _, path = pretrained("llama")
  folder = model_folder.open_folder(path)
  scaling = RotaryScaling(factor=4.0, kind="linear")
  longer = dataclasses.replace(folder.correspondence.config, rotary_scaling=scaling)
  with pytest.warns(UserWarning, match="rotary_scaling = None; this run trains with .*'linear'"):
    found = initial_params(f"hf:{path}", longer, abstract(longer, as_tree), READERS)
  jax.tree.map(np.testing.assert_array_equal, found, as_tree(read_parameters(folder)))
  # Llama 3.1's scaling belongs to its published weights: here it would be a mistake.
  other = dataclasses.replace(longer, rotary_scaling=RotaryScaling(factor=4.0))
  with pytest.raises(UserError, match="rotary_scaling = "):
    initial_params(f"hf:{path}", other, abstract(other, as_tree), READERS)


def test_nan_is_refused(pretrained, as_tree, tmp_path):
  from safetensors.numpy import load_file, save_file

  _, path = pretrained("gpt2")
  tensors = load_file(path / "model.safetensors")
  tensors["transformer.h.1.mlp.c_fc.bias"][3] = np.nan
  save_file(tensors, tmp_path / "model.safetensors")
  (tmp_path / "config.json").write_text((path / "config.json").read_text())
  config = model_folder.open_folder(tmp_path).correspondence.config
  with pytest.raises(UserError, match=r"NaN or infinite.*transformer\.h\.1\.mlp\.c_fc\.bias"):
    initial_params(f"hf:{tmp_path}", config, abstract(config, as_tree), READERS)


def test_a_missing_prefix_is_named(pretrained, as_tree):
  _, path = pretrained("qwen3")
  config = model_folder.open_folder(path).correspondence.config
  with pytest.raises(ValueError, match="is a Hugging Face folder; write 'hf:/"):
    initial_params(str(path), config, abstract(config, as_tree), READERS)


def test_other_paths_are_left_to_other_readers(tmp_path):
  assert reader.read(str(tmp_path), None, {}) is None


def test_a_decoder_begins_an_encoder_decoder_of_another_depth(pretrained, read_parameters, as_tree):
  _, path = pretrained("llama")
  folder = model_folder.open_folder(path)
  layers = folder.correspondence.config.num_decoder_layers
  config = dataclasses.replace(
    folder.correspondence.config, num_encoder_layers=2 * layers, scan_layers=False
  )
  with pytest.raises(UserError, match="set INITIAL_CHECKPOINT_ADAPT"):
    initial_params(f"hf:{path}", config, abstract(config, as_tree), READERS)
  own = jax.tree.map(lambda x: jnp.zeros(x.shape), abstract(config, as_tree))
  params, report = adapted_params(f"hf:{path}", config, own, "stack", READERS)
  before = read_parameters(folder)["decoder", "layers", "mlp", "wo", "kernel"]
  for i in range(2 * layers):
    kernel = params["encoder"][f"layers_{i}"]["mlp"]["wo"]["kernel"]
    np.testing.assert_array_equal(kernel, before[i % layers])
  assert f"encoder: layers {' '.join(map(str, [*range(layers)] * 2))} of the dec" in report.summary
  assert "0 new" in report.summary and "trained with" not in report.summary
