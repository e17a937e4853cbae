"""The command launch.benchmark: its flags, its table, its lines of JSON."""

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from launch import benchmark
from launch.process.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
ROWS = [
  {"group": "a small shape", "label": "plain", "milliseconds": 1234.5, "ratio": 1.0},
  {"group": "a small shape", "label": "lean", "milliseconds": 7.0, "ratio": None},
  {"group": "a large shape", "label": "lean", "ratio": 0.25},
]


def a_benchmark():
  module = types.ModuleType("a_benchmark")
  module.measure = lambda: iter(ROWS)
  module.COLUMNS = {"milliseconds": ("ms", ",.1f"), "ratio": ("of the plain", ".2f")}
  module.LABELS = ("plain", "lean")
  return module


def test_table(capsys):
  benchmark.show(a_benchmark(), ROWS)
  assert capsys.readouterr().out == (
    "\na small shape\n"
    "               ms of the plain\n"
    "  plain   1,234.5         1.00\n"
    "  lean        7.0            -\n"
    "\na large shape\n"
    "               ms of the plain\n"
    "  lean          -         0.25\n"
  )


def test_lines_of_json(capsys, monkeypatch):
  monkeypatch.setattr(benchmark.environment, "prepare", lambda: None)
  monkeypatch.setattr(benchmark.importlib, "import_module", lambda name: a_benchmark())
  benchmark.main(["benchmark", "loss", "--json"])
  assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == ROWS


def test_help_names_every_benchmark_and_no_flag_that_does_nothing(capsys):
  with pytest.raises(SystemExit):
    benchmark.main(["benchmark", "--help"])
  shown = capsys.readouterr().out
  in_a_line = " ".join(shown.split())  # Long lines are wrapped at the width of the terminal.
  for name in benchmark.BENCHMARKS:
    file = Path(benchmark.__file__).with_name("benchmarks") / f"{name}.py"
    about = file.read_text().splitlines()[0].strip('"')
    assert f"  {name} " in shown and f" {name} {about}" in in_a_line
  assert "--json" in shown and "--traceback" in shown and "dry_run" not in shown


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "Name one of: "),
    (["los"], "There is no benchmark 'los'. Did you mean 'loss'?"),
    (["loss", "loss"], "There is no benchmark 'loss loss'."),
    (["data_", "--against=hf"], "There is no benchmark 'data_'."),
    (["loss", "--jsn"], "There is no flag --jsn. Did you mean '--json'?"),
  ],
)
def test_mistakes(arguments, message):
  with pytest.raises(ConfigurationError) as caught:
    benchmark.main(["benchmark", *arguments])
  assert message in str(caught.value)


def test_flags_of_another_benchmark_are_refused(monkeypatch):
  monkeypatch.setattr(benchmark.environment, "prepare", lambda: None)
  monkeypatch.setattr(benchmark.importlib, "import_module", lambda name: a_benchmark())
  with pytest.raises(ConfigurationError, match="The benchmark loss takes no --against"):
    benchmark.main(["benchmark", "loss", "--against=hf"])


def test_every_module_that_measures_is_listed():
  measuring = {
    path.stem
    for path in (ROOT / "launch/benchmarks").glob("*.py")
    if "\nCOLUMNS = " in path.read_text()
  }
  assert measuring == set(benchmark.BENCHMARKS)


def test_benchmarks_of_the_core_load_no_tensorflow():
  program = (
    "import sys, launch.benchmark, launch.benchmarks.loss, launch.benchmarks.startup\n"
    "assert not {'tensorflow', 'seqio'} & set(sys.modules)"
  )
  subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=100)
