"""The command launch.compare: it plans, resumes after a kill, skips what is done, and concludes."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import compare
from launch.process import environment
from launch.process.errors import ConfigurationError
from tests.launch.comparison import stand_ins

ROOT = Path(__file__).parents[2]
PROGRAM = """
from launch.process import command, environment
environment.PACKAGE = "acts"
from launch import compare
command.run(compare.main)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
  """run(*flags) is the command with stand-ins for what it starts; run.folder is COMPARE_DIR."""
  monkeypatch.setenv("PYTHONPATH", stand_ins.package(tmp_path))
  monkeypatch.setattr(environment, "PACKAGE", "acts")

  def called(*flags):
    return compare.main(["compare", *run_flags, *flags])

  called.folder = tmp_path / "out"
  called.flags = run_flags = [
    f"--gin_file={tmp_path / 'compare.gin'}",
    f"--gin.COMPARE_DIR='{called.folder}'",
  ]
  return called


def starts(run, name):
  """[(step, TRAIN_STEPS, SCHEDULE_STEPS)] of each start of a run."""
  lines = (run.folder / "runs" / name / "starts").read_text().splitlines()
  return [tuple(line.split()) for line in lines]


def test_all_runs_are_trained_judged_and_compared(run, capsys):
  assert run() == 0
  shown = capsys.readouterr().out
  assert "6 runs: 3 candidates with 2 seeds" in shown and "run 6 of 6: Worst <i>, seed 1" in shown
  assert "question answering: fast\n" in shown and "generation: nothing can be said" in shown
  rows = list(csv.DictReader((run.folder / "results.csv").open()))
  # Judged at step 8: (6 - (5 - .2 * 8)) / 10 + seed / 1000.
  fast = [float(x["choice_of_four"]) for x in rows if x["candidate"] == "fast"]
  assert fast == pytest.approx([0.26, 0.261]) and len(rows) == 6
  assert {(x["steps"], x["signal_density"]) for x in rows} == {("8", "0.15")}
  found = json.loads((run.folder / "results.json").read_text())
  summary = found["measures"]["choice_of_four"]["candidates"]["fast"]
  assert summary["mean"] == pytest.approx(0.2605)
  curve = found["curves"]["slow"]
  assert [x["step"] for x in curve] == list(range(1, 9))
  assert curve[3]["mean"] == pytest.approx(4.6) and curve[3]["tokens"] == 32
  assert (curve[3]["flops"], curve[3]["seconds"]) == (4e9, 2.0)
  page = (run.folder / "report.html").read_text()
  assert page.count("<svg") == 3 and "Worst &lt;i&gt;" in page and "Worst <i>" not in page
  assert "By a stand-in." in page and "there is none" in page
  for name in ("loss_by_tokens", "loss_by_flops", "loss_by_seconds"):
    assert (run.folder / f"{name}.png").stat().st_size > 1000


def test_what_is_done_is_skipped_and_a_changed_plan_refused(run):
  assert run("--gin.SEEDS=(0,)") == 0
  judged = run.folder / "judged" / "fast-0.json"
  written = judged.stat().st_mtime_ns
  assert run("--gin.SEEDS=(0,)") == 0
  assert starts(run, "fast-0") == [("0", "8", "None")] and judged.stat().st_mtime_ns == written
  with pytest.raises(ConfigurationError, match=r"comparison.amount: 8000000000.0 -> 16000000000.0"):
    run("--gin.SEEDS=(0,)", "--gin.Comparison.amount=16e9")
  judged.unlink()
  assert run("--gin.SEEDS=(0, 1)") == 0  # Seeds are added, and what is missing is judged again.
  assert len(starts(run, "fast-0")) == 1 and judged.exists() and starts(run, "fast-1")
  again = judged.stat().st_mtime_ns
  assert run("--gin.Comparison.pairs_file='pairs.jsonl'") == 0  # Only the judging is repeated.
  assert len(starts(run, "fast-0")) == 1 and judged.stat().st_mtime_ns > again


def test_a_run_that_fails_is_reported_and_the_rest_done(run, capsys):
  candidates = "--gin.CANDIDATES={'good': ('RATE = 0.1',), 'bad': ('RATE = -1.0',)}"
  assert run(candidates, "--gin.SEEDS=(0,)") == 1
  assert "bad-0 failed: training: RATE is negative" in capsys.readouterr().out
  page = (run.folder / "report.html").read_text()
  assert "RATE is negative" in page
  assert (run.folder / "results.csv").read_text().splitlines()[1].startswith("good,0,")


def test_a_dry_run_prints_the_plan_and_writes_nothing(run, capsys):
  assert run("--dry_run") == 0
  shown = capsys.readouterr().out
  assert not run.folder.exists() and "nothing was trained" in shown
  row = next(line for line in shown.splitlines() if line.startswith("  fast"))
  assert row.split()[-3:] == ["8", "64", "8e+09"]  # steps, tokens, FLOPs


def test_halving_trains_the_better_half_on_by_the_schedule_of_the_whole(run, capsys):
  assert run("--gin.HALVE_BY='choice_of_four'", "--gin.SEEDS=(0,)") == 0
  assert starts(run, "fast-0") == [("0", "4", "8"), ("4", "8", "None")]
  assert starts(run, "slow-0") == [("0", "4", "8"), ("4", "8", "None")]
  assert starts(run, "worst-i-0") == [("0", "4", "8")]
  assert run("--gin.HALVE_BY='choice_of_four'", "--gin.SEEDS=(0,)") == 0
  assert len(starts(run, "fast-0")) == 2
  found = json.loads((run.folder / "results.json").read_text())
  assert list(found["curves"]) == ["slow", "fast"]
  assert found["rounds"][0]["kept"] == ["slow", "fast"]


def test_equal_seconds_become_steps_by_a_short_run(run, capsys):
  """The stand-ins take half a second a step, as they say."""
  seconds = ["--gin.SEEDS=(0,)", "--gin.Comparison.budget='seconds'", "--gin.Comparison.amount=3.0"]
  assert run(*seconds) == 0
  kept = json.loads((run.folder / "comparison.json").read_text())
  assert kept["speeds"] == {"slow": 0.5, "fast": 0.5, "Worst <i>": 0.5}
  assert starts(run, "fast-0") == [("0", "6", "None")]
  (run.folder / "speed" / "fast" / "metrics.jsonl").unlink()
  assert run(*seconds) == 0  # The speed is not measured again.
  assert "Measuring the speed of fast" in capsys.readouterr().out
  assert not (run.folder / "speed" / "fast" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
  ("number", "code"),
  [(signal.SIGKILL, -9), pytest.param(signal.SIGTERM, 75, marks=pytest.mark.slow)],
)
def test_the_same_command_resumes_after_a_signal(run, number, code):
  words = [sys.executable, "-c", PROGRAM, *run.flags]
  hold = run.folder.parent / "hold"
  hold.touch()  # Until it is gone, the first run does not go beyond step 3.
  first = f"('RATE = 0.1', \"HOLD = '{hold}'\")"
  slow = [*words, f"--gin.CANDIDATES={{'a': {first}, 'b': ('RATE = 0.2',)}}"]
  process = subprocess.Popen(slow, cwd=ROOT, stdout=subprocess.DEVNULL)
  metrics = run.folder / "runs" / "a-0" / "metrics.jsonl"
  deadline = time.monotonic() + 120
  while not (metrics.exists() and metrics.read_text().count("validation") >= 3):
    assert time.monotonic() < deadline and process.poll() is None
    time.sleep(0.02)
  if number == signal.SIGTERM:
    second = subprocess.run(slow, cwd=ROOT, capture_output=True, text=True)
    assert second.returncode == 2 and "COMPARE_DIR" in second.stderr
  process.send_signal(number)
  assert process.wait() == code
  assert not (run.folder / "report.html").exists()
  hold.unlink()
  assert subprocess.run(slow, cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0
  (first, _, _), (resumed, _, _) = starts(run, "a-0")
  assert (first, resumed) == ("0", "3")
  assert metrics.read_text().count("validation") == 8 and (run.folder / "report.html").exists()


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["x.gin"], "Did you mean --gin_file=x.gin?"),
    ([], "Start with --gin_file=compare.gin"),
    (["--gin_file=quickstart.gin"], "set no candidates, amount, compare_dir of a Comparison"),
    (["--gin_file=compare.gin", "--gin.SEEDS=3"], "SEEDS|seeds"),
    (["--gin_file=compare.gin", "--gin.HALVE_BY='speed'"], "no measure that ranks models"),
  ],
)
def test_mistakes(flags, message):
  with pytest.raises(ConfigurationError, match=message):
    compare.main(["compare", *flags])
