"""launch.convert: folders of any name, links, mounted disks, and files that were there before."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from launch import convert
from launch.configuration.gin_values import GinValues
from launch.process.errors import ConfigurationError
from t5x_style.errors import StorageError

D, V = 8, 32
SETTINGS = {
  "model_type": "llama",
  "architectures": ["LlamaForCausalLM"],
  "vocab_size": V,
  "hidden_size": D,
  "num_attention_heads": 2,
  "num_key_value_heads": 2,
  "intermediate_size": D,
  "num_hidden_layers": 1,
  "hidden_act": "silu",
}


@pytest.fixture
def arrays():
  layer = "model.layers.0"
  shapes = {"model.embed_tokens.weight": (V, D), "lm_head.weight": (V, D)}
  shapes |= {f"{layer}.self_attn.{x}_proj.weight": (D, D) for x in "qkvo"}
  shapes |= {f"{layer}.mlp.{x}_proj.weight": (D, D) for x in ("gate", "up", "down")}
  norms = ("model.norm", f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm")
  shapes |= {f"{name}.weight": (D,) for name in norms}
  draw = np.random.default_rng(0)
  return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def folder(tmp_path, monkeypatch, arrays):
  """The working directory; the model is in published/."""
  monkeypatch.chdir(tmp_path)
  make_model(tmp_path / "published", arrays)
  return tmp_path


def make_model(folder, arrays):
  folder.mkdir()
  save_file(arrays, folder / "model.safetensors")
  (folder / "config.json").write_text(json.dumps(SETTINGS))


def run(source, target):
  convert.main(["launch.convert", "--from", source, "--to", target])


def same(file, arrays):
  found = load_file(file)
  assert found.keys() == arrays.keys()
  for name, array in arrays.items():
    np.testing.assert_array_equal(found[name], array)


def test_names_of_every_kind(folder, arrays, capsys):
  """A run and launch.convert both read what was imported there."""
  import jax

  from t5x_style.checkpoints.warm_start import initial_params
  from t5x_style.interop.huggingface import correspondence, model_folder

  config = model_folder.open_folder("published").correspondence.config
  flat = correspondence.abstract_params(config)
  one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = {}
  for keys, x in flat.items():
    node = abstract
    for key in keys[:-1]:
      node = node.setdefault(key, {})
    node[keys[-1]] = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one)

  names = ("100%", "a%20b", "c#1", "q?x=1", "two words", "é漢", 'it\'s "x"', "-a;b&c", "tab\t")
  for name in names:
    make_model(folder / name, arrays)
    before = {*folder.iterdir()}
    run(f"hf:{name}", f"{name}/imported/")
    assert {path.name for path in (folder / name / "imported").iterdir()} == {
      *("state", "huggingface", "model.gin", "model.json"),
      *("conversion.txt", "commit_success.txt"),
    }
    run(f"{name}/imported", f"hf:{name}/new/back")
    same(f"{name}/new/back/model.safetensors", arrays)
    path = GinValues([f"{name}/imported/model.gin"]).macro("INITIAL_CHECKPOINT_PATH")
    assert path == str(folder / name / "imported")
    params = initial_params(path, config, abstract)
    np.testing.assert_array_equal(
      params["token_embed"]["embedding"], arrays["model.embed_tokens.weight"]
    )
    assert {*folder.iterdir()} == before
  assert "'--gin_file=two words/imported/model.gin'" in capsys.readouterr().out


@pytest.mark.parametrize(
  ("name", "reason"),
  [("a\\b", "has a backslash in it"), (os.fsdecode(b"bad\xff"), "is not UTF-8")],
)
def test_names_that_checkpoints_cannot_have(folder, arrays, name, reason, capsys):
  """safetensors can be in these folders, the arrays of a checkpoint cannot."""
  make_model(folder / name, arrays)
  before = sorted(folder.rglob("*"))
  with pytest.raises(ConfigurationError, match=reason):
    run("hf:published", f"{name}/imported")
  assert sorted(folder.rglob("*")) == before
  run(f"hf:{name}", "imported")
  run("imported", f"hf:{name}/back")
  same(folder / name / "back/model.safetensors", arrays)
  (folder / "imported").rename(folder / name / "imported")
  with pytest.raises(ConfigurationError, match=reason):
    run(f"{name}/imported", "hf:again")


def test_a_link_to_an_empty_folder(folder, arrays):
  for name in ("first", "second"):
    (folder / f"disk/{name}").mkdir(parents=True)
    (folder / name).symlink_to(folder / f"disk/{name}")
  run("hf:published", "first")
  run("first", "hf:second")
  assert (folder / "first").is_symlink() and (folder / "disk/first/state").is_dir()
  same(folder / "disk/second/model.safetensors", arrays)
  assert [*(folder / "disk").iterdir()] and not [*folder.glob(".convert*")]


def test_a_link_to_nothing(folder):
  (folder / "imported").symlink_to(folder / "nowhere")
  with pytest.raises(ConfigurationError, match="is a link to '.*nowhere', which does not"):
    run("hf:published", "imported")
  assert (folder / "imported").is_symlink() and not (folder / "nowhere").exists()


def test_other_files_stay(folder, monkeypatch):
  """Files of the user keep their content, also if the conversion fails."""
  (folder / ".imported.part").mkdir()
  (folder / ".imported.part/mine.txt").write_text("mine")
  (folder / "empty").mkdir()
  run("hf:published", "imported")
  mode = (folder / "imported").stat().st_mode
  assert mode == (folder / "published").stat().st_mode  # The mode is that of any new folder.
  assert (folder / ".imported.part/mine.txt").read_text() == "mine"

  from t5x_style.checkpoints import array_writer

  def full(self):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(array_writer.ArrayWriter, "close", full)
  before = sorted(folder.rglob("*"))
  for target in ("empty", "new/folder"):
    with pytest.raises(StorageError, match="No space left on device"):
      run("hf:published", target)
    assert sorted(folder.rglob("*")) == before


def test_not_among_checkpoints(folder):
  run("hf:published", "imported")
  (folder / "run/checkpoints").mkdir(parents=True)
  (folder / "imported").rename(folder / "run/checkpoints/7")
  for target in ("hf:run/checkpoints/hf", "hf:run/checkpoints/7/hf"):
    with pytest.raises(ConfigurationError, match="is among the checkpoints of run"):
      run("run", target)


@pytest.mark.parametrize("target", ["..", "nowhere/..", "/", "~no_such_user/x"])
def test_no_name_for_a_folder(folder, target):
  with pytest.raises(ConfigurationError, match="--to "):
    run("hf:published", target)
