"""The exit codes: the table of launch/clusters is the one of the code."""

from pathlib import Path

from launch.process import exit_codes
from launch.process.exit_codes import ExitCode

ROOT = Path(__file__).parents[3]


def test_the_table_in_launch_cloud_is_the_one_of_the_code():
  assert exit_codes.table() in (ROOT / "launch/clusters/README.md").read_text()


def test_a_run_that_has_saved():
  assert exit_codes.of_stopped_run(None) == 0
  assert exit_codes.of_stopped_run("SIGTERM") == 75
  assert exit_codes.of_stopped_run("SIGINT") == 130


def test_no_code_is_one_that_a_shell_or_python_gives_to_something_else():
  """126 and 127: not found. 128 + n: ended by signal n, which 130 and 141 have to look like."""
  odd = {126, 127} | set(range(128, 256))
  assert {code for code in ExitCode if code in odd} == {130, 141}
