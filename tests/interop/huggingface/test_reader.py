"""INITIAL_CHECKPOINT_PATH: a Hugging Face folder, and what launch.convert makes of one."""

import dataclasses

import jax
import numpy as np
import pytest

from t5x_style.checkpoints.warm_start import initial_params
from t5x_style.errors import UserError
from t5x_style.interop.checkpoint_formats import READERS
from t5x_style.interop.huggingface import checkpoint_import, correspondence, model_folder


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


def test_new_ids_get_the_mean_row(pretrained, as_tree):
  _, path = pretrained("qwen3")
  config = model_folder.open_folder(path).correspondence.config
  larger = dataclasses.replace(config, vocab_size=config.vocab_size + 3)
  with pytest.warns(UserWarning, match="96 ids .* became 99"):
    found = initial_params(f"hf:{path}", larger, abstract(larger, as_tree), READERS)
  table = np.asarray(found["token_embed"]["embedding"])
  np.testing.assert_allclose(table[-1], table[:-3].mean(0), atol=1e-6)


def test_the_same_shapes_and_another_function_are_refused(pretrained, as_tree):
  _, path = pretrained("llama")
  config = model_folder.open_folder(path).correspondence.config
  other = dataclasses.replace(config, mlp_activations=("gelu", "linear"), rotary_base=7.0)
  with pytest.raises(ValueError) as raised:
    initial_params(f"hf:{path}", other, abstract(other, as_tree), READERS)
  assert "mlp_activations = ('gelu', 'linear'), not ('silu', 'linear')" in str(raised.value)
  assert "rotary_base = 7.0, not 500.0" in str(raised.value)


def test_numbers_that_are_none_are_refused(pretrained, as_tree, tmp_path):
  from safetensors.numpy import load_file, save_file

  _, path = pretrained("gpt2")
  tensors = load_file(path / "model.safetensors")
  tensors["transformer.h.1.mlp.c_fc.bias"][3] = np.nan
  save_file(tensors, tmp_path / "model.safetensors")
  (tmp_path / "config.json").write_text((path / "config.json").read_text())
  config = model_folder.open_folder(tmp_path).correspondence.config
  with pytest.raises(UserError, match=r"NaN or infinite.*transformer\.h\.1\.mlp\.c_fc\.bias"):
    initial_params(f"hf:{tmp_path}", config, abstract(config, as_tree), READERS)


def test_names_of_the_first_berts_are_understood(pretrained, tmp_path, read_parameters):
  """gamma and beta of TensorFlow, copies of tied tables, buffers; of BERT no prefix."""
  from safetensors.numpy import load_file, save_file

  _, path = pretrained("bert_masked")
  tensors = {}
  for name, x in load_file(path / "model.safetensors").items():
    for new, old in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
      name = name.replace(new, old)
    tensors[name] = x
  table = tensors["bert.embeddings.word_embeddings.weight"]
  tensors["cls.predictions.decoder.weight"] = table
  tensors["bert.embeddings.position_ids"] = np.arange(24)[None]
  save_file(tensors, tmp_path / "model.safetensors")
  (tmp_path / "config.json").write_text((path / "config.json").read_text())
  folder = model_folder.open_folder(tmp_path)
  assert folder.left_out == {
    "cls.predictions.decoder.weight": "the same as bert.embeddings.word_embeddings.weight",
    "bert.embeddings.position_ids": "a buffer, not a parameter",
  }
  wanted = read_parameters(model_folder.open_folder(path))
  for keys, array in read_parameters(folder).items():
    np.testing.assert_array_equal(array, wanted[keys])


def test_gpt2_as_it_was_published_has_no_prefix(pretrained, tmp_path, read_parameters):
  from safetensors.numpy import load_file, save_file

  _, path = pretrained("gpt2")
  tensors = load_file(path / "model.safetensors")
  tensors = {name.removeprefix("transformer."): x for name, x in tensors.items()}
  tensors["h.0.attn.bias"] = np.ones((1, 1, 24, 24), np.float32)
  save_file(tensors, tmp_path / "model.safetensors")
  (tmp_path / "config.json").write_text((path / "config.json").read_text())
  wanted = read_parameters(model_folder.open_folder(path))
  for keys, array in read_parameters(model_folder.open_folder(tmp_path)).items():
    np.testing.assert_array_equal(array, wanted[keys])


def test_a_forgotten_prefix_is_told(pretrained, as_tree):
  _, path = pretrained("qwen3")
  config = model_folder.open_folder(path).correspondence.config
  with pytest.raises(ValueError, match="is a Hugging Face folder; write 'hf:/"):
    initial_params(str(path), config, abstract(config, as_tree), READERS)
