"""A comparison of real runs on text in another language, killed in the middle and resumed."""

import csv
import json
import random
import signal
import subprocess
import sys
import time

import pytest

# Finnish: long words, and letters beyond ASCII.
WORDS = (
  "järvi metsä talvi kesä yö päivä äiti isä lapsi koira kissa talo katu kaupunki kylä meri saari "
  "laiva vene silta tie auto juna kirja sana kieli laulu tanssi leipä vesi maito kala omena pöytä "
  "tuoli ikkuna ovi puu kivi lumi jää sade tuuli aurinko kuu tähti"
).split()
VERBS = "näkee kuulee löytää hakee antaa ottaa vie tuo pitää jättää".split()


def document(draw):
  """Sentences that a model can learn: subject, verb, object."""
  picked = lambda: " ".join((draw.choice(WORDS), draw.choice(VERBS), draw.choice(WORDS)))
  return ". ".join(picked().capitalize() for _ in range(12)) + ".\n"


@pytest.fixture
def flags(tmp_path):
  """A comparison of two tiny models on this text, with a vocabulary trained on it."""
  texts = tmp_path / "texts"
  texts.mkdir()
  draw = random.Random(0)
  for number in range(300):
    (texts / f"{number}.txt").write_text(document(draw))
  vocabulary = tmp_path / "own.model"
  words = [f"--input={texts}/*.txt", "--vocab_size=350", f"--output={vocabulary}"]
  subprocess.run([sys.executable, "-m", "launch.tokenizer", *words], check=True, timeout=300)
  return [
    "--gin_file=compare.gin",
    "--gin_file=data/text_files.gin",
    f"--gin.CORPUS_FILES='{texts}/*.txt'",
    "--gin.VALIDATION_FRACTION=0.2",
    f"--gin.VOCABULARY_FILE='{vocabulary}'",
    "--gin.VOCAB_SIZE=512",
    "--gin.BATCH_SIZE=4",
    "--gin.EVAL_BATCHES=2",
    "--gin.SHUFFLE_BUFFER_SIZE=64",
    "--gin.SEEDS=(0,)",
    "--gin.BUDGET=tokens",
    "--gin.AMOUNT=12000",
    "--gin.PASSAGES=8",
    "--gin.PASSAGE_BYTES=120",
    "--gin.CLASSIFICATION=None",
    "--gin.CANDIDATES={"
    "'causal LM': ('models/decoder_only_tiny.gin', 'objectives/causal_lm.gin',"
    " \"TASK_FEATURE_LENGTHS = {'targets': 64}\"),"
    "'masked LM': ('models/encoder_only_tiny.gin', 'objectives/masked_lm.gin',"
    " \"TASK_FEATURE_LENGTHS = {'inputs': 64}\")}",
    f"--gin.COMPARE_DIR='{tmp_path / 'compared'}'",
  ]


@pytest.mark.slow
def test_a_comparison_in_another_language_survives_a_kill(flags, tmp_path):
  command = [sys.executable, "-m", "launch.compare", *flags]
  folder = tmp_path / "compared"
  process = subprocess.Popen(command)
  deadline = time.monotonic() + 600
  while not (folder / "runs" / "causal-lm-0" / "checkpoints" / "6").exists():
    assert time.monotonic() < deadline and process.poll() is None
    time.sleep(0.05)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert subprocess.run(command, timeout=1500).returncode == 0
  log = (folder / "runs" / "causal-lm-0.log").read_text()
  assert log.count("$ python -m launch.train") == 2 and "Resuming from step" in log
  rows = {x["candidate"]: x for x in csv.DictReader((folder / "results.csv").open())}
  assert int(rows["causal LM"]["steps"]) >= 47  # 12,000 tokens / 4 rows of 64, if they are full
  assert float(rows["causal LM"]["completion"]) > 0 and rows["masked LM"]["completion"] == ""
  for x in rows.values():
    assert 0 <= float(x["choice_of_four"]) <= 1
  passages = (folder / "passages.jsonl").read_text().splitlines()
  assert len(passages) == 8 and any(json.loads(x)["text"].split()[0] for x in passages)
  curve = json.loads((folder / "results.json").read_text())["curves"]["causal LM"]
  lines = (folder / "runs" / "causal-lm-0" / "metrics.jsonl").read_text().splitlines()
  held_out = [json.loads(x) for x in lines if '"validation"' in x]
  assert [x["mean"] for x in curve] == [x["loss"] for x in held_out if x["step"]]
  trained = {x["step"]: x["tokens"] for x in map(json.loads, lines) if '"tokens"' in json.dumps(x)}
  assert curve[-1]["tokens"] == trained[curve[-1]["step"]] == pytest.approx(12000, rel=0.1)
  assert any(word in (folder / "report.html").read_text() for word in ("järvi", "pöytä", "tähti"))
