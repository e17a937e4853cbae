"""The command as its users run it: real processes on the embedded corpus."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import seqio

from launch import train
from t5x_style.data import stream

SMALL = (
  "--gin.TRAIN_STEPS=8",
  "--gin.SAVE_PERIOD=2",
  "--gin.LOG_PERIOD=1",
  "--gin.EVAL_PERIOD=4",
  "--gin.EVAL_BATCHES=1",
  "--gin.BATCH_SIZE=4",
  "--gin.WARMUP_STEPS=2",
)


def command(*arguments):
  return [sys.executable, "-m", "launch.train", *arguments]


def launch(*arguments):
  return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=600)


def losses(model_dir):
  records = map(json.loads, (model_dir / "metrics.jsonl").read_text().splitlines())
  return [(r["step"], r["split"], r["loss"], r.get("grad_norm")) for r in records]


def parameters(model_dir, step):
  import orbax.checkpoint as ocp

  return ocp.PyTreeCheckpointer().restore(model_dir / "checkpoints" / str(step) / "state")["params"]


def kill_after_step(step, arguments, model_dir):
  process = subprocess.Popen(
    command(*arguments, f"--gin.MODEL_DIR='{model_dir}'"), stdout=subprocess.DEVNULL
  )
  deadline = time.monotonic() + 300
  while not (model_dir / "checkpoints" / str(step)).exists() and time.monotonic() < deadline:
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart", "quickstart_causal_lm", "quickstart_masked_lm"])
def test_killed_run_resumes_bit_identically(name, tmp_path):
  import jax
  import numpy as np

  whole, killed = tmp_path / "whole", tmp_path / "killed"
  arguments = (f"--gin_file={name}.gin", *SMALL)
  first = launch(*arguments, f"--gin.MODEL_DIR='{whole}'")
  assert first.returncode == 0, first.stderr
  assert "Trained 8 steps." in first.stdout
  assert (whole / "vocabulary/vocabulary.model").exists()

  kill_after_step(4, arguments, killed)
  again = launch(*arguments, f"--gin.MODEL_DIR='{killed}'")
  assert again.returncode == 0, again.stderr
  assert losses(killed) == losses(whole)
  jax.tree.map(np.testing.assert_array_equal, parameters(whole, 8), parameters(killed, 8))

  # The written configuration repeats the run, and the end is not trained past.
  repeated = launch(f"--gin_file={whole / 'config.gin'}", f"--gin.MODEL_DIR='{tmp_path / 'r'}'")
  assert repeated.returncode == 0, repeated.stderr
  assert losses(tmp_path / "r") == losses(whole)
  once_more = launch(*arguments, f"--gin.MODEL_DIR='{whole}'")
  assert "Nothing to do: MODEL_DIR is at step 8 of 8 already." in once_more.stdout
  assert losses(whole) == losses(killed)


def test_a_vocabulary_that_cannot_be_stored_is_a_warning(tmp_path):
  """Its ids are not known: of a vocabulary of the user's own in a SeqIO task."""
  data = object.__new__(stream.Dataset)
  data.vocabulary = seqio.PassThroughVocabulary(10)
  with pytest.warns(UserWarning, match="t5x_style.load cannot read text .* PassThroughVocabulary"):
    train._store_vocabulary(types.SimpleNamespace(dataset=data, model_dir=tmp_path))
  assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_killed_run_on_two_corpora_resumes_bit_identically(tmp_path):
  """Continued pre-training on text files that replays the standard library, in two streams."""
  import jax
  import numpy as np

  for i in range(4):
    (tmp_path / f"{i}.txt").write_text(f"the text number {i} is new to the model. " * 200)
  first = launch(
    "--gin_file=quickstart_causal_lm.gin", *SMALL, f"--gin.MODEL_DIR='{tmp_path}/first'"
  )
  assert first.returncode == 0, first.stderr
  files = ("quickstart_causal_lm.gin", "runs/continue.gin", "data/text_files.gin")
  arguments = (
    *(f"--gin_file={name}" for name in files),
    *SMALL,
    f"--gin.TRAINED_MODEL_DIR='{tmp_path}/first'",
    "--gin.OLD_CORPUS=@corpora.PythonStdlib()",
    f"--gin.CORPUS_FILES='{tmp_path}/*.txt'",
    "--gin.REPLAY_SHARE=0.5",
    "--gin.DATA_STREAMS=2",
  )
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  finished = launch(*arguments, f"--gin.MODEL_DIR='{whole}'")
  assert finished.returncode == 0, finished.stderr
  assert re.search(r"since step 0 +new: loss [\d.]+ -> [\d.]+, [\d.]+ nats/token", finished.stdout)
  kill_after_step(4, arguments, killed)
  again = launch(*arguments, f"--gin.MODEL_DIR='{killed}'")
  assert again.returncode == 0, again.stderr
  assert "Resuming from step" in again.stdout
  assert again.stdout.count("old: loss") == 1
  assert losses(killed) == losses(whole)
  assert losses(whole)[0][:2] == (0, "validation")
  jax.tree.map(np.testing.assert_array_equal, parameters(whole, 8), parameters(killed, 8))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_saves_and_the_run_says_how_to_resume(number, code, tmp_path):
  arguments = ("--gin_file=quickstart.gin", *SMALL, "--gin.TRAIN_STEPS=100000")
  process = subprocess.Popen(
    command(*arguments, f"--gin.MODEL_DIR='{tmp_path}'"), stdout=subprocess.PIPE, text=True
  )
  deadline = time.monotonic() + 300
  while not (tmp_path / "checkpoints" / "2").exists() and time.monotonic() < deadline:
    time.sleep(0.02)
  process.send_signal(number)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == code
  steps = [int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()]
  assert f"Stopped by {number.name} at step {max(steps)} of 100,000; all is saved." in " ".join(
    output.split()
  ).replace(f"{max(steps):,}", str(max(steps)))
  assert "resume with" in output


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["2> /dev/full | head -3", "<&- >&- 2>&-"])
def test_a_run_whose_output_is_lost_trains_to_its_end(redirection, tmp_path):
  arguments = shlex.join(command("--gin_file=quickstart.gin", *SMALL, "--gin.MODEL_DIR='run'"))
  line = f"{arguments} {redirection}; exit ${{PIPESTATUS[0]}}"
  environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
  done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environ, timeout=600)
  assert done.returncode == 0
  assert [step for step, split, *_ in losses(tmp_path / "run") if split == "train"] == [
    *range(1, 9)
  ]
  assert (tmp_path / "run/checkpoints/8").exists()


def test_mistake_ends_with_its_message_and_no_traceback(tmp_path):
  (tmp_path / "run.gin").write_text("include 'quickstart.gin'\nBATCHSIZE = 4\n")
  done = launch(f"--gin_file={tmp_path / 'run.gin'}", "--gin.TRAIN_STEP=3")
  assert done.returncode == 2
  assert "TRAIN_STEPS" in done.stderr + done.stdout
  assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_unwritable_model_dir(tmp_path):
  file = Path(tmp_path, "file")
  file.write_text("")
  done = launch("--gin_file=quickstart.gin", f"--gin.MODEL_DIR='{file}/run'")
  assert done.returncode == 2
  assert "MODEL_DIR" in done.stderr and "cannot be written" in done.stderr
  assert "Traceback" not in done.stderr
  assert os.listdir(tmp_path) == ["file"]


@pytest.mark.slow
def test_a_run_from_another_architecture_reports_every_parameter(tmp_path):
  source, target = tmp_path / "decoder", tmp_path / "encoder"
  first = launch("--gin_file=adaptation/decoder.gin", *SMALL, f"--gin.MODEL_DIR='{source}'")
  assert first.returncode == 0, first.stderr
  arguments = (
    "--gin_file=adaptation/encoder.gin",
    "--gin_file=adaptation/from_decoder.gin",
    *SMALL,
    f"--gin.MODEL_DIR='{target}'",
    f"--gin.INITIAL_CHECKPOINT_PATH='{source}'",
  )
  dry = launch(*arguments, "--dry_run")
  assert dry.returncode == 0 and not (target / "config.gin").exists(), dry.stderr
  done = launch(*arguments)
  assert done.returncode == 0, done.stderr
  summary = "from the checkpoint, 0 new, 0 of the checkpoint left out"
  assert summary in done.stdout and summary in dry.stdout
  report = (target / "initial-parameters.txt").read_text()
  assert report in dry.stdout
  names = {line.split()[0]: line.split()[-1] for line in report.splitlines()}
  assert names["encoder/layers_2/mlp/wo/kernel"] == "decoder/layers_2/mlp/wo/kernel"


STAGED = (
  "--gin_file=quickstart_causal_lm.gin",
  *SMALL,
  "--gin.TASK_FEATURE_LENGTHS={'targets': 32}",
  "--gin.STAGES={'large': {'after_steps': 2, 'BATCH_SIZE': 8},"
  " 'long': {'after_steps': 5, 'BATCH_SIZE': 4, 'TASK_FEATURE_LENGTHS': {'targets': 64}}}",
)


@pytest.mark.slow
def test_a_staged_run_killed_at_any_step_resumes_bit_identically(tmp_path):
  """It is killed before, at and after the start of a stage, each time by SIGKILL."""
  import jax
  import numpy as np

  whole, killed = tmp_path / "whole", tmp_path / "killed"
  arguments = (*STAGED, "--gin.SAVE_PERIOD=1", "--gin.KEEP_CHECKPOINTS=20")
  shown = launch(*arguments, "--dry_run", f"--gin.MODEL_DIR='{tmp_path}/dry'")
  assert "3, long: steps 6 to 8, 4 x 64 tokens" in shown.stdout, shown.stderr
  assert not (tmp_path / "dry/config.gin").exists()
  first = launch(*arguments, f"--gin.MODEL_DIR='{whole}'")
  assert first.returncode == 0, first.stderr
  for step in (1, 2, 5):
    kill_after_step(step, arguments, killed)
  again = launch(*arguments, f"--gin.MODEL_DIR='{killed}'")
  assert again.returncode == 0, again.stderr
  assert "Resuming from step" in again.stdout
  assert losses(killed) == losses(whole)
  jax.tree.map(np.testing.assert_array_equal, parameters(whole, 8), parameters(killed, 8))
  records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
  stages = {r["step"]: r["stage"] for r in records if r["split"] == "train"}
  assert [stages[step] for step in range(1, 9)] == [1, 1, 2, 2, 2, 3, 3, 3]

  repeated = launch(f"--gin_file={whole / 'config.gin'}", f"--gin.MODEL_DIR='{tmp_path / 'r'}'")
  assert repeated.returncode == 0, repeated.stderr
  assert losses(tmp_path / "r") == losses(whole)
  measured = subprocess.run(
    [sys.executable, "-m", "launch.eval", "loss", str(whole), "--json"],
    capture_output=True,
    text=True,
    timeout=600,
  )
  (step,) = json.loads(measured.stdout)["steps"]
  assert step["loss"] == pytest.approx(losses(whole)[-1][2], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--nopreflight", "--dry_run"])
def test_processes_that_would_wait_for_each_other_are_refused(flag, tmp_path):
  """One process of two leaves out the preflight, or does not train."""
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    address = f"localhost:{probe.getsockname()[1]}"
  job = (f"--coordinator_address={address}", "--process_count=2", *SMALL)
  started = [
    subprocess.Popen(
      command(
        "--gin_file=quickstart.gin",
        *(*job, f"--process_index={index}", f"--gin.MODEL_DIR='{tmp_path}'", *own),
      ),
      env=os.environ | {"JAX_PLATFORMS": "cpu"},
      stderr=subprocess.PIPE,
      text=True,
    )
    for index, own in enumerate([(), (flag,)])
  ]
  try:
    errors = [process.communicate(timeout=100)[1] for process in started]
  finally:
    for process in started:
      process.kill()
  assert [process.returncode for process in started] == [2, 2], errors
  differs = {
    "--nopreflight": "  --preflight: True in process 0, False in process 1",
    "--dry_run": "  --dry_run: False in process 0, True in process 1",
  }
  assert all(differs[flag] in error for error in errors), errors
