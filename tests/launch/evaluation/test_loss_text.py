"""launch.eval loss on real text: figures of every kind of objective, other texts, vocabularies."""

import bz2
import json
import math
from pathlib import Path

import numpy as np
import pytest

from launch.caching import small
from launch.process.errors import ConfigurationError
from t5x_style.checkpoints.arrays import orbax_arrays
from t5x_style.data.tokenizers import vocabularies
from t5x_style.data.tokenizers.base import codec_of
from t5x_style.models import Transformer, TransformerConfig
from t5x_style.shipped_vocabulary import VOCABULARY_FOLDER
from t5x_style.token_cache.shard_writer import Stored
from tests import tiny

# Settings of a run on pieces of text instead of bytes.
WITH_PIECES = (
  "VOCABULARY = @vocabularies.sentencepiece()",
  "VOCAB_SIZE = 8320",
  "EXTRA_IDS = 128",
)


def log_probabilities(model_dir, rows):
  """Log-probabilities of byte tokens under the last step, by softmax: int [B, L] -> [B, L]."""
  config = TransformerConfig(
    vocab_size=384,
    emb_dim=32,
    num_heads=2,
    head_dim=16,
    mlp_dim=64,
    num_decoder_layers=3,
    mlp_activations=("silu", "linear"),
    norm="rms",
    positions="rotary",
    tie_embeddings=True,
    scan_layers=False,
  )
  params = {}
  for name, array in orbax_arrays(model_dir / "checkpoints/4/state", "params").items():
    *above, leaf = name.split("/")
    place = params
    for key in above:
      place = place.setdefault(key, {})
    place[leaf] = array.read()
  inputs = np.pad(rows, [(0, 0), (1, 0)])[:, :-1]
  out = Transformer(config).apply({"params": params}, {"decoder_input_tokens": inputs})
  logits = np.asarray(out.hidden @ out.kernel, np.float64)
  logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
  return np.take_along_axis(logits, rows[..., None], axis=-1)[..., 0]


def test_a_file_of_text_has_the_likelihood_of_its_bytes(causal_run, run, tmp_path):
  text = ("Größe: 3 µm, the quick brown fox.\n" * 9).encode()[: 8 * 32 - 1]
  (tmp_path / "text.txt").write_bytes(text)
  code, found = run("loss", causal_run, f"--text={tmp_path / 'text.txt'}", "--json")
  (record,) = found["steps"]
  windows = np.array([*(byte + 3 for byte in text), 1]).reshape(8, 32)
  nats = -log_probabilities(causal_run, windows).sum()
  assert (code, record["tokens"], record["bytes"]) == (0, 256, 255)
  assert record["loss"] == pytest.approx(nats / 256, rel=1e-5)
  assert record["bits_per_byte"] == pytest.approx(nats / math.log(2) / 255, rel=1e-5)
  assert (record["method"], record["comparable"]) == ("exact", True)
  assert found["compressors"]["bits_per_byte"]["bz2"] == 8 * len(bz2.compress(text)) / 255
  assert found["compressors"]["bytes_before"] == 0


def test_a_run_on_a_token_cache_is_measured_on_a_file(causal_run, run, tmp_path):
  """The file becomes one document, whose windows are cut from a circle, at a place drawn."""
  specials = ("[CLS]", "[SEP]", "[MASK]", "[PRE]", "[MID]", "[SUF]", "[R]", "[S]", "[X]")
  vocabulary = vocabularies.byte_vocabulary(125, specials)
  cache = {"train": [Stored(np.arange(3, 200), None, 0, 0)]}
  identity = vocabularies.identity(vocabulary)
  small.write(tmp_path / "cache", cache, codec_of(vocabulary), name="other", identity=identity)
  text = ("Größe: 3 µm, the quick brown fox.\n" * 9).encode()[: 8 * 32 - 1]
  (tmp_path / "text.txt").write_bytes(text)
  arguments = ("--gin_file=data/token_cache.gin", f"--gin.CACHE_DIR='{tmp_path / 'cache'}'")
  arguments += ("--gin.CROSS_DOCUMENTS=True", f"--text={tmp_path / 'text.txt'}", "--json")
  code, found = run("loss", causal_run, *arguments)
  (record,) = found["steps"]
  stream = np.array([*(byte + 3 for byte in text), 1])
  windows = np.concatenate([np.roll(stream, -cut).reshape(8, 32) for cut in range(256)])
  nats = -log_probabilities(causal_run, windows).reshape(256, 256).mean(1)
  assert code == 0 and record["tokens"] == 256
  assert np.abs(nats - record["loss"]).min() < 1e-5 < nats.std()
  assert found["compressors"]["bits_per_byte"]["bz2"] == 8 * len(bz2.compress(text)) / 255


@pytest.mark.slow
def test_steps_have_the_figures_that_training_wrote(causal_run, run, texts):
  _, found = run("loss", causal_run, "--all_steps", "--json")
  for record, written in zip(found["steps"], tiny.records(causal_run, "validation"), strict=True):
    assert record["step"] == written["step"]
    for name in ("loss", "accuracy", "bits_per_byte"):
      assert record[name] == pytest.approx(written[name], rel=1e-6)
  held_out = (texts / "validation.txt").read_bytes()
  train = b"".join((texts / f"train-{i}.txt").read_bytes() for i in range(8))
  both = len(bz2.compress(train + held_out)) - len(bz2.compress(train))
  assert found["compressors"]["bits_per_byte"]["bz2"] == 8 * both / len(held_out)
  _, all_of_it = run("loss", causal_run, "--all_batches", "--json")
  assert all_of_it["steps"][0]["bytes"] == len(held_out) and all_of_it["batches"] > 3


@pytest.mark.slow
def test_another_corpus_keeps_the_vocabulary_of_the_run(causal_run, run, texts):
  """data/text_files.gin includes the shipped vocabulary, which the run was not trained with."""
  _, before = run("loss", causal_run, "--json")
  corpus = (
    "--gin_file=data/text_files.gin",
    f"--gin.CORPUS_FILES='{texts}/*.txt'",
    f"--gin.VALIDATION_FILES='{texts}/validation.txt'",
  )
  assert run("loss", causal_run, *corpus, "--json")[1]["steps"] == before["steps"]
  other = f"--gin.VALIDATION_FILES='{texts}/train-3.txt'"
  assert run("loss", causal_run, *corpus, other, "--json")[1]["steps"] != before["steps"]


@pytest.mark.slow
def test_a_copied_run_reads_the_vocabulary_that_it_kept(train_on_text, run, texts, tmp_path):
  """Its config.gin names a file of another machine."""
  own = tmp_path / "own.model"
  own.write_bytes((VOCABULARY_FOLDER / "python_stdlib.model").read_bytes())
  folder = train_on_text("decoder_only", "prefix_lm", *WITH_PIECES, f"VOCABULARY_FILE = '{own}'")
  _, before = run("loss", folder, "--json")
  (folder / "vocabulary").mkdir(exist_ok=True)
  own.rename(folder / "vocabulary" / "vocabulary.model")
  _, after = run("loss", folder, "--json")
  assert after["steps"] == before["steps"] and before["steps"][0]["bits_per_byte"] > 0
  corpus = ("--gin_file=data/text_files.gin", f"--gin.CORPUS_FILES='{texts}/train*.txt'")
  other = run("loss", folder, *corpus, f"--gin.VALIDATION_FILES='{texts}/validation.txt'", "--json")
  assert other[1]["steps"] == before["steps"]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--gin.EXTRA_IDS=100"], "(?s)is not the one that the run.*extra_ids: there 116, here 91"),
    (["--gin.VALIDATION_FRACTION=0", "--gin.VALIDATION_FILES=None"], "the split 'validation' of"),
    (["--gin_file=objectives/masked_lm.gin"], "'masked_lm' feeds encoder_only models"),
    (["--gin.CORPUS_FILES=/absent/*.txt"], "/absent/"),
  ],
)
def test_mistakes(arguments, message, causal_run, run):
  with pytest.raises(ConfigurationError, match=message):
    run("loss", causal_run, *arguments)


KINDS = {
  "prefix_lm": ("decoder_only", "exact on the suffix", True),
  "fill_in_middle": ("decoder_only", "bound", True),
  "masked_diffusion": ("encoder_only", "bound", True),
  "masked_lm": ("encoder_only", "pseudo-likelihood", False),
  "sentence_order": ("encoder_only", "pseudo-likelihood", False),
  "span_corruption": ("encoder_decoder", "conditional", False),
}


@pytest.mark.slow
@pytest.mark.parametrize("objective", KINDS)
def test_every_objective_has_its_kind_of_bits_per_byte(objective, train_on_text, run):
  architecture, method, comparable = KINDS[objective]
  folder = train_on_text(architecture, objective)
  _, found = run("loss", folder, "--all_steps", "--json")
  for record, written in zip(found["steps"], tiny.records(folder, "validation"), strict=True):
    assert (record["method"], record["comparable"]) == (method, comparable)
    names = [name for name in written if name in record and name != "step"]
    assert {"loss", "accuracy"} <= set(names)
    assert ("bits_per_byte" in written) == comparable
    assert ("pair_accuracy" in names) == (objective == "sentence_order")
    for name in names:
      assert record[name] == pytest.approx(written[name], rel=1e-6)
    # A byte is a token: only tokens without a byte, such as EOS, are between the two figures.
    assert record["bits_per_byte"] > record["loss"] / math.log(2) * 0.999
    # A model that has learnt next to nothing is near log2 of the vocabulary.
    assert 4 < record["bits_per_byte"] < 20
  assert (found["compressors"] is not None) == comparable


@pytest.mark.slow
def test_parts_of_ul2_are_each_of_their_kind(train_on_text, run):
  folder = train_on_text("encoder_decoder", "ul2")
  code, found = run("loss", folder, "--json")
  (record,), written = found["steps"], tiny.records(folder, "validation")[-1]
  assert code == 0 and "bits_per_byte" not in record
  assert record["loss"] == pytest.approx(written["loss"], rel=1e-6)
  kinds = {name: part["method"] for name, part in record["parts"].items()}
  assert kinds.pop("S") == "exact on the suffix" and set(kinds.values()) == {"conditional"}
  for name, part in record["parts"].items():
    assert part["loss"] == pytest.approx(written[f"loss/{name}"], rel=1e-6)
    assert 0 <= part["accuracy"] <= 1 and part["bytes"] <= part["tokens"]
  sums = [part["loss"] * part["tokens"] for part in record["parts"].values()]
  assert sum(sums) == pytest.approx(record["loss"] * record["tokens"], rel=1e-5)
  _, shown = run("loss", folder)
  assert shown.index("exact on the suffix") < shown.index("conditional")


@pytest.mark.slow
def test_on_a_mesh_as_on_one_device(causal_run, run, on_eight_devices):
  (alone,) = run("loss", causal_run, "--json")[1]["steps"]
  program = Path(__file__).with_name("loss_program.py")
  mesh = '--gin.MESH_SHAPE={"data": 2, "fsdp": 2, "tensor": 2}'
  lines = on_eight_devices(program, "loss", causal_run, mesh, "--json")
  (record,) = json.loads(lines[-1])["steps"]
  assert record["loss"] == pytest.approx(alone["loss"], rel=1e-5)
  assert record["bits_per_byte"] == pytest.approx(alone["bits_per_byte"], rel=1e-5)
