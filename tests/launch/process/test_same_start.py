"""Processes of a job compare how they were started; tests/training/test_distributed.py trains."""

import os
import socket
import subprocess
import sys

from launch.process import same_start

PROGRAM = """
import sys, types
from launch.process import command, distributed, same_start
address, index, last = sys.argv[1:]
def main(_):
  distributed.connect(types.SimpleNamespace(
    coordinator_address=address, process_count=3, process_index=int(index)))
  same_start.check("settings", {"A": "1", "B": "2"})
  print("same settings", flush=True)
  same_start.meet("here")
  print(same_start.place(), same_start.gathered("words", f"of {index}"), flush=True)
  same_start.check("data", {"A": "1", "words": last} if index == "2" else {"A": "1"})
command.run(main)
"""


def start(last):
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    address = f"localhost:{probe.getsockname()[1]}"
  return [
    subprocess.Popen(
      [sys.executable, "-c", PROGRAM, address, str(index), last],
      env={**os.environ, "JAX_PLATFORMS": "cpu"},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(3)
  ]


def test_all_processes_say_what_differs():
  for index, process in enumerate(start("x" * 500)):
    output, errors = process.communicate(timeout=200)
    gathered = f"({index}, 3) ['of 0', 'of 1', 'of 2']"
    assert (process.returncode, output) == (2, f"same settings\n{gathered}\n"), errors
    host = socket.gethostname()
    where = f"process 0 runs on {host}, process 2 on {host}"
    assert f"were started with different data; {where}:\n" in errors
    assert f"  words: nothing in process 0, {'x' * 120} ... in process 2\n" in errors
    assert "  A: " not in errors


def test_a_single_process_has_nothing_to_compare():
  same_start.check("settings", {"A": "1"})
  same_start.report_mistake("no")
  same_start.meet("here")
  assert (same_start.place(), same_start.gathered("words", "mine")) == ((0, 1), ["mine"])


def test_the_values_of_a_tree_have_names():
  assert same_start.flat({"a": {"b": [1, {"c": 2}], "d": {}}, "e": None}, "data") == {
    "data.a.b": '[1, {"c": 2}]',
    "data.a.d": "{}",
    "data.e": "null",
  }


def test_the_software_is_named():
  import jax

  facts = same_start.software()
  assert facts["version of jax"] == jax.__version__
  assert len(facts["code of t5x_style"]) == 16


def test_where_a_program_is_dumped_to_does_not_count(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/a --xla_b=1")
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  assert same_start.software()["XLA_FLAGS"] == "--xla_b=1"
