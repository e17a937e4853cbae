"""A process whose standard streams are closed, or fail, does its work to the end."""

import subprocess
import sys

import pytest

# Prints much more than a pipe holds, then writes a file: only this says that the work was done.
PROGRAM = """
import os, sys
from launch.process import command, environment, output

def main(argv):
  output.tolerate_failures()
  with environment.quiet_imports():
    pass
  for i in range(20_000):
    print("line", i, flush=i % 100 == 0)
  print("trouble", file=sys.stderr)
  for descriptor in range(3):  # Inherited by other programs, too.
    assert os.get_inheritable(descriptor)
  assert os.open(argv[1], os.O_CREAT) > 2
  import rich.console
  rich.console.Console().print("more")
  open(argv[1], "w").write("done")
  return 75

command.run(main)
"""


@pytest.mark.parametrize(
  ("redirection", "said"),
  [
    ("> /dev/full", "warning: the standard output cannot be written (No space left on device)"),
    ("2> /dev/full > out", None),
    ("> /dev/full 2> /dev/full", None),
    (">&- 2> err", "trouble"),
    ("2>&- > out", None),
    ("<&- >&- 2>&-", None),
  ],
)
def test_streams_that_fail(redirection, said, tmp_path):
  (tmp_path / "program.py").write_text(PROGRAM)
  line = f'{{ "{sys.executable}" program.py file {redirection} ; }} 2>> err'
  done = subprocess.run(["bash", "-c", line], cwd=tmp_path, timeout=200)
  assert (tmp_path / "file").read_text() == "done"
  assert done.returncode == 75
  errors = (tmp_path / "err").read_text()
  assert errors.count("warning") == (1 if said and "warning" in said else 0), errors
  assert said is None or said in errors
  if "> out" in redirection:
    text = (tmp_path / "out").read_text()
    assert "line 19999\n" in text
    assert ("warning: the standard error cannot be written" in text) == ("/dev/full" in redirection)


def test_a_reader_that_ends(tmp_path):
  (tmp_path / "program.py").write_text(PROGRAM)
  line = f'"{sys.executable}" program.py file 2> err | head -2; exit ${{PIPESTATUS[0]}}'
  done = subprocess.run(
    ["bash", "-c", line], cwd=tmp_path, timeout=200, capture_output=True, text=True
  )
  assert (done.returncode, done.stdout) == (75, "line 0\nline 1\n")
  assert (tmp_path / "file").read_text() == "done"
  assert (tmp_path / "err").read_text() == (
    "\nwarning: the standard output cannot be written (Broken pipe); what is printed there is "
    "lost, and the run continues.\ntrouble\n"
  )


def test_what_can_be_written_again_is(tmp_path):
  """As a log on a full disk when there is room; here a limit of the file's size is lifted."""
  program = """
import resource, signal, sys
from launch.process import output
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
output.tolerate_failures()
resource.setrlimit(resource.RLIMIT_FSIZE, (4, -1))
print("abcdefgh", flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, -1))
print("second", flush=True)
"""
  with (tmp_path / "out").open("w") as out:
    subprocess.run([sys.executable, "-c", program], stdout=out, check=True, timeout=100)
  assert (tmp_path / "out").read_text() == "abcdsecond\n"
