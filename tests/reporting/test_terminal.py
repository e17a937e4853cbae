"""What the terminal shows: lines in a log, a bar on a TTY, the summary."""

import io

import pytest
from rich.console import Console

from t5x_style.reporting import terminal
from t5x_style.reporting.terminal import Terminal


class Clock:
  now = 0.0

  def __call__(self):
    return self.now


def log():
  """Returns a terminal that writes into a file, the file, and the terminal's clock."""
  file, clock = io.StringIO(), Clock()
  return Terminal(console=Console(file=file), clock=clock), file, clock


VALUES = {"loss": 5.25, "accuracy": 0.125, "tokens_per_second": 12345.0}


def test_header():
  out, file, _ = log()
  out.header("t5_tiny", {"model": "12 M parameters", "MODEL_DIR": "/a/" + "long/" * 40})
  assert file.getvalue() == (
    "t5_tiny\n  model      12 M parameters\n  MODEL_DIR  /a/" + "long/" * 40 + "\n"
  )


def test_a_log_has_a_line_every_ten_seconds_and_all_validation():
  out, file, clock = log()
  with out.progress(0, 1000):
    for step in range(1, 31):
      clock.now += 1.0
      out.step(step)
      out.record(step, "train", VALUES)
      if step == 15:
        out.record(step, "validation", {"loss": 5.0, "bits_per_byte": 2.5})
  assert file.getvalue().splitlines() == [
    "step     1/1,000  loss 5.250  accuracy 12.5%  12,345 tokens/s  16 min 39 s left",
    "step    11/1,000  loss 5.250  accuracy 12.5%  12,345 tokens/s  16 min 29 s left",
    "step    15/1,000  validation  loss 5.000  2.500 bits/byte",
    "step    25/1,000  loss 5.250  accuracy 12.5%  12,345 tokens/s  16 min 15 s left",
  ]


@pytest.mark.parametrize("share, said", [(0.009, ""), (0.25, "  25.0% waiting for data")])
def test_waiting_for_data_is_shown_if_it_is_much(share, said):
  assert terminal.speed(VALUES | {"data_wait": share}) == "12,345 tokens/s" + said


def test_a_log_has_a_line_a_minute_however_slow_the_steps():
  out, file, clock = log()
  with out.progress(10, 20):
    for step in (11, 12, 13):
      clock.now += 45.0
      out.step(step)
  assert file.getvalue() == "step 12/20  6 min 00 s left\n"


def test_the_last_record_is_always_shown():
  out, file, _ = log()
  with out.progress(0, 2):
    for step in (1, 2):
      out.record(step, "train", VALUES)
  assert len(file.getvalue().splitlines()) == 2


def test_a_tty_has_one_bar():
  file, clock = io.StringIO(), Clock()
  console = Console(file=file, force_terminal=True, width=120)
  out = Terminal(console=console, clock=clock)
  out.started(0, 6.0)
  out.compiled()
  with out.progress(0, 20):
    for step in range(1, 21):
      clock.now += 1.0
      out.record(step, "train", VALUES)
      out.step(step)
    out.record(20, "validation", {"loss": 5.0})
  text = file.getvalue()
  assert "step 20/20" in text
  assert "12,345 tokens/s" in text
  assert "validation  loss 5.000" in text


def test_a_narrow_terminal_shows_steps_and_loss_whole():
  file, clock = io.StringIO(), Clock()
  out = Terminal(console=Console(file=file, force_terminal=True, width=60), clock=clock)
  with out.progress(0, 1600):
    clock.now += 100.0
    out.record(1000, "train", VALUES)
    out.step(1000)
  text = file.getvalue()
  assert "step 1,000/1,600" in text and "loss 5.250  1 min 00 s left" in text
  assert "…" not in text
  with out.waiting("Taking samples"):
    pass
  sample = {"written": "word " * 40}
  out.summary("", train={}, validation={}, reference={}, baseline=1.0, facts={}, sample=sample)
  written = file.getvalue().partition("written")[2].splitlines()
  assert "Taking samples" in file.getvalue()
  assert len(written) > 4 and max(map(len, written)) <= 60


def test_other_processes_are_silent(capsys):
  out = Terminal(enabled=False)
  out.header("x", {"a": "b"})
  out.started(3, 1.0)
  out.compiled()
  with out.progress(0, 1):
    out.step(1)
    out.record(1, "validation", VALUES)
  out.summary("x", train={}, validation={}, reference={}, baseline=1.0, facts={}, sample={"a": "b"})
  assert capsys.readouterr().out == ""


def test_start():
  out, file, clock = log()
  out.started(1200, 6.21)
  clock.now += 12.3
  out.compiled()
  assert file.getvalue() == (
    "Resuming from step 1,200.\n"
    "A model that knows only how frequent targets are has a loss of 6.210.\n"
    "Compiled the training step in 12 s.\n"
  )
  clock.now += 100.0
  out.stage_began("Stage 2")
  clock.now += 7.1
  out.compiled()
  assert file.getvalue().endswith("12 s.\nStage 2\nCompiled the training step in 7.1 s.\n")


def test_summary():
  out, file, _ = log()
  out.summary(
    "Finished 400 steps.",
    train={"loss": 4.2, "accuracy": 0.25, "tokens_per_second": 100.0},
    validation={"loss": 4.1, "bits_per_byte": 2.34},
    reference={"loss": 5.1, "bits_per_byte": 3.0},
    baseline=6.214,
    facts={"speed": "100 tokens/s", "metrics": "/x/metrics.jsonl"},
    sample={"given": "[bold]def f(x):[/bold]\n  return", "written": "x\x1b[31m"},
  )
  assert file.getvalue() == (
    "\nFinished 400 steps.\n"
    "                     nats/token    bits/byte     accuracy\n"
    "  unigram entropy         6.214\n"
    "  before step 1           5.100        3.000\n"
    "  validation              4.100        2.340\n"
    "  training                4.200                     25.0%\n"
    "\n  given\n    [bold]def f(x):[/bold]\n      return\n"
    "\n  written\n    x\\x1b[31m\n"
    "\n"
    "  speed    100 tokens/s\n"
    "  metrics  /x/metrics.jsonl\n"
  )


@pytest.mark.parametrize("columns", [0, 4])
def test_a_terminal_without_columns_still_shows_what_was_written(columns):
  file = io.StringIO()
  out = Terminal(console=Console(file=file, force_terminal=True, width=columns), clock=Clock())
  sample = {"written": "some words"}
  out.summary("", train={}, validation={}, reference={}, baseline=1.0, facts={}, sample=sample)
  assert "    some words\n" in file.getvalue()


def test_long_samples_are_cut():
  lines = terminal.shown_text("\n".join(["word " * 50] * 20))
  assert len(lines) == 11
  assert lines[-1] == "..."
  assert max(map(len, lines)) <= 96


def test_values_that_are_not_numbers_do_not_stop_a_run():
  assert terminal.describe({"loss": float("nan"), "loss/code": 1.0}) == "loss nan  code 1.000"
