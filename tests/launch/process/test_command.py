"""What the terminal shows of an error, and how the process ends."""

import os
import pty
import subprocess
import sys

import pytest

from launch.process import command, same_start, watchdog
from launch.process.errors import ConfigurationError
from t5x_style.errors import StorageError, UserError


def run(main, *arguments):
  with pytest.raises(SystemExit) as caught:
    command.run(main, ["train", *arguments])
  return caught.value.code


def fail(error):
  def main(argv):
    raise error

  return main


def test_mistakes_show_without_traceback(capsys):
  assert run(fail(ConfigurationError("BATCH_SIZE = 3\n  x.gin:1: BATCH_SIZE = 3"))) == 2
  assert capsys.readouterr().err == "\nerror: BATCH_SIZE = 3\n  x.gin:1: BATCH_SIZE = 3\n"


@pytest.mark.parametrize(
  ("variables", "coloured"),
  [
    ({"TERM": "xterm-256color"}, True),
    ({"TERM": "xterm-256color", "NO_COLOR": ""}, True),
    ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
    ({"TERM": "dumb"}, False),
  ],
)
def test_a_terminal_shows_a_mistake_in_red_unless_it_is_told_not_to(variables, coloured):
  """The environments of no-color.org, in a real terminal."""
  program = """
from launch.process import command, errors
def main(argv):
  raise errors.ConfigurationError("BATCH_SIZE = 3")
command.run(main, ["train"])
"""
  mine, terminal = pty.openpty()
  environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")}
  done = subprocess.run(
    [sys.executable, "-c", program], env=environment | variables, stderr=terminal, timeout=60
  )
  os.close(terminal)
  text = os.read(mine, 10_000).decode()
  os.close(mine)
  assert done.returncode == 2
  red, plain = ("\033[1;31m", "\033[0m") if coloured else ("", "")
  assert text == f"\r\n{red}error:{plain} BATCH_SIZE = 3\r\n"


@pytest.mark.parametrize(
  ("variables", "accented"),
  [
    ({"PYTHONIOENCODING": "latin-1"}, b"\xe9"),
    ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, b"\\xe9"),
  ],
)
def test_characters_that_the_locale_lacks_are_escaped(variables, accented):
  program = """
from launch.process import command, output
def main(argv):
  print("caf\\u00e9 \\u306f")
  output.tolerate_failures()
  print("more \\u306f")
command.run(main, ["train"])
"""
  environment = {**os.environ, **variables}
  done = subprocess.run(
    [sys.executable, "-c", program], env=environment, capture_output=True, timeout=60
  )
  assert (done.returncode, done.stderr) == (0, b"")
  assert done.stdout == b"caf" + accented + b" \\u306f\nmore \\u306f\n"


def test_traceback_on_request(capsys):
  assert run(fail(ConfigurationError("no")), "--traceback") == 2
  text = capsys.readouterr().err
  assert "Traceback" in text
  assert text.endswith("\nerror: no\n")


def test_exit_codes(capsys):
  assert run(lambda argv: None) == 0
  assert run(lambda argv: 75) == 75
  assert run(fail(FloatingPointError("loss is nan at step 3"))) == 3
  assert run(fail(StorageError("step 3 is not saved"))) == 4
  assert "error: loss is nan at step 3" in capsys.readouterr().err
  assert run(fail(KeyboardInterrupt())) == 130


def test_other_processes_are_told_what_only_one_of_them_may_see(monkeypatch):
  told = []
  monkeypatch.setattr(same_start, "report_mistake", told.append)
  for error in (StorageError("no room"), ConfigurationError("wrong"), FloatingPointError("NaN")):
    run(fail(error))
  assert told == ["no room", "wrong"]


def test_a_lost_process_has_its_own_code(monkeypatch, capsys):
  left = []
  monkeypatch.setattr(watchdog, "_finished", [os.open(os.devnull, os.O_WRONLY)])
  monkeypatch.setattr(os, "_exit", left.append)
  run(fail(RuntimeError("UNAVAILABLE: Socket closed")))
  assert left == [76]
  assert "Start all processes again" in capsys.readouterr().err


def test_a_programming_error_is_not_a_mistake():
  with pytest.raises(ValueError, match="shapes"):
    command.run(fail(ValueError("shapes")), ["train"])


def test_a_mistake_found_late_shows_without_traceback(capsys):
  assert run(fail(UserError("x.jsonl is damaged"))) == 2
  assert capsys.readouterr().err == "\nerror: x.jsonl is damaged\n"


@pytest.mark.parametrize(
  "main",
  [
    "print('x' * 100_000)",
    "print('x')",  # Less than a buffer, which Python writes at the end.
    "print('x'), sys.exit(0)",  # as --help does
    "rich.print('x')",
  ],
)
def test_a_reader_that_has_ended_ends_the_command_quietly(main):
  program = f"""
import sys, rich
from launch.process import command
sys.stdin.read()
command.run(lambda argv: ({main}))
"""
  pipe = subprocess.PIPE
  with subprocess.Popen(
    [sys.executable, "-c", program], stdin=pipe, stdout=pipe, stderr=pipe
  ) as process:
    process.stdout.close()
    _, errors = process.communicate(timeout=200)
  assert (process.returncode, errors) == (141, b"")


def test_a_broken_connection_is_not_a_closed_output():
  program = """
import os
from launch.process import command
def main(argv):
  reading, writing = os.pipe()
  os.close(reading)
  os.write(writing, b"x")
command.run(main)
"""
  found = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=200)
  assert found.returncode == 1
  assert b"BrokenPipeError" in found.stderr
