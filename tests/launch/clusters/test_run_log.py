"""Lines of a run are printed once, whatever connections repeat, and say how far the run is."""

from launch.clusters import run_log

BEGAN = "Log of the run that began at {}, from line {}:\n"


def test_lines_that_connections_repeat_are_printed_once():
  said = []
  log = run_log.RunLog(said.append)
  assert log.request() == ["+1"]
  # gcloud connects again by itself, with the same command; then its connection breaks in a line.
  lines = [BEGAN.format("T1", 1), "a\n", "b\n", BEGAN.format("T1", 1), "a\n", "b\n", "c\n", "d"]
  assert log.read(lines) is None
  assert said == ["a", "b", "c", "d"]
  assert log.request() == ["+4", "T1"]
  assert log.read([BEGAN.format("T1", 4), "de\n", "The run ended with exit code 75.\n"]) == 75
  assert said[4:] == ["de", "The run ended with exit code 75."]
  assert log.request() == ["+5", "T1"]


def test_the_next_run_is_printed_from_its_first_line():
  said = []
  log = run_log.RunLog(said.append)
  log.read([BEGAN.format("T1", 1), "a\n", "b\n"])
  log.read([BEGAN.format("T2", 1), "a\n"])
  assert said == ["a", "b", "a"]
  assert log.request() == ["+2", "T2"]


def test_a_log_from_the_middle_says_so():
  said = []
  log = run_log.RunLog(said.append)
  log.read([BEGAN.format("T1", 300), "x\n"])
  assert said == ["Log of the run that began at T1, from line 300:", "x"]
  assert log.request() == ["+301", "T1"]


def test_the_newest_step_that_a_run_resumed_from():
  log = run_log.RunLog(lambda line: None)
  log.read(["step   900/2,000  loss 3.1\n"])
  assert log.saved_step is None
  for step, newest in (("1,200", 1200), ("40", 1200), ("1,201", 1201)):
    log.read([f"Resuming from step {step}.\n"])
    assert log.saved_step == newest
