"""launch.where as a command, where TensorFlow cannot be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from t5x_style.codecs.byte_codec import ByteCodec
from tests import token_caches

ROOT = Path(__file__).parents[2]
# Starts a command in a process that has no TensorFlow and no SeqIO.
BLOCKED = """
import runpy, sys
for name in ("tensorflow", "tensorflow_text", "seqio", "tensorflow_datasets"):
  sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
TEXTS = [f"text number {i}: " + "abc " * (5 + 7 * i) for i in range(12)]


def run(module, *arguments, cwd):
  return subprocess.run(
    [sys.executable, "-c", BLOCKED, f"launch.{module}", *arguments],
    cwd=cwd,
    capture_output=True,
    text=True,
    timeout=240,
    env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
  )


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
  folder = tmp_path_factory.mktemp("where") / "cache"
  codec = ByteCodec(125)
  documents = [np.array(codec.encode(text), np.int32) for text in TEXTS]
  token_caches.make(folder, {"train": documents[:10], "validation": documents[10:]}, codec=codec)
  return folder


SETTINGS = (
  "--gin_file=quickstart.gin",
  "--gin_file=data/token_cache.gin",
  "--gin.VOCAB_SIZE=384",
  "--gin.TASK_FEATURE_LENGTHS={'inputs': 48}",
)


def test_where_names_the_text_and_shows_what_was_fed(cache):
  arguments = (*SETTINGS, f"--gin.CACHE_DIR='{cache}'", "--step=3", "--rows=4:6", "--json")
  done = run("where", *arguments, cwd=cache.parent)
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)
  assert (found["step"], [row["row"] for row in found["rows"]]) == (3, [4, 5])
  codec = ByteCodec(125)
  for row in found["rows"]:
    assert row["number"] == 2 * 32 + row["row"]
    text = ""
    for part in row["parts"]:
      # tests/token_caches.py: document i is line i // 2 + 1 of one of two files.
      assert part["file"] == ("a.txt", "b.txt")[part["document"] % 2]
      assert part["line"] == part["document"] // 2 + 1
      text += TEXTS[part["document"]][part["start"] : part["end"]]
    (shown,) = row["texts"]
    assert codec.decode_visible(shown["tokens"]).replace("</s>", "") == text
    hidden = [i for i, gone in zip(shown["tokens"], shown["hidden"], strict=True) if gone]
    assert hidden == [i for i in row["targets"][:-1] if i < 259]
    kept = [i for i, gone in zip(shown["tokens"], shown["hidden"], strict=True) if not gone]
    assert kept == [i for i in row["inputs"][:-1] if i < 259]


def test_in_words(cache, monkeypatch, capsys):
  from launch import where

  monkeypatch.chdir(cache.parent)
  where.main(["where", *SETTINGS, f"--gin.CACHE_DIR='{cache}'", "--step=1", "--row=0"])
  text = capsys.readouterr().out
  assert "step 1, row 0: row 0 of the run" in text
  assert "epoch 1, unit " in text and "txt, line " in text and "<extra_id_0>" in text


def test_a_stage_reads_its_data_from_the_start_in_an_order_of_its_own(cache, monkeypatch, capsys):
  """Step 5 is the first one of the second stage, whose batches have eight rows."""
  from launch import where

  monkeypatch.chdir(cache.parent)
  stages = "--gin.STAGES={'later': {'after_steps': 4, 'BATCH_SIZE': 8}}"
  arguments = (*SETTINGS, f"--gin.CACHE_DIR='{cache}'", "--rows=0:8", "--json")

  def origins(*more):
    where.main(["where", *arguments, *more])
    rows = json.loads(capsys.readouterr().out)["rows"]
    return [(row["number"], row["unit"]) for row in rows]

  first = origins("--step=1", stages)
  assert first == origins("--step=1")
  later = origins("--step=5", stages)
  assert [number for number, _ in later] == list(range(8))
  assert [unit for _, unit in later] != [unit for _, unit in first]
  assert [number for number, _ in origins("--step=6", stages)] == list(range(8, 16))


def test_flags_replace_what_a_stage_of_a_model_dir_sets(cache, tmp_path, monkeypatch, capsys):
  from launch import where

  monkeypatch.chdir(tmp_path)
  (tmp_path / "config.gin").write_text(
    'include "quickstart.gin"\ninclude "data/token_cache.gin"\nCACHE_DIR = "/moved"\n'
    "VOCAB_SIZE = 384\nTASK_FEATURE_LENGTHS = {'inputs': 48}\nBATCH_SIZE = 32\n"
    'STAGES = {"later": {"after_steps": 4, "BATCH_SIZE": 8, "CACHE_DIR": "/moved/too"}}\n'
  )
  flags = (f"--gin.CACHE_DIR='{cache}'", "--step=5", "--rows=0:8", "--json")
  where.main(["where", str(tmp_path), *flags])
  rows = json.loads(capsys.readouterr().out)["rows"]
  assert [row["number"] for row in rows] == list(range(8))


@pytest.mark.parametrize(
  "arguments, message",
  [
    (("--step=1",), "--step and one of --row and --rows"),
    (("--step=1", "--row=32"), "Row 32 is not in a batch of BATCH_SIZE = 32"),
    (("--step=1601", "--row=0"), "TRAIN_STEPS = 1600"),
    (("--step=1", "--rows=3"), "--rows=0:8"),
    (("--step=1", "--row=0", "nowhere"), "nowhere has no config.gin"),
    (("--step=1", "--row=0", "--gin_file=data/python_stdlib.gin"), "as a stream"),
  ],
)
def test_mistakes(cache, monkeypatch, arguments, message):
  from launch import where
  from launch.process.errors import ConfigurationError

  monkeypatch.chdir(cache.parent)
  with pytest.raises(ConfigurationError, match=message):
    where.main(["where", *SETTINGS, f"--gin.CACHE_DIR='{cache}'", *arguments])


@pytest.mark.slow
def test_a_run_on_a_cache_needs_no_tensorflow(cache, tmp_path):
  """It trains, evaluates, resumes and stores its vocabulary, and `where` finds its rows."""
  arguments = [*SETTINGS, f"--gin.CACHE_DIR='{cache}'", f"--gin.MODEL_DIR='{tmp_path / 'run'}'"]
  small = ("BATCH_SIZE=4", "EVAL_PERIOD=2", "SAVE_PERIOD=2", "LOG_PERIOD=1", "EVAL_BATCHES=1")
  arguments += [f"--gin.{setting}" for setting in small]
  first = run("train", *arguments, "--gin.TRAIN_STEPS=4", cwd=tmp_path)
  assert first.returncode == 0, first.stderr
  assert (tmp_path / "run" / "vocabulary" / "vocabulary.json").exists()
  again = run("train", *arguments, "--gin.TRAIN_STEPS=6", cwd=tmp_path)
  assert again.returncode == 0, again.stderr
  whole = run(
    "train",
    *arguments,
    "--gin.TRAIN_STEPS=6",
    f"--gin.MODEL_DIR='{tmp_path / 'whole'}'",
    cwd=tmp_path,
  )
  assert whole.returncode == 0, whole.stderr

  def losses(name):
    lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
    return [(r["step"], r["split"], r["loss"]) for r in map(json.loads, lines)]

  # The schedule depends on TRAIN_STEPS from step 5 on; the first four steps are those of the other.
  assert losses("run")[:6] == losses("whole")[:6]
  place = json.loads((tmp_path / "run/checkpoints/6/data/stream_00000").read_bytes())
  assert place["batch"] == 6
  found = run("where", str(tmp_path / "run"), "--step=2", "--row=1", cwd=tmp_path)
  assert found.returncode == 0 and "txt, line" in found.stdout, found.stderr


@pytest.mark.slow
def test_a_damaged_cache_is_a_mistake_of_the_user(cache, tmp_path):
  copy = tmp_path / "copy"
  copy.mkdir()
  for file in cache.rglob("*"):
    if file.is_file() and not file.name.startswith("train-00001"):
      place = copy / file.relative_to(cache)
      place.parent.mkdir(parents=True, exist_ok=True)
      place.write_bytes(file.read_bytes())
  done = run("train", *SETTINGS, f"--gin.CACHE_DIR='{copy}'", "--dry_run", cwd=tmp_path)
  assert done.returncode == 2, done.stderr
  assert "train-00001" in done.stderr and "Traceback" not in done.stderr


RECORDED = """
from __gin__ import dynamic_registration
from t5x_style.data import loader
from t5x_style.training import train_config
from tests import recorded_batches
from tests.soak import harmful_batches

train_config.TrainConfig.dataset = @recorded_batches.load
recorded_batches.load.dataset = @harmful_batches.load
harmful_batches.load:
  dataset = @loader.load
  harm = "nan"
  first = 5
"""


@pytest.mark.slow
def test_rows_after_a_rollback_are_those_that_were_fed(cache, tmp_path, monkeypatch, capsys):
  from launch import where

  records = tmp_path / "records"
  records.mkdir()
  file = tmp_path / "recorded.gin"
  file.write_text(f"{RECORDED}recorded_batches.load.folder = {str(records)!r}\n")
  arguments = [*SETTINGS, f"--gin_file={file}", f"--gin.CACHE_DIR='{cache}'"]
  small = ("BATCH_SIZE=4", "EVAL_PERIOD=100", "SAVE_PERIOD=2", "LOG_PERIOD=1", "EVAL_BATCHES=1")
  settings = (*small, "ROLL_BACK=True", "MAX_SKIPPED_STEPS=1", "TRAIN_STEPS=8")
  arguments += [f"--gin.{setting}" for setting in settings]
  done = run("train", *arguments, f"--gin.MODEL_DIR='{tmp_path / 'run'}'", cwd=tmp_path)
  assert done.returncode == 0 and "rolled back" in done.stdout.lower(), done.stdout + done.stderr
  # The steps after that of the checkpoint, the last of the run, took the last batches.
  files = dict(zip((8, 7, 6, 5), sorted(records.iterdir(), reverse=True), strict=False))
  assert int(files[5].name[:6]) > 5
  monkeypatch.chdir(tmp_path)
  for step, record in files.items():
    where.main(["where", str(tmp_path / "run"), f"--step={step}", "--rows=0:4", "--json"])
    found = json.loads(capsys.readouterr().out)
    targets = [[i for i in row if i] for row in np.load(record).tolist()]
    assert [row["targets"] for row in found["rows"]] == targets
    assert "batches before this one were left out" in found["note"]
