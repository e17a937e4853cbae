"""The trial on real text: it resumes after SIGKILL with the same losses, without TensorFlow."""

import pytest

from launch.benchmarks import text


@pytest.mark.slow
def test_a_tiny_run_is_killed_and_resumed_without_tensorflow(tmp_path, monkeypatch):
  for name in ("tensorflow", "seqio", "apache_beam"):
    (tmp_path / f"{name}.py").write_text("raise ImportError('not on this machine')\n")
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
  cache, plain, killed, in_8_bits = text.measure(tiny=True, to=str(tmp_path / "runs"))
  assert cache["tokens"] > 50_000
  assert plain["held_out_loss"] < plain["first_loss"] - 0.3
  assert 50 <= killed["killed_after"] < 200
  assert killed["same"] == "yes" and killed["held_out_loss"] == plain["held_out_loss"]
  assert in_8_bits["held_out_loss"] != plain["held_out_loss"]
  assert in_8_bits["loss_ratio"] == pytest.approx(1.0, abs=0.1)


def test_half_a_line_of_a_killed_process_is_no_record(tmp_path):
  (tmp_path / "a").mkdir()
  lines = '{"step": 1, "split": "train", "loss": 2.0}\n{"step": 2, "spl'
  (tmp_path / "a/metrics.jsonl").write_text(lines)
  assert text._Runs({}, tmp_path).losses("a") == {(1, "train"): 2.0}
