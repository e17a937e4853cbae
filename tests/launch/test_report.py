"""The command launch.report on real runs, and its mistakes."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from launch import report
from launch.process.errors import ConfigurationError
from tests import tiny

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
  """A run of six steps that was interrupted after three."""
  folder = tmp_path_factory.mktemp("runs") / "one"
  for steps in (3, 6):
    tiny.train(tiny.config("encoder_only", folder, train_steps=steps, eval_period=2))
  return folder


def test_a_page_shows_the_records_of_a_resumed_run(model_dir, capsys):
  report.main(["report", str(model_dir)])
  assert capsys.readouterr().out == f"{model_dir}/report.html\n"
  page = (model_dir / "report.html").read_text()
  (path,) = re.findall(r'class="series-0">\s*<path d="([^"]+)"', page.split("<figure>")[1])
  x, y = np.array(re.findall(r"-?[\d.]+", path), float).reshape(-1, 2).T
  records = tiny.records(model_dir)
  assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
  for shown, name in ((x, "step"), (y, "loss")):  # A line from values to places in the picture.
    values = [record[name] for record in records]
    assert np.allclose(np.polyval(np.polyfit(values, shown, 1), values), shown, atol=0.02)
  for record in tiny.records(model_dir, "validation"):
    row = f"<td>{record['step']}</td><td class=number>{record['loss']:.3f}</td>"
    assert row in page


def test_of_several_folders_those_that_are_no_runs_are_left_out(model_dir, tmp_path, capsys):
  (tmp_path / "compare").mkdir()
  output = tmp_path / "page.html"
  report.main(["report", str(model_dir), str(tmp_path / "compare"), f"--output={output}"])
  shown = capsys.readouterr()
  assert shown.err.startswith(f"left out: {tmp_path}/compare ") and shown.err.count("\n") == 1
  assert "Report of 2 runs" not in output.read_text()
  with pytest.raises(ConfigurationError, match="compare"):
    report.main(["report", str(tmp_path / "compare"), str(tmp_path / "none")])


def test_several_runs_and_their_files(model_dir, tmp_path, capsys):
  other = shutil.copytree(model_dir, tmp_path / "other")
  with (other / "metrics.jsonl").open("a") as file:
    file.write('{"step": 7, "split": "train", "lo')
  output = tmp_path / "new/both.html"
  words = [str(model_dir), str(other), f"--output={output}", "--also=png,csv,json"]
  report.main(["report", *words])
  written = [Path(line) for line in capsys.readouterr().out.splitlines()]
  assert [path.name for path in written] == ["both.html", "both.csv", "both.json", "both-png"]
  page = output.read_text()
  assert "Report of 2 runs" in page and "no records" not in page
  one, two = json.loads(written[2].read_text())["runs"]
  losses = [record["loss"] for record in tiny.records(model_dir)]
  assert one["curves"]["train"]["loss"]["values"] == losses
  assert two["curves"] == one["curves"]
  pictures = sorted(path.name for path in written[3].iterdir())
  assert "loss-train-steps.png" in pictures and "grad_norm.png" in pictures
  assert len(pictures) == page.count("<figure>")


def test_the_command_needs_no_jax_and_no_data(model_dir, tmp_path):
  program = """
import sys
for name in ("jax", "flax", "tensorflow", "seqio"):
  sys.modules[name] = None  # As if it were not installed.
from launch import report
report.main(sys.argv)
"""
  run = subprocess.run(
    [sys.executable, "-c", program, str(model_dir), f"--output={tmp_path}/page.html"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=100,
  )
  assert run.returncode == 0, run.stderr
  assert (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "No run is given; name its MODEL_DIR."),
    (["no_such"], "There is no folder no_such; name the MODEL_DIR of a run."),
    (["MODEL_DIR/checkpoints"], "checkpoints is no MODEL_DIR"),
    (["MODEL_DIR", "MODEL_DIR/"], "is given twice"),
    (["MODEL_DIR", "--also=pdf"], "--also=pdf is none of png, csv, json"),
    (["MODEL_DIR", "--output=x.png"], "--output='x.png' is the name of a page"),
    (["MODEL_DIR", "--output=MODEL_DIR/config/x.html"], "x.html cannot be written"),
    (["MODEL_DIR", "--out=x.html"], "There is no flag --out. Did you mean '--output'?"),
  ],
)
def test_mistakes_are_explained(model_dir, tmp_path, arguments, message):
  folder = shutil.copytree(model_dir, tmp_path / "run")
  (folder / "config").write_text("a file, where a folder is needed")
  with pytest.raises(ConfigurationError) as error:
    report.main(["report", *(x.replace("MODEL_DIR", str(folder)) for x in arguments)])
  assert message in str(error.value)
