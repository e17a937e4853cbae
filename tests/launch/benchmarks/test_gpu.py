"""A GPU day: one failure stops nothing, time is kept, a second start does what is left."""

import importlib
import json
import time

import pytest

from launch import benchmark
from launch.benchmarks import gpu, gpu_parts, gpu_results
from launch.benchmarks.gpu_parts import Part
from launch.process.errors import ConfigurationError

ROW = '{"group": "a", "label": "b", "figure": 1}'


def python(name, program, least=1, most=60, missing=""):
  return Part(name, "", ("-c", program), least, most, missing)


def day(monkeypatch, folder, parts, minutes=1.0, **more):
  """Runs the parts as one day; returns ({part: outcome}, whether it ended with code 1)."""
  monkeypatch.setattr(gpu_parts, "chosen", lambda tiny, names: parts)
  outcomes, failed = {}, False
  try:
    for row in gpu.measure(minutes, str(folder), **more):
      outcomes[row["label"]] = row["outcome"]
  except SystemExit as error:
    failed = error.code == 1
  return outcomes, failed


def test_failures_and_long_parts_stop_no_other_part(monkeypatch, tmp_path):
  forever = f"import time; print('{ROW}', flush=True); time.sleep(600)"
  parts = [
    python("good", f"print('noise'); print('{ROW}')"),
    python("bad", f"print('{ROW}'); raise ValueError('no such kernel')"),
    python("slow", forever, most=2),
    python("absent", "", missing="torch not installed"),
    python("last", f"print('{ROW}')"),
  ]
  begun = time.monotonic()
  outcomes, failed = day(monkeypatch, tmp_path, parts)
  assert time.monotonic() - begun < 60
  assert outcomes == {
    "good": "done",
    "bad": "failed",
    "slow": "ended",
    "absent": "left out",
    "last": "done",
  }
  assert failed
  content = json.loads((tmp_path / "gpu.json").read_text())
  found = content["parts"]
  assert [len(found[part.name]["rows"]) for part in parts] == [1, 1, 1, 0, 1]
  assert found["bad"]["why"] == "code 1: ValueError: no such kernel"
  assert {"card", "driver", "versions"} <= content["machine"].keys()
  tables = (tmp_path / "tables.md").read_text()
  assert "bad failed: code 1: ValueError: no such kernel." in tables
  assert "Left out: absent (torch not installed)." in tables


def test_a_second_start_does_what_is_left(monkeypatch, tmp_path):
  count = f"open({str(tmp_path / 'count')!r}, 'a').write('x')"
  fails_once = f"import os, sys; p = {str(tmp_path / 'tried')!r}\nif not os.path.exists(p):\n"
  parts = [
    python("good", count),
    python("unlucky", f"{fails_once}  open(p, 'w'); sys.exit(3)"),
  ]
  monkeypatch.setattr(gpu, "_ENOUGH_TO_TRY", 1e9)  # No time at all.
  outcomes, failed = day(monkeypatch, tmp_path / "day", parts)
  assert outcomes == {"good": "left out", "unlucky": "left out"} and not failed
  monkeypatch.undo()
  assert day(monkeypatch, tmp_path / "day", parts) == ({"good": "done", "unlucky": "failed"}, True)
  assert day(monkeypatch, tmp_path / "day", parts) == ({"unlucky": "done"}, False)
  assert (tmp_path / "count").read_text() == "x"


def test_results_of_another_machine_are_refused(monkeypatch, tmp_path):
  monkeypatch.setattr(gpu_results, "machine", lambda: {"card": "A", "driver": "1", "versions": {}})
  day(monkeypatch, tmp_path, [])
  gpu_results.Results.open(tmp_path, tiny=True).add("a", {"outcome": "done"})
  monkeypatch.setattr(gpu_results, "machine", lambda: {"card": "B", "driver": "1", "versions": {}})
  with pytest.raises(ConfigurationError, match="results of another machine"):
    next(gpu.measure(to=str(tmp_path)))


def test_every_part_names_a_benchmark_that_takes_its_flags():
  for tiny in (False, True):
    for part in gpu_parts.chosen(tiny, None):
      assert 0 < part.least < part.most
      if part.name in ("tests", "predictions"):
        continue
      _, module, name, *flags = part.arguments
      assert module.endswith("benchmark") and name in benchmark.BENCHMARKS
      taken = importlib.import_module(f"launch.benchmarks.{name}").FLAGS
      assert {flag.lstrip("-").partition("=")[0] for flag in flags} <= {"json", *taken}


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({}, "Where to\\? Write e.g. --to=gpu_day"),
    ({"to": "x", "parts": "step T6"}, "there is no part 'step T6'. Did you mean 'step T5'?"),
  ],
)
def test_mistakes(monkeypatch, tmp_path, arguments, message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ConfigurationError, match=message):
    list(gpu.measure(**arguments))


@pytest.mark.slow
def test_a_day_of_tiny_sizes(tmp_path):
  """Every part but those with torch.compile, which takes a minute for each; nothing is patched."""
  names = [part.name for part in gpu_parts.parts(True) if "hf" not in str(part.arguments)]
  rows = list(gpu.measure(20.0, str(tmp_path), ",".join(names), tiny=True))
  content = json.loads((tmp_path / "gpu.json").read_text())
  outcomes = {row["label"]: row["outcome"] for row in rows}
  expected = dict.fromkeys(names, "done") | {"predictions": "left out"}
  assert outcomes == expected, content
  tables = (tmp_path / "tables.md").read_text()
  assert "| decoder, tiny: 2 x 16 tokens, float32 |" in tables and "FP8: " not in tables
  assert "tiny sizes: no figures" in tables
  assert "ms of operations a step" in (tmp_path / "step-alone/T5-tiny.txt").read_text()
  for name in ("step alone", "loss", "attention", "fp8"):
    for row in content["parts"][name]["rows"]:
      assert row["flop_formula"] and row["precision"], row
