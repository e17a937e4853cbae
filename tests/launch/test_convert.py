"""launch.convert: imports, exports and messages; an error leaves nothing half-written."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from launch import convert
from launch.process.errors import ConfigurationError

D, V, F, LAYERS = 8, 32, 12, 3
SETTINGS = {
  "model_type": "llama",
  "architectures": ["LlamaForCausalLM"],
  "vocab_size": V,
  "hidden_size": D,
  "num_attention_heads": 2,
  "num_key_value_heads": 1,
  "intermediate_size": F,
  "num_hidden_layers": LAYERS,
  "hidden_act": "silu",
  "rope_theta": 500.0,
  "bos_token_id": 5,
}


def tensors(dtype=np.float32):
  draw = np.random.default_rng(0)
  shapes = {
    "model.embed_tokens.weight": (V, D),
    "lm_head.weight": (V, D),
    "model.norm.weight": (D,),
  }
  for i in range(LAYERS):
    layer = f"model.layers.{i}"
    shapes |= {f"{layer}.self_attn.{x}_proj.weight": (D, D) for x in "qo"}
    shapes |= {f"{layer}.self_attn.{x}_proj.weight": (D // 2, D) for x in "kv"}
    shapes |= {f"{layer}.mlp.{x}_proj.weight": (F, D) for x in ("gate", "up")}
    shapes[f"{layer}.mlp.down_proj.weight"] = (D, F)
    for norm in ("input_layernorm", "post_attention_layernorm"):
      shapes[f"{layer}.{norm}.weight"] = (D,)
  return {name: draw.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


@pytest.fixture
def published(tmp_path, monkeypatch):
  """A folder of a small Llama with a tokenizer, in the working directory."""
  monkeypatch.chdir(tmp_path)
  folder = tmp_path / "published"
  folder.mkdir()
  save_file(tensors(), folder / "model.safetensors")
  (folder / "config.json").write_text(json.dumps(SETTINGS))
  (folder / "tokenizer.json").write_text("{}")
  (folder / "tokenizer_config.json").write_text('{"model_max_length": 77}')
  return folder


def run(*arguments):
  convert.main(["launch.convert", *arguments])


def all_tensors(folder):
  found = {}
  for file in folder.glob("*.safetensors"):
    found |= load_file(file)
  return found


def test_in_and_out(published, tmp_path, capsys):
  run("--from", "hf:published", "--to", "imported")
  printed = capsys.readouterr().out
  assert "Imported llama (LlamaForCausalLM): 2,008 parameters in 30 tensors, float32." in printed
  assert "--gin_file=imported/model.gin" in printed
  report = (tmp_path / "imported/conversion.txt").read_text()
  for name, array in tensors().items():
    (line,) = [line for line in report.splitlines() if line.startswith(f"{name} ")]
    assert "x".join(map(str, array.shape)) in line.split() and "float32" in line
  assert "decoder/layers/mlp/wi_1/kernel[2]" in report

  run("--from=imported", "--to=hf:back")
  found, wanted = all_tensors(tmp_path / "back"), tensors()
  assert found.keys() == wanted.keys()
  for name, array in wanted.items():
    assert found[name].tobytes() == array.tobytes(), name
  settings = json.loads((tmp_path / "back/config.json").read_text())
  assert settings == SETTINGS | {"torch_dtype": "float32"}
  for name in ("tokenizer.json", "tokenizer_config.json"):
    assert (tmp_path / "back" / name).read_text() == (published / name).read_text()


def test_shards_and_dtypes(published, tmp_path):
  run("--from=hf:published", "--to=imported", "--dtype=bfloat16")
  run("--from=imported", "--to=hf:back", "--max_shard_size=2KB", "--dtype=float16")
  files = sorted(path.name for path in (tmp_path / "back").glob("*.safetensors"))
  assert len(files) > 1 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
  assert json.loads((tmp_path / "back/config.json").read_text())["torch_dtype"] == "float16"
  found = all_tensors(tmp_path / "back")
  for name, array in tensors().items():
    assert found[name].dtype == np.float16
    np.testing.assert_allclose(found[name], array, rtol=2**-8, atol=1e-6)
  run("--from=hf:back", "--to=again")  # What is sharded is read as well.


def test_the_gin_file_is_complete(published, tmp_path):
  """It sets every field, whatever another model file set before it."""
  from launch.configuration.gin_values import GinValues
  from launch.conversion import model_gin
  from t5x_style.interop.huggingface import model_folder

  run("--from=hf:published", "--to=imported")
  config = model_gin.transformer_config(
    GinValues(["models/encoder_only_mini.gin", "imported/model.gin"])
  )
  assert config == model_folder.open_folder("published").correspondence.config


def test_numerics_are_left_to_the_run(published, tmp_path):
  """The gin file does not set them, nor FP8, which changes neither an import nor an export."""
  from launch.configuration.gin_values import GinValues
  from launch.conversion import model_gin
  from t5x_style.interop import checkpoint_formats
  from t5x_style.interop.huggingface import correspondence

  run("--from=hf:published", "--to=imported")
  numerics = ["FP8 = True", "DTYPE = 'bfloat16'", "SCAN_LAYERS = False", "REMAT = 'full'"]
  config = model_gin.transformer_config(GinValues(["imported/model.gin"], numerics))
  assert config.fp8 and config.dtype == "bfloat16" and config.remat == "full"
  shapes = {"/".join(keys): x.shape for keys, x in correspondence.abstract_params(config).items()}
  assert checkpoint_formats.READERS[0].read("hf:published", config, shapes).keys() == shapes.keys()
  bindings = [f"--gin_bindings={text}" for text in (*numerics[:2], numerics[3])]
  run("--from=imported", "--to=hf:back", *bindings)
  found, wanted = all_tensors(tmp_path / "back"), tensors()
  assert all(found[name].tobytes() == array.tobytes() for name, array in wanted.items())


@pytest.mark.parametrize(
  "rope",
  [
    {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    {"rope_type": "yarn", "beta_fast": 16.0, "attention_factor": 1.5},
  ],
)
def test_the_gin_file_of_scaled_positions(rope, published):
  from launch.configuration import reader
  from launch.configuration.gin_values import GinValues
  from launch.conversion import model_gin
  from t5x_style.interop.huggingface import model_folder
  from t5x_style.models import TransformerConfig

  rope = rope | {"factor": 8.0, "original_max_position_embeddings": 64}
  (published / "config.json").write_text(json.dumps(SETTINGS | {"rope_scaling": rope}))
  run("--from=hf:published", "--to=imported")
  wanted = model_folder.open_folder("published").correspondence.config
  assert wanted.rotary_scaling.original_length == 64
  assert model_gin.transformer_config(GinValues(["imported/model.gin"])) == wanted
  read = reader.read(["imported/model.gin"])
  assert read.build(TransformerConfig) == wanted
  assert read.macro("INITIAL_CHECKPOINT_PATH").endswith("/imported")


def test_what_is_left_out_is_reported(published, tmp_path, capsys):
  save_file(
    tensors() | {"model.rotary_emb.inv_freq": np.ones(2, np.float32)},
    published / "model.safetensors",
  )
  run("--from=hf:published", "--to=imported")
  assert "1 tensors of the file; the report says why" in capsys.readouterr().out
  line = (tmp_path / "imported/conversion.txt").read_text().splitlines()[-1]
  assert line.split(maxsplit=1) == [
    "model.rotary_emb.inv_freq",
    "left out: a buffer, not a parameter",
  ]


def test_a_dry_run_writes_nothing(published, tmp_path, capsys):
  before = sorted(tmp_path.rglob("*"))
  run("--from=hf:published", "--to=imported", "--dry_run")
  assert "model.layers.2.mlp.up_proj.weight" in capsys.readouterr().out
  assert sorted(tmp_path.rglob("*")) == before


def edit(**changes):
  return lambda folder: (folder / "config.json").write_text(json.dumps(SETTINGS | changes))


def alter(change):
  def apply(folder):
    arrays = tensors()
    change(arrays)
    save_file(arrays, folder / "model.safetensors")

  return apply


def three_wrong(arrays):
  del arrays["model.norm.weight"]
  arrays["model.layers.9.extra"] = np.zeros(3, np.float32)
  arrays["lm_head.weight"] = np.zeros((V + 1, D), np.float32)


def not_numbers(arrays):
  for i, array in enumerate(arrays.values()):
    array.flat[-1] = np.nan if i % 2 else np.inf


def integers(arrays):
  arrays["model.norm.weight"] = np.ones(D, np.int8)


def cut(folder):
  file = folder / "model.safetensors"
  file.write_bytes(file.read_bytes()[:-5])


def pointer(folder):
  text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
  (folder / "model.safetensors").write_text(text)


@pytest.mark.parametrize(
  ("damage", "messages"),
  [
    (
      alter(three_wrong),
      ["3 differ", "missing: model.norm.weight [8]", "left over: model.layers.9.extra [3]"]
      + ["lm_head.weight: [33, 8] in the file, [32, 8] by config.json"],
    ),
    (alter(integers), ["model.norm.weight: holds int8"]),
    (edit(tie_word_embeddings=True), ["lm_head.weight differs from model.embed_tokens.weight"]),
    (edit(hidden_act="mish"), ["hidden_act = 'mish'", "'silu'"]),
    (edit(architectures=["LlamaForFun"], num_hidden_layers=2), ["left over", "LlamaForFun"]),
    (edit(hidden_act=["silu"]), ["hidden_act = ['silu']"]),
    (edit(model_type="mamba"), ["model_type = 'mamba'", "'llama'"]),
    (edit(model_type=["llama"]), ["model_type = ['llama']"]),
    (edit(architectures="Llama"), ["architectures = 'Llama' has to be a list"]),
    (edit(num_hidden_layers="3"), ["published/config.json: num_hidden_layers = '3'"]),
    (edit(num_attention_heads=0), ["num_attention_heads = 0 has to be greater than 0"]),
    (edit(rms_norm_eps="1e-6"), ["rms_norm_eps = '1e-6' has to be a valid number"]),
    (edit(rope_scaling={"type": "longrope"}), ["rope_type = 'longrope'", "'llama3'"]),
    (
      edit(rope_scaling={"rope_type": "llama3"}),
      ["published/config.json says nothing about rope_scaling.factor"],
    ),
    (edit(rope_scaling=["yarn"]), ["rope_scaling = ['yarn'] has to be a valid dictionary"]),
    (edit(quantization_config={"bits": 4}), ["quantization_config = {'bits': 4}", "dequantize()"]),
    (
      alter(not_numbers),
      ["NaN or infinite", ": model.embed_tokens.weight, model.", ".weight, ... and 18 more"],
    ),
    (edit(num_hidden_layers=300), ["\n  ... and 2,661 more"]),
    (pointer, ["only a pointer of Git LFS"]),
    (cut, ["model.safetensors' is not a whole safetensors file"]),
    (lambda folder: (folder / "model.safetensors").unlink(), ["holds neither"]),
  ],
)
def test_one_clear_error_and_nothing_half_written(published, tmp_path, damage, messages):
  damage(published)
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(ConfigurationError) as raised:
    run("--from=hf:published", "--to=imported")
  for message in messages:
    assert message in str(raised.value)
  assert sorted(tmp_path.rglob("*")) == before


def test_nothing_half_written_when_it_stops_in_the_middle(published, tmp_path, monkeypatch):
  from t5x_style.checkpoints import array_writer

  def stop(self):
    raise KeyboardInterrupt

  monkeypatch.setattr(array_writer.ArrayWriter, "close", stop)
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(KeyboardInterrupt):
    run("--from=hf:published", "--to=imported")
  assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "--from is not given"),
    (["--from=hf:published"], "--to is not given"),
    (["--from=published", "--to=imported"], "one of the two has to be hf:FOLDER"),
    (["--from=hf:published", "--to=hf:imported"], "one of the two has to be hf:FOLDER"),
    (["--from=hf:published", "--to=x", "--push_to_hub=me/x"], "pushes what an export writes"),
    (["--from=x", "--to=hf:y", "--push_to_hub=mine"], "is no name of a repository"),
    (["--from=hf:published", "--to=published"], "--to published exists and is not empty"),
    (["--from=hf:published", "--to=."], "--to .: give the name of a new folder"),
    (
      ["--from=hf:published", "--to=published/config.json/x"],
      "x cannot be created: Not a directory",
    ),
    (["--from=hf:nowhere", "--to=imported"], "'nowhere' does not exist"),
    (["--from=hf:published/config.json", "--to=imported"], "is a file"),
    (["--from=nowhere", "--to=hf:x"], "--from nowhere does not exist"),
    (["--from=published", "--to=hf:x"], "is a Hugging Face folder; write --from hf:published"),
    (["--from=.", "--to=hf:x"], "--from . holds no complete checkpoint"),
    (["--from=published", "--to=hf:x", "--max_shard_size=5"], "write it as 500MB or 5GB"),
    (["--from=hf:published", "--to=imported", "--dtype=int8"], "dtype"),
  ],
)
def test_mistakes(published, arguments, message):
  with pytest.raises(ConfigurationError) as raised:
    run(*arguments)
  assert message in str(raised.value)


def test_a_checkpoint_of_another_model_is_refused(published, tmp_path):
  run("--from=hf:published", "--to=imported")
  before = sorted(tmp_path.rglob("*"))
  with pytest.raises(ConfigurationError) as raised:
    run("--from=imported", "--to=hf:x", "--gin_bindings=config.TransformerConfig.emb_dim = 6")
  assert "token_embed/embedding: saved (32, 8), by the configuration (32, 6)" in str(raised.value)
  assert sorted(tmp_path.rglob("*")) == before


def test_neither_tensorflow_nor_torch_is_needed(published):
  program = """
import sys
from launch import convert
convert.main(["launch.convert", "--from=hf:published", "--to=imported"])
convert.main(["launch.convert", "--from=imported", "--to=hf:back"])
found = {"tensorflow", "seqio", "torch", "transformers", "safetensors"} & set(sys.modules)
assert not found, found
"""
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
  )
  assert done.returncode == 0, done.stderr[-800:]


def test_the_help_page_has_examples(capsys):
  with pytest.raises(SystemExit):
    run("--help")
  page = capsys.readouterr().out
  assert "--from hf:bert-base-uncased --to imported" in page and "--max_shard_size" in page
