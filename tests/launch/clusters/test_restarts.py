"""A run is started again exactly where its exit code says so, and not for ever."""

import pytest

from launch.clusters import restarts
from launch.process.exit_codes import ExitCode


def last_code(codes, seconds=1.0):
  """Returns the result, and how many attempts were made; each takes some seconds."""
  left, said = list(codes), []

  def attempt():
    return restarts.Ended(left.pop(0), seconds)

  code = restarts.until_done(attempt, said.append, sleep=lambda _: None)
  assert len(said) == len(codes) - len(left) - 1
  return code, len(codes) - len(left)


@pytest.mark.parametrize("code", [75, 76, 137, 143, None])
def test_started_again(code):
  assert last_code([code, code, 0]) == (0, 3)


@pytest.mark.parametrize("code", [0, 2, 3, 4, 65, 130, 141])
def test_not_started_again(code):
  assert last_code([code, 0]) == (code, 1)


def test_an_unknown_error_is_tried_a_few_times():
  assert last_code([1, 1, 0]) == (0, 3)
  assert last_code([1] * 9) == (1, 3)


def test_not_for_ever():
  assert last_code([75] * 30) == (75, 20)
  assert last_code([None] * 30) == (ExitCode.PROCESS_LOST, 20)


def test_attempts_that_trained_do_not_count():
  assert last_code([75] * 30 + [0], seconds=3000.0) == (0, 31)


def test_attempts_that_waited_for_a_process_count():
  """Processes wait 1,800 s for one that never joins."""
  assert last_code([76] * 30, seconds=1900.0) == (76, 20)


def test_the_table_of_exit_codes_agrees():
  for code in ExitCode:
    again = {"yes": 20, "a few times": 3}.get(code.start_again, 1)
    assert restarts.attempts_after(code) == again, code.name
