"""Child processes: real ones, which sleep, fail, are killed, and die with their parent."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from launch.comparison import processes
from launch.process import environment
from launch.process.errors import ConfigurationError

ACTS = {
  "say.py": "import sys\nprint(*sys.argv[1:])",
  "fail.py": """
    import sys
    print("first", flush=True)
    sys.exit(print("error: the cause\\nand its second line", file=sys.stderr) or 2)
  """,
  "again.py": """
    import pathlib, sys
    path = pathlib.Path(sys.argv[1])
    path.write_text(path.read_text() + "x" if path.exists() else "x")
    sys.exit(75 if len(path.read_text()) < int(sys.argv[2]) else 0)
  """,
  "where.py": "import os\nprint(sorted(os.sched_getaffinity(0)), os.environ.get('PART'))",
  "sleep.py": """
    import pathlib, os, signal, sys, time
    def end(*_):
      pathlib.Path(sys.argv[1] + ".saved").touch()
      sys.exit(75)
    signal.signal(signal.SIGTERM, end)
    pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
    time.sleep(600)
  """,
}


@pytest.fixture
def acts(tmp_path, monkeypatch):
  """A package of small programs in place of launch; the folder of their outputs."""
  package = tmp_path / "acts"
  package.mkdir()
  for name, text in {"__init__.py": "", **ACTS}.items():
    (package / name).write_text(textwrap.dedent(text))
  monkeypatch.setattr(environment, "PACKAGE", "acts")
  monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
  return tmp_path


SILENT = lambda active: None


@pytest.fixture
def signals():
  """The signals of this process, caught until the test ends."""
  with processes.Signals() as caught:
    yield caught


class Job:
  def __init__(self, folder, name, *stages):
    self.log, self._stages = folder / f"{name}.log", stages
    self.done, self.why = [], None

  def stages(self):
    for module, *arguments in self._stages:
      yield processes.Stage(module, module, list(map(str, arguments)))

  def finished(self, stage, seconds):
    assert seconds > 0
    self.done.append(stage.name)

  def failed(self, stage, message):
    self.why = f"{stage.name}: {message}"


def wait_for(path):
  deadline = time.monotonic() + 60
  while not (path.exists() and path.read_text()):
    assert time.monotonic() < deadline, path
    time.sleep(0.02)
  return path.read_text()


def test_a_job_that_fails_ends_and_the_others_are_done(acts, signals):
  bad = Job(acts, "bad", ("say", "one"), ("fail",), ("say", "never"))
  good = Job(acts, "good", ("say", "one"), ("say", "two words"))
  processes.run_all([bad, good], [processes.WHOLE], SILENT, signals)
  assert (bad.done, bad.why) == (["say"], "fail: the cause\nand its second line")
  assert (good.done, good.why) == (["say", "say"], None)
  lines = good.log.read_text().splitlines()
  assert lines == [
    "$ python -m acts.say one",
    "one",
    "$ python -m acts.say 'two words'",
    "two words",
  ]


@pytest.mark.parametrize(("needed", "why"), [(2, None), (9, "again: it ended with code 75")])
def test_a_process_that_was_preempted_is_started_again_but_not_for_ever(acts, signals, needed, why):
  job = Job(acts, "job", ("again", acts / "count", needed))
  processes.run_all([job], [processes.WHOLE], SILENT, signals)
  assert job.why == why
  assert len((acts / "count").read_text()) == min(needed, 3)


def test_each_place_has_its_part_of_the_machine(acts, signals):
  cores = sorted(os.sched_getaffinity(0))
  parts = [processes.Place({"PART": str(core)}, (core,)) for core in cores[:2]]
  jobs = [Job(acts, f"job{i}", ("where",)) for i in range(len(parts))]
  processes.run_all(jobs, parts, SILENT, signals)
  shown = {job.log.read_text().splitlines()[1] for job in jobs}
  assert shown <= {f"[{core}] {core}" for core in cores[:2]} and shown


def test_places_divide_gpus_or_cores():
  given = {"CUDA_VISIBLE_DEVICES": "4,5,6", "JAX_PLATFORMS": "cuda"}
  assert [x.environ for x in processes.places(3, given)] == [
    {"CUDA_VISIBLE_DEVICES": name} for name in "456"
  ]
  assert processes.places(1, given) == [processes.WHOLE]
  with pytest.raises(ConfigurationError, match="there are 3 GPUs; each run needs one"):
    processes.places(4, given)
  with pytest.raises(ConfigurationError, match="A TPU is not divided"):
    processes.places(2, {"JAX_PLATFORMS": "tpu"})
  count = len(os.sched_getaffinity(0))
  found = processes.places(count, {"JAX_PLATFORMS": "cpu"})
  assert sorted(core for place in found for core in place.cores) == sorted(os.sched_getaffinity(0))
  with pytest.raises(ConfigurationError, match=f"{count} processor cores"):
    processes.places(count + 1, {"JAX_PLATFORMS": "cpu"})


def test_a_signal_lets_the_children_save(acts):
  job, waiting = Job(acts, "job", ("sleep", acts / "pid")), Job(acts, "next", ("say", "x"))

  def interrupt():
    wait_for(acts / "pid")
    os.kill(os.getpid(), signal.SIGINT)

  threading.Thread(target=interrupt).start()
  with processes.Signals() as signals, pytest.raises(processes.Stopped) as caught:
    processes.run_all([job, waiting], [processes.WHOLE], SILENT, signals)
  assert caught.value.number == signal.SIGINT
  assert (acts / "pid.saved").exists() and not waiting.log.exists()
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is of Linux")
def test_children_die_with_a_parent_that_is_killed(acts):
  program = """
import sys
from pathlib import Path
from launch.comparison import processes
from launch.process import environment
environment.PACKAGE = "acts"
processes.run("sleep", [sys.argv[1]], Path(sys.argv[2]), processes.Signals())
"""
  words = [sys.executable, "-c", program, str(acts / "pid"), str(acts / "log")]
  parent = subprocess.Popen(words, cwd=Path(__file__).parents[3])
  child = int(wait_for(acts / "pid"))
  parent.send_signal(signal.SIGKILL)
  parent.wait()
  deadline = time.monotonic() + 30
  while Path(f"/proc/{child}").exists() and "\nState:\tZ" not in _status(child):
    assert time.monotonic() < deadline
    time.sleep(0.02)
  assert not (acts / "pid.saved").exists()


def _status(process):
  try:
    return Path(f"/proc/{process}/status").read_text()
  except OSError:
    return "\nState:\tZ"


def test_one_command_that_fails_says_why(acts, signals):
  processes.run("say", ["x"], acts / "log", signals)
  with pytest.raises(ConfigurationError, match="the cause"):
    processes.run("fail", [], acts / "log", signals)
