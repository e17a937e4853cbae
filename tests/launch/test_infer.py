"""launch.infer: what it prints and writes, what it refuses, and that a kill loses no line."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import t5x_style
from launch import infer
from launch.inference import run_lines
from launch.process.errors import ConfigurationError
from tests.trained.random_models import trained

MODELS = {
  "causal": ("decoder_only", "causal_lm"),
  "masks": ("encoder_only", "masked_lm"),
  "spans": ("encoder_decoder", {"objective": "span_corruption", "mode": "[R]"}),
}


@pytest.fixture
def run(monkeypatch):
  """run("causal", ...) runs the command on a model with random parameters and 32 positions."""

  def command(name, *arguments):
    changes = {"positions": "learned", "max_length": 32}
    model = trained(*MODELS.get(name, MODELS["causal"]), **changes)
    monkeypatch.setattr(t5x_style, "load", lambda *_, **__: model, raising=False)
    return infer.main(["infer", name, *map(str, arguments)])

  return command


def test_help_names_the_tasks_and_how_it_ends(capsys):
  with pytest.raises(SystemExit):
    infer.main(["infer", "--help"])
  shown = capsys.readouterr().out
  assert all(f"  {task} " in shown for task in infer.TASKS)
  assert "exit code is then 65" in shown and "gin_file" not in shown
  assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "No model is given"),
    (["m"], "Nothing to do with m: write texts after it, or --input=FILE."),
    (["m", "a", "--input=x"], "Texts are given and --input, too"),
    (["m", "a", "--output=x"], "--output is for the lines of a file; give --input"),
    (["m", "a", " "], "The text ' ' is empty."),
    (["m", "a", "--beam=3"], "There is no flag --beam. Did you mean '--beams'"),
    (["m", "a", "--mesh=8"], "--mesh=8 is no shape; write --mesh='{\"data\": 2}'."),
    (["m", "--input=no_such_file"], "--input=no_such_file does not exist."),
    (["no_such_folder", "a"], "'no_such_folder' does not exist; give the MODEL_DIR of a run"),
  ],
)
def test_mistakes_that_need_no_model(arguments, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ConfigurationError) as caught:
    infer.main(["infer", *arguments])
  assert message in str(caught.value)


@pytest.mark.parametrize(
  ("model", "arguments", "message"),
  [
    ("causal", ["a", "--task=fill"], "trained with causal_lm: it cannot fill the holes of a text"),
    ("causal", ["a", "--pooling=mean"], "--pooling is not for --task=continue; leave it out."),
    ("causal", ["a", "--candidates=3"], "--candidates is not for --task=continue"),
    ("causal", ["0 " * 40], "The text is too long: it has 81 tokens"),
    ("causal", ["a", "--top_k=3"], "set a temperature"),
    ("spans", ["a"], "The text has no hole to fill: write [MASK]"),
    ("spans", ["a [MASK]", "--mode=[Y]"], "those of this task are [R]."),
    ("masks", ["a [MASK]", "--beams=3"], "fills each hole with one token"),
  ],
)
def test_mistakes_about_a_model(model, arguments, message, run):
  with pytest.raises(ConfigurationError) as caught:
    run(model, *arguments)
  assert message in str(caught.value)


def test_texts_of_the_command_line_are_shown(run, capsys):
  assert run("masks", "import [MASK]", "--candidates=2") == 0
  first, second = capsys.readouterr().out.splitlines()[:2]
  assert first.startswith("import") and "[MASK]" not in first
  assert second.startswith("  hole 1: '") and second.count("   ") == 1
  assert run("masks", "import os", "--task=embed") == 0
  assert "(32 numbers" in capsys.readouterr().out


LINES = [
  {"id": 1, "text": "import [MASK]"},
  {"text": "no hole"},
  {"prefix": "def f(", "suffix": "):", "error": "a field of the user"},
  "not an object",
  {"text": ""},
  {"text": "0 " * 40 + "[MASK]"},
  {"text": "x = [MASK] + [MASK]"},
  {"text": "a [MASK]", "mode": "[R]"},
  {"text": "é [MASK]", "mode": None},
]


def test_bad_lines_are_reported_and_the_rest_is_done(run, tmp_path, monkeypatch):
  monkeypatch.setattr(run_lines, "_BATCHES", 2)
  source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
  source.write_text("".join(json.dumps(line) + "\n" for line in LINES))
  arguments = (f"--input={source}", f"--output={out}", "--candidates=2", "--batch_size=2")
  assert run("masks", *arguments) == 65
  records = [json.loads(line) for line in out.read_text().splitlines()]
  errors = {i: r["error"] for i, r in enumerate(records) if "error" in r}
  assert list(errors) == [1, 3, 4, 5, 7] and len(records) == len(LINES)
  assert "no hole" in errors[1] and "no JSON object" in errors[3] and "too long" in errors[5]
  assert "'[R]' is not one" in errors[7]
  assert records[1]["line"] == 2 and records[0]["id"] == 1
  assert [len(records[i]["holes"]) for i in (0, 2, 6, 8)] == [1, 1, 2, 1]
  for hole in records[6]["holes"]:
    assert len(hole) == 2 and 0 < hole[1]["probability"] <= hole[0]["probability"] < 1
  whole = out.read_bytes()
  for size in (0, 1, len(whole) // 2, whole.index(b"\n") + 1, len(whole) - 1, len(whole)):
    out.write_bytes(whole[:size])
    assert run("masks", *arguments) == 65
    assert out.read_bytes() == whole, size
  with pytest.raises(ConfigurationError, match="candidates: 2 then, 3 now"):
    run("masks", *arguments[:2], "--candidates=3", "--batch_size=2")
  source.write_text(source.read_text() + "{}\n")
  with pytest.raises(ConfigurationError, match="another input"):
    run("masks", *arguments)
  assert out.read_bytes() == whole


def test_lines_without_an_output_file_go_to_the_standard_output(run, tmp_path, capfdbinary):
  source = tmp_path / "in.txt"
  source.write_text("import os\ndef f(\n")
  assert run("causal", f"--input={source}", "--max_new_tokens=3") == 0
  printed = capfdbinary.readouterr()
  records = [json.loads(line) for line in printed.out.splitlines()]
  assert [r["text"] for r in records] == ["import os", "def f("]
  assert all(r["tokens"] == 3 and r["log_probability"] < 0 for r in records)
  assert b"2 lines, 0 of which could not be used." in printed.err


@pytest.mark.slow
def test_killed_processes_lose_and_double_no_line(tmp_path):
  """A real run on text is used by real processes, which are killed at different moments."""
  train = [f"--gin.MODEL_DIR='{tmp_path / 'run'}'", "--gin.TRAIN_STEPS=2", "--gin.BATCH_SIZE=2"]
  small = ["emb_dim=32", "mlp_dim=32", "num_heads=2", "head_dim=16", "num_decoder_layers=1"]
  train += [f"--gin.config.TransformerConfig.{x}" for x in small]
  command = [sys.executable, "-m", "launch.train", "--gin_file=quickstart_causal_lm.gin", *train]
  trained_run = subprocess.run(command, capture_output=True, text=True, timeout=600)
  assert trained_run.returncode == 0, trained_run.stderr[-2000:]
  source = tmp_path / "in.jsonl"
  texts = [("x = " * (i % 23) + f"import number{i}") if i % 7 else "" for i in range(700)]
  source.write_text("".join(json.dumps({"id": i, "text": x}) + "\n" for i, x in enumerate(texts)))

  def start(out, **options):
    arguments = [f"--input={source}", f"--output={out}", "--max_new_tokens=6"]
    arguments += ["--temperature=1", "--batch_size=8"]
    command = [sys.executable, "-m", "launch.infer", str(tmp_path / "run"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

  undisturbed, killed = tmp_path / "undisturbed.jsonl", tmp_path / "killed.jsonl"
  process = start(undisturbed)
  printed = process.communicate(timeout=600)
  assert process.returncode == 65, printed
  records = [json.loads(line) for line in undisturbed.read_text().splitlines()]
  assert [r["id"] for r in records] == list(range(700))
  assert [("error" in r) for r in records] == [not text for text in texts]
  size, kills = undisturbed.stat().st_size, 0
  for share in (0, 0.1, 0.5, 0.8):
    process = start(killed)
    while process.poll() is None and (not killed.exists() or killed.stat().st_size <= share * size):
      time.sleep(0.01)
    if process.poll() is None:
      kills += 1
      os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=600)
    with killed.open("ab") as file:
      file.write(b'{"id": ')  # As if it had been killed while it wrote.
  assert kills >= 2
  process = start(killed)
  printed = process.communicate(timeout=600)
  assert process.returncode == 65, printed
  assert killed.read_bytes() == undisturbed.read_bytes()
