"""The summary of a run that has ended, as it is printed."""

import io
from types import SimpleNamespace as Namespace

import pytest
from rich.console import Console

from t5x_style.checkpoints import restoring
from t5x_style.reporting import reporter, sampling, summary, terminal
from t5x_style.training import loop, setup

COMMAND = ["python -m launch.train", "--gin_file=a.gin", "--gin.TRAIN_STEPS=3"]


def shown(config, **changes):
  """Returns the text that is printed at the end of a run, whose result is changed."""
  out = io.StringIO()
  silent = terminal.Terminal(enabled=False)
  job = restoring.open_run(setup.prepare(config))
  sampler = sampling.Sampler(job)
  result = loop.train(job, reporter.RunReporter(job.prepared, job.first_step, silent))
  printed = terminal.Terminal(console=Console(file=out, width=200))
  summary.show(printed, job, result._replace(**changes), COMMAND, sampler)
  return out.getvalue()


def test_how_a_run_ended_and_how_to_resume_it(tiny_config, tmp_path):
  config = tiny_config("decoder_only", tmp_path, train_steps=3)
  text = shown(config)
  assert text.startswith("\nTrained 3 steps.\n")
  assert f"{tmp_path}/checkpoints/3" in text and "tokens/s" in text
  assert "python -m launch.train --gin_file=a.gin --gin.TRAIN_STEPS=6\n" in text
  assert "held-out text 1; the model writes at [?]" in text
  assert f"\n  report        python -m launch.report {tmp_path}\n" in text
  assert text.endswith(f"python -m launch.infer {tmp_path} 'the beginning of a text'\n")
  text = shown(config)
  assert text.startswith("\nNothing to do: MODEL_DIR is at step 3 of 3 already.\n")
  text = shown(config, stopped_by="SIGTERM", complete=False)
  assert text.startswith("\nStopped by SIGTERM at step 3 of 3; all is saved.\n")
  assert "resume with" in text and " ".join(COMMAND) in text
  assert "held-out" not in text and "launch.infer" not in text


def test_what_a_continued_run_has_gained_and_forgotten(tiny_config, tmp_path):
  text = shown(
    tiny_config("decoder_only", tmp_path, train_steps=1),
    reference={"loss": 3.0, "loss/new": 4.0, "loss/old": 2.0, "loss/old/R": 2.0, "loss/gone": 1.0},
    validation={"loss": 2.8, "loss/new": 3.25, "loss/old": 2.125, "loss/old/R": 2.0},
  )
  assert "  before step 1           3.000\n" in text
  assert (
    "  since step 0  new: loss 4.000 -> 3.250, 0.750 nats/token gained\n"
    "                old: loss 2.000 -> 2.125, 0.125 nats/token forgotten\n"
  ) in text
  assert "R:" not in text and "gone" not in text


def test_a_sample_that_fails_does_not_end_the_run(tiny_config, tmp_path, monkeypatch):
  def fail(*_):
    raise ValueError("no text")

  monkeypatch.setattr("t5x_style.training.synthetic.SyntheticDataset.decode", fail)
  text = shown(tiny_config("decoder_only", tmp_path, train_steps=1))
  assert "no sample could be made" in text and "ValueError: no text" in text


@pytest.mark.parametrize(
  ("architecture", "names", "text"),
  [
    ("decoder_only", ["causal_lm"], "'the beginning of a text'"),
    ("decoder_only", ["prefix_lm", "span_corruption"], "'some text with [MASK]'"),
    ("encoder_decoder", ["text_infilling"], "'some text with [MASK]'"),
    ("encoder_decoder", ["of_the_users_own"], "'the beginning of a text'"),
    ("encoder_only", ["of_the_users_own"], "'some text with [MASK]'"),
    ("decoder_only", [None], "'the beginning of a text'"),  # a task without an objective
  ],
)
def test_the_text_to_try_is_one_that_the_objectives_teach(architecture, names, text):
  components = [{"name": "a"} | ({"objective": name} if name else {}) for name in names]
  prepared = Namespace(
    dataset=Namespace(label_names=()),
    identity=lambda: {"data": {"components": components}},
    config=Namespace(model=Namespace(architecture=architecture)),
  )
  assert summary.example_text(Namespace(prepared=prepared)) == text
