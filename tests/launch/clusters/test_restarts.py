"""A run is started again exactly where its exit code says so, and not for ever."""

import pytest

from launch.clusters import restarts
from launch.process.exit_codes import ExitCode


def last_code(codes, steps=()):
  """Returns the result, and how many attempts were made; `steps` are those they resumed from."""
  left, steps, said = list(codes), [*steps], []

  def attempt():
    return restarts.Ended(left.pop(0), steps.pop(0) if steps else None)

  code = restarts.until_done(attempt, said.append, sleep=lambda _: None)
  attempts = len(codes) - len(left)
  again = sum(line.endswith(": the run is started again.") for line in said)
  assert again == attempts - 1
  gave_up = [line for line in said if line.endswith(": the run is not started again.")]
  assert len(said) == again + len(gave_up)
  assert bool(gave_up) == (restarts.attempts_after(code) > 1)
  return code, attempts


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


def test_a_run_that_makes_progress_is_started_again_any_number_of_times():
  """A preemption every few minutes, each time with one more step saved."""
  assert last_code([75, None, 137] * 30 + [0], range(91)) == (0, 91)
  assert last_code([1] * 50 + [0], range(51)) == (0, 51)


def test_attempts_from_the_same_step_count():
  # 10 new steps, and then the same one for ever: also where an older checkpoint is taken.
  assert last_code([75] * 60, [*range(10), *[9, 8] * 30]) == (75, 10 + 20 - 1)


def test_preemptions_do_not_count_as_errors():
  assert last_code([75, None, 75, 1, 76, 1, 0]) == (0, 7)
  assert last_code([75, None, 75, 1, 76, 1, 75, 1]) == (1, 8)


def test_hosts_that_cannot_be_reached_get_time_to_come_back():
  """An hour in all; machines that are taken away from a run cost seconds."""
  pauses = []
  restarts.until_done(lambda: restarts.Ended(None), lambda line: None, sleep=pauses.append)
  assert pauses[:6] == [10, 20, 40, 80, 160, 300]
  assert 3600 < sum(pauses) < 7200
  ends = [restarts.Ended(75, step) if step < 4 else restarts.Ended(0) for step in range(5)]
  pauses.clear()
  restarts.until_done(lambda: ends.pop(0), lambda line: None, sleep=pauses.append)
  assert pauses == [10] * 4


def test_the_reason_is_said():
  said = []
  ends = [restarts.Ended(1, 1200)] * 3
  restarts.until_done(lambda: ends.pop(), said.append, sleep=lambda _: None)
  assert said[-1] == (
    "Exit code 1, 3 times without progress (no step after 1,200 was saved): "
    "the run is not started again."
  )


def test_the_table_of_exit_codes_agrees():
  for code in ExitCode:
    again = {"yes": 20, "a few times": 3}.get(code.start_again, 1)
    assert restarts.attempts_after(code) == again, code.name
