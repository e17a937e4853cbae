"""Each process finds out whether the others write to the same MODEL_DIR."""

import concurrent.futures
import threading

import pytest

from launch.hosts import model_dir_probe


@pytest.fixture
def probe(monkeypatch):
  """Probes one folder for each process, all at once, as processes do."""
  monkeypatch.setattr(model_dir_probe, "_BETWEEN_SECONDS", 0.01)

  def run(folders):
    count = len(folders)
    barriers = {word: threading.Barrier(count, timeout=60) for word in ("written", "read")}
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
      jobs = [
        pool.submit(
          model_dir_probe.probe, folder, index, count, "x", lambda word: barriers[word].wait()
        )
        for index, folder in enumerate(folders)
      ]
      return [job.result() for job in jobs]

  return run


def test_one_folder(probe, tmp_path):
  assert probe([tmp_path] * 3) == [("", ())] * 3
  assert list(tmp_path.iterdir()) == []


def test_a_process_alone(probe, tmp_path):
  assert probe([tmp_path]) == [("", ())]


def test_a_folder_that_one_host_does_not_share(probe, tmp_path):
  other = tmp_path / "other"
  other.mkdir()
  assert probe([tmp_path, tmp_path, other]) == [("", ()), ("", (2,)), ("", (0,))]
  assert probe([tmp_path, other, other]) == [("", (1,)), ("", (0,)), ("", (0,))]


def test_a_folder_that_one_host_cannot_write(probe, tmp_path):
  (error, unseen), second = probe([tmp_path / "missing", tmp_path])
  assert error.startswith("FileNotFoundError: ") and unseen == (1,)
  assert second == ("", (0,))
