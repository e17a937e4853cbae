"""The heartbeat file: what it holds, and that it hinders nothing."""

import json
import os
import threading
import time

import pytest

from t5x_style.reporting import heartbeat


def until(condition):
  deadline = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.01)


def test_the_file_follows_the_run(tmp_path, monkeypatch):
  monkeypatch.setattr(heartbeat, "PERIOD_SECONDS", 0.05)
  path = tmp_path / "heartbeat.json"

  def read():
    return json.loads(path.read_text())  # Replaced as a whole: never half of it.

  start = time.time()
  with heartbeat.Heartbeat(path, process=0) as pulse:
    until(path.exists)
    assert (read()["state"], read()["step"], read()["pid"]) == ("starting", None, os.getpid())
    for step in range(1, 2000):
      pulse.beat("training", step)
    until(lambda: read()["step"] == 1999)
    progress, written = read()["progress_time"], read()["written_time"]
    until(lambda: read()["written_time"] > written)
    assert read()["progress_time"] == progress  # It hangs, but it lives.
    pulse.beat("finished")
  assert read()["state"] == "finished" and read()["step"] == 1999
  assert start <= read()["progress_time"] <= read()["written_time"] <= time.time()
  assert os.listdir(tmp_path) == ["heartbeat.json"]


def test_a_run_that_fails_says_so(tmp_path):
  with pytest.raises(KeyError), heartbeat.Heartbeat(tmp_path / "heartbeat.json"):
    raise KeyError
  assert json.loads((tmp_path / "heartbeat.json").read_text())["state"] == "failed"


def test_a_folder_that_cannot_be_written_hinders_nothing(tmp_path):
  (tmp_path / "heartbeat.json").mkdir()
  (tmp_path / "heartbeat.json/full").touch()
  with heartbeat.Heartbeat(tmp_path / "heartbeat.json") as pulse:
    pulse.beat("training", 1)


def test_without_a_path_nothing_runs():
  before = threading.active_count()
  with heartbeat.Heartbeat() as pulse:
    pulse.beat("training", 1)
    assert threading.active_count() == before
