"""launch.convert keeps tensors that are no parameters of a Transformer, and exports them again."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from launch import convert

D, V, F = 8, 32, 12


def run(*arguments):
  convert.main(["launch.convert", *arguments])


@pytest.mark.parametrize("origin", ["imported", "published"])
def test_an_unused_pooler_is_exported_again(tmp_path, monkeypatch, origin):
  """The model is a BERT without a head, as sentence encoders are, trained further or not."""
  monkeypatch.chdir(tmp_path)
  before = bert()
  (tmp_path / "published").mkdir()
  save_file(before, tmp_path / "published/model.safetensors")
  (tmp_path / "published/config.json").write_text(json.dumps(BERT))
  run("--from=hf:published", "--to=imported")
  assert "kept to be exported again" in (tmp_path / "imported/conversion.txt").read_text()
  if origin == "published":  # A run that began from the folder itself.
    gin = (tmp_path / "imported/model.gin").read_text()
    (tmp_path / "run/5").mkdir(parents=True)
    shutil.move(tmp_path / "imported/state", tmp_path / "run/5/state")
    shutil.rmtree(tmp_path / "imported")
    gin = gin.replace(repr(str(tmp_path / "imported")), "'hf:published'")
    (tmp_path / "run/config.gin").write_text(gin)
  run("--from", "run" if origin == "published" else "imported", "--to=hf:back")
  after = load_file(tmp_path / "back/model.safetensors")
  assert after.keys() == before.keys()
  for name, array in before.items():
    np.testing.assert_array_equal(after[name], array)
  assert "not trained since" in (tmp_path / "back/conversion.txt").read_text()


def test_an_unused_pooler_has_the_requested_dtype(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "published").mkdir()
  save_file(bert(), tmp_path / "published/model.safetensors")
  (tmp_path / "published/config.json").write_text(json.dumps(BERT))
  run("--from=hf:published", "--to=imported", "--dtype=float16")
  run("--from=imported", "--to=hf:back")
  assert {x.dtype for x in load_file(tmp_path / "back/model.safetensors").values()} == {
    np.dtype(np.float16)
  }


BERT = {
  "model_type": "bert",
  "architectures": ["BertModel"],
  "vocab_size": V,
  "hidden_size": D,
  "num_attention_heads": 2,
  "intermediate_size": F,
  "num_hidden_layers": 1,
  "max_position_embeddings": 16,
}


def bert():
  draw = np.random.default_rng(0)
  layer = "encoder.layer.0"
  maps = {
    "pooler.dense": (D, D),
    **{f"{layer}.attention.self.{name}": (D, D) for name in ("query", "key", "value")},
    f"{layer}.attention.output.dense": (D, D),
    f"{layer}.intermediate.dense": (F, D),
    f"{layer}.output.dense": (D, F),
  }
  shapes = {
    "embeddings.word_embeddings.weight": (V, D),
    "embeddings.position_embeddings.weight": (16, D),
    "embeddings.token_type_embeddings.weight": (2, D),
  }
  for name, (out, into) in maps.items():
    shapes |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
  for name in ("embeddings", f"{layer}.attention.output", f"{layer}.output"):
    shapes |= {f"{name}.LayerNorm.weight": (D,), f"{name}.LayerNorm.bias": (D,)}
  return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
