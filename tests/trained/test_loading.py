"""t5x_style.load: from every kind of folder, onto other meshes, with clear errors."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

import t5x_style
from launch import checkpoint
from t5x_style.checkpoints import reading
from t5x_style.checkpoints.arrays import orbax_arrays
from t5x_style.codecs import vocabulary_folder
from t5x_style.data.tokenizers import huggingface_tokenizers, vocabularies
from t5x_style.data.tokenizers.base import codec_of
from t5x_style.errors import UserError
from t5x_style.trained import checkpoint_folders, loading, run_vocabularies
from t5x_style.training.state import named_leaves
from tests.checkpoints import damages
from tests.trained import conftest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(finished_run, tmp_path):
  """A copy of the decoder-only run that a test may change."""
  return Path(shutil.copytree(finished_run("decoder_only"), tmp_path / "copied run"))


def stored(model_dir, step):
  """Returns the parameters of a step with its scanned layers taken apart, as load does it."""
  found = {}
  arrays = orbax_arrays(epath.Path(model_dir) / "checkpoints" / str(step) / "state", "params")
  for name, stored_array in arrays.items():
    array = stored_array.read()
    if "/layers/" in name:
      found |= {name.replace("/layers/", f"/layers_{i}/"): x for i, x in enumerate(array)}
    else:
      found[name] = array
  return found


def assert_holds(model, arrays):
  found = named_leaves(model.params)
  assert found.keys() == arrays.keys()
  for name, array in arrays.items():
    np.testing.assert_array_equal(np.asarray(found[name], np.float32), array.astype(np.float32))


def test_a_relative_path(copy, monkeypatch):
  monkeypatch.chdir(copy.parent)
  for path in (copy.name, f"{copy.name}/checkpoints/4", f"./{copy.name}/best"):
    assert t5x_style.load(path).step == 4


@pytest.mark.parametrize(
  "architecture",
  [
    "decoder_only",
    *(pytest.param(x, marks=pytest.mark.slow) for x in ("encoder_decoder", "encoder_only")),
  ],
)
def test_a_model_dir(finished_run, architecture):
  folder = finished_run(architecture)
  model = t5x_style.load(folder)
  assert model.config.architecture == architecture and model.step == 4
  assert_holds(model, stored(folder, 4))
  assert model.codec.decode(model.codec.encode("a b")) == "a b"
  names = {
    "decoder_only": "causal_lm",
    "encoder_decoder": "span_corruption",
    "encoder_only": "masked_lm",
  }
  (objective,) = model.objectives
  assert objective["objective"] == names[architecture] and objective["rate"] == 1
  feature = "targets" if architecture == "decoder_only" else "inputs"
  assert model.row_lengths[feature] == 16
  sides = ("encoder", "decoder")
  layers = {side: getattr(model.config, f"num_{side}_layers") for side in sides}
  batch = {f"{side}_input_tokens": jnp.ones((1, 4), jnp.int32) for side in sides if layers[side]}
  with model.partitioner.context():
    assert jnp.isfinite(model.model.apply({"params": model.params}, batch).logits()).all()


def test_other_steps_and_folders(finished_run):
  folder = finished_run("decoder_only")
  for path, step, wanted in (
    (folder, 2, 2),
    (folder / "checkpoints", None, 4),
    (folder / "checkpoints/2", None, 2),
    (epath.Path(folder), 4, 4),
    (str(folder), None, 4),
  ):
    model = t5x_style.load(path, step=step)
    assert model.step == wanted
    assert_holds(model, stored(folder, wanted))
  with pytest.raises(UserError, match=r"step=3: .* has no complete checkpoint .* it has 4, 2\."):
    t5x_style.load(folder, step=3)
  with pytest.raises(UserError, match="is one checkpoint; give its MODEL_DIR"):
    t5x_style.load(folder / "checkpoints/2", step=4)


def test_the_dtype(finished_run):
  folder = finished_run("decoder_only")
  model = t5x_style.load(folder, dtype="bfloat16")
  assert model.config.dtype == model.config.param_dtype == "bfloat16"
  assert {x.dtype.name for x in jax.tree.leaves(model.params)} == {"bfloat16"}
  wanted = {name: x.astype(jnp.bfloat16) for name, x in stored(folder, 4).items()}
  assert_holds(model, wanted)
  with pytest.raises(UserError, match="dtype='int8' is not supported; write 'float32' or"):
    t5x_style.load(folder, dtype="int8")


def test_damaged_steps(copy):
  (copy / "checkpoints/6.orbax-checkpoint-tmp/state").mkdir(parents=True)
  damages.change_a_number(copy / "checkpoints/4")
  before = sorted(copy.rglob("*"))
  with pytest.warns(UserWarning, match="step 2 is used, as newer checkpoints are damaged:\n  4: "):
    assert t5x_style.load(copy).step == 2
  with pytest.raises(UserError, match="is damaged:\n  4: .*\nGive another step"):
    t5x_style.load(copy, step=4)
  assert sorted(copy.rglob("*")) == before
  with pytest.raises(UserError, match="interrupted"):
    t5x_style.load(copy / "checkpoints/6.orbax-checkpoint-tmp")


@pytest.mark.slow
def test_other_meshes(finished_run, on_eight_devices, tmp_path):
  """Saved on one device and loaded on eight, and the other way round."""
  folder = finished_run("decoder_only")
  program = str(Path(__file__).parent / "sharded_loading_program.py")
  (line,) = on_eight_devices(program, str(folder), str(tmp_path))
  total = np.abs(stored(folder, 4)["token_embed/embedding"]).sum()
  assert line.startswith("(4100, 16) ") and float(line.split()[-1]) == pytest.approx(total)
  with pytest.raises(UserError, match="was trained on data without a vocabulary"):
    t5x_style.load(tmp_path)
  abstract = checkpoint_folders.abstract_params(
    checkpoint_folders.facts(epath.Path(tmp_path) / "checkpoints/2").config,
    loading._partitioner(None),
  )
  params = reading.read_params(epath.Path(tmp_path) / "checkpoints/2", abstract)
  assert all(len(x.sharding.device_set) == 1 for x in jax.tree.leaves(params))


def test_an_average(copy, tmp_path):
  target = tmp_path / "averaged"
  checkpoint.main(["launch.checkpoint", "average", str(copy), "--last=2", f"--to={target}"])
  shutil.rmtree(copy)
  model = t5x_style.load(target)
  assert model.step is None and model.codec.decode(model.codec.encode("a b")) == "a b"
  assert model.objectives[0]["objective"] == "causal_lm"


def test_no_model_there(tmp_path):
  (tmp_path / "empty").mkdir()
  (tmp_path / "file").write_text("")
  (tmp_path / "hf").mkdir()
  (tmp_path / "hf/config.json").write_text("{}")
  for name, message in (
    ("none", "'.*none' does not exist; give the MODEL_DIR of a run"),
    ("file", "is a file; give the MODEL_DIR"),
    ("empty", "holds no checkpoint; give a MODEL_DIR"),
    ("hf", "is a Hugging Face folder; write 'hf:"),
  ):
    with pytest.raises(UserError, match=message):
      t5x_style.load(tmp_path / name)
  with pytest.raises(UserError, match="neither a local path nor gs://"):
    t5x_style.load("s3://bucket/folder")


def test_a_model_dir_from_before_there_was_the_folder_vocabulary(copy):
  """The shipped vocabulary is known by its SHA-256."""
  wanted = codec_of(conftest.VOCABULARIES["decoder_only"]())
  shutil.rmtree(copy / "vocabulary")
  codec = t5x_style.load(copy).codec
  assert codec.encode("a [A] <extra_id_0> b") == wanted.encode("a [A] <extra_id_0> b")
  assert codec.special_id("[A]") == wanted.special_id("[A]") == 8192
  assert codec.sentinel_ids.tolist() == [*range(8199, 8192, -1)]


@pytest.mark.slow
def test_bytes_need_no_folder(finished_run, tmp_path):
  folder = shutil.copytree(finished_run("encoder_only"), tmp_path / "run")
  shutil.rmtree(folder / "vocabulary")
  codec = t5x_style.load(folder).codec
  assert codec.special_id("[MASK]") == 261 and codec.sentinel_ids[0] == 279


def test_a_vocabulary_that_is_given(copy, tmp_path, monkeypatch):
  shipped = Path(vocabularies.sentencepiece().sentencepiece_model_file)
  wanted = t5x_style.load(copy).codec.encode("the fox")
  shutil.move(copy / "vocabulary", tmp_path / "vocabulary")
  monkeypatch.setattr(run_vocabularies, "VOCABULARY_FOLDER", tmp_path)
  with pytest.raises(
    UserError, match=r"'python_stdlib\.model', and .* no folder .*vocabulary=FILE"
  ):
    t5x_style.load(copy)
  for given in (shipped, tmp_path / "vocabulary"):
    assert t5x_style.load(copy, vocabulary=str(given)).codec.encode("the fox") == wanted
  other = tmp_path / "other.model"
  other.write_bytes(shipped.read_bytes().replace(b"quick", b"qiuck", 1))
  with pytest.raises(
    UserError, match="is not the one that the model was trained with: that one is"
  ):
    t5x_style.load(copy, vocabulary=str(other))
  with pytest.raises(UserError, match="does not exist"):
    t5x_style.load(copy, vocabulary=str(tmp_path / "none"))
  with pytest.raises(UserError, match="holds neither vocabulary.json nor tokenizer.json"):
    t5x_style.load(copy, vocabulary=str(tmp_path))
  bytes_ = vocabularies.byte_vocabulary(3)
  vocabulary_folder.write(
    epath.Path(copy) / "vocabulary", codec_of(bytes_), vocabularies.identity(bytes_)
  )
  with pytest.raises(UserError, match="is not the one .* extra_ids is 3, not 7"):
    t5x_style.load(copy)


def test_the_vocab_txt_of_a_run(tmp_path):
  """Its folder gives the same ids, and so does the file, with and without lower case."""
  pytest.importorskip("tokenizers")
  pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "the", "fox"]
  file = tmp_path / "vocab.txt"
  file.write_text("\n".join(pieces))
  for lower_case, wanted in ((None, [5, 7]), (True, [6, 7])):
    vocabulary = huggingface_tokenizers.hf_tokenizer(str(file), lower_case=lower_case)
    assert vocabulary.encode("The fox") == wanted
    identity = vocabularies.identity(vocabulary)
    folder = epath.Path(tmp_path / f"run {lower_case}")
    vocabulary_folder.write(folder / "vocabulary", codec_of(vocabulary), identity)
    identity = json.loads(json.dumps(identity))
    for given in (None, str(file), str(tmp_path)):
      assert run_vocabularies.find([folder], given, identity).encode("The fox") == wanted
  file.write_text("\n".join([*pieces, "more"]))
  with pytest.raises(UserError, match="is not the one that the model was trained with"):
    run_vocabularies.find([folder], str(file), identity)


def test_nothing_of_the_data_or_gin_is_imported(finished_run):
  program = f"""
import sys
import t5x_style
assert "jax" not in sys.modules
model = t5x_style.load({str(finished_run("decoder_only"))!r})
print(model)
assert not {{"tensorflow", "seqio", "gin"}} & set(sys.modules)
"""
  done = subprocess.run(
    [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=200
  )
  assert done.returncode == 0, done.stderr[-2000:]
  assert "decoder_only, python_stdlib.model" in done.stdout
