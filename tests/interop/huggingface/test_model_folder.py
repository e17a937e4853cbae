"""Published folders whose tensors have names that transformers no longer writes."""

import numpy as np

from t5x_style.interop.huggingface import model_folder


def test_names_of_the_first_berts_are_understood(pretrained, tmp_path, read_parameters):
  """They have TensorFlow's gamma and beta, copies of tied tables, buffers and no prefix."""
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
