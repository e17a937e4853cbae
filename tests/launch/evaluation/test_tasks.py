"""launch.eval tasks: SeqIO's metric functions on what a model writes and how likely targets are."""

import functools
import json

import jax
import numpy as np
import pytest

import t5x_style
from launch.process.errors import ConfigurationError

MODULE = "tests.launch.evaluation.animal_tasks"
WORDS = ("cat", "horse", "ox", "mouse", "zebra", "emu")
EOS = 1
# A T5 that learns the task by heart.
_ON_TASK = """
include 'runs/pretrain.gin'
include 'models/encoder_decoder_mini.gin'
from __gin__ import dynamic_registration
from t5x_style.models import config

MIXTURE_OR_TASK_NAME = "capitals"
MIXTURE_OR_TASK_MODULE = "tests.launch.evaluation.animal_tasks"
VOCAB_SIZE = 384
TASK_FEATURE_LENGTHS = {"inputs": 16, "targets": 8}
TRAIN_STEPS = 120
BATCH_SIZE = 8
EVAL_PERIOD = 60
EVAL_BATCHES = 1
SAVE_PERIOD = 60
WARMUP_STEPS = 10
PEAK_LEARNING_RATE = 0.01
SCAN_LAYERS = False
config.TransformerConfig:
  emb_dim = 32
  num_heads = 2
  head_dim = 16
  mlp_dim = 64
"""


def ids(text):
  return [byte + 3 for byte in text.encode()]


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, tokens):
  out = model.apply({"params": params}, {"decoder_input_tokens": tokens})
  return out.hidden @ out.kernel


def log_softmax(trained, row):
  """float64 [L, V] of decoder inputs int [L], by the model's own forward pass."""
  padded = np.pad(row, (0, 16 - len(row)))  # A decoder does not see what comes after a token.
  logits = np.asarray(logits_of(trained.model, trained.params, padded[None]))[0, : len(row)]
  return logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))


def greedy(trained, text, most):
  """Writes the likeliest token, one by one, without a cache."""
  row = [0, *ids(text)]
  for _ in range(most):
    logits = log_softmax(trained, row)[-1]
    logits[0] = -np.inf  # Padding is never written.
    row.append(int(logits.argmax()))
    if row[-1] == EOS:
      break
  return row[len(text) + 1 :]


@pytest.mark.slow
def test_what_a_decoder_writes_and_how_likely_it_finds_targets(causal_run, run, tmp_path):
  trained = t5x_style.load(causal_run)
  output = tmp_path / "lines.jsonl"
  arguments = (f"--module={MODULE}", f"--output={output}")
  code, found = run("tasks", causal_run, "--mixture_or_task=both", *arguments, "--json")
  lines = [json.loads(line) for line in output.read_text().splitlines()]
  capitals = [line for line in lines if line["task"] == "capitals"]
  for word, line in zip(WORDS, capitals, strict=True):
    written = greedy(trained, f"{word}:", 6)
    text = bytes(token - 3 for token in written if 3 <= token < 259).decode("utf-8", "ignore")
    assert (line["inputs"], line["targets"]) == (f"{word}:", word.upper())
    assert line["prediction"] == text
  choices = [line for line in lines if line["task"] == "choices"]
  for line in choices:
    row = [0, *ids(line["inputs"]), *ids(line["targets"]), EOS]
    each = log_softmax(trained, row[:-1])[np.arange(len(row) - 1), row[1:]]
    expected = each[len(line["inputs"]) :].sum()
    assert line["targets_log_probability"] == pytest.approx(expected, rel=1e-4)
  (step,) = found["steps"]
  metrics = {name: x["metrics"] for name, x in step["tasks"].items()}
  right = np.mean([line["prediction"] == line["targets"] for line in capitals])
  assert (code, step["step"], metrics["capitals"]["exact_match"]) == (0, 4, right)
  scores = np.array([line["targets_log_probability"] for line in choices])
  assert metrics["choices"]["sum"] == pytest.approx(scores.sum(), rel=1e-6)
  assert metrics["choices"]["accuracy"] == np.mean(scores[::2] >= scores[1::2])
  mean = np.mean([line["prediction_log_probability"] for line in capitals])
  assert metrics["capitals"]["mean_log_probability"] == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "tasks needs --mixture_or_task=NAME"),
    (["--mixture_or_task=capital"], "--mixture_or_task='capital' is not registered.*capitals"),
    (["--mixture_or_task=capitals", "--module=absent_module"], "--module = 'absent_module'"),
    (["--mixture_or_task=capitals", "--split=test"], "no split 'test'; it has train, validation"),
    (["--mixture_or_task=without_metric"], "without_metric has no metric function"),
    (["--mixture_or_task=capitals", "--lengths=512"], "--lengths=512 is not like"),
    (["--mixture_or_task=capitals", "--output=/absent/x"], "there is no folder '/absent'"),
    (["--mixture_or_task=capitals", "--text=x"], "tasks takes no --text"),
  ],
)
def test_mistakes(arguments, message, random_run, run):
  if not any(argument.startswith("--module") for argument in arguments):
    arguments = [*arguments, f"--module={MODULE}"]
  with pytest.raises(ConfigurationError, match=message):
    run("tasks", random_run, *arguments)


@pytest.mark.slow
def test_a_task_with_another_vocabulary_is_refused(causal_run, run):
  with pytest.raises(ConfigurationError, match="vocabulary .* is not that of"):
    run("tasks", causal_run, "--mixture_or_task=other_vocabulary", f"--module={MODULE}")


@pytest.mark.slow
def test_an_encoder_decoder_that_has_learnt_a_task(train_on, run):
  folder = train_on(_ON_TASK)
  code, found = run(
    "tasks", folder, "--mixture_or_task=both", f"--module={MODULE}", "--all_steps", "--json"
  )
  assert code == 0 and [x["step"] for x in found["steps"]] == [60, 120]
  last = {name: x["metrics"] for name, x in found["steps"][-1]["tasks"].items()}
  assert last["capitals"]["exact_match"] == 1.0 and last["choices"]["accuracy"] == 1.0
  _, shown = run("tasks", folder, "--mixture_or_task=capitals", f"--module={MODULE}")
  rows = [line.split() for line in shown.splitlines()]
  assert ["120", "capitals", "6", "exact_match", "1.0000"] in rows


@pytest.mark.slow
def test_an_encoder_has_no_decoder_to_write_with(train_on_text, run):
  folder = train_on_text("encoder_only", "masked_lm")
  with pytest.raises(ConfigurationError, match="an encoder_only model"):
    run("tasks", folder, "--mixture_or_task=capitals", f"--module={MODULE}")
