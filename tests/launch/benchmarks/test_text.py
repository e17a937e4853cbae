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
  assert text._Runs({}, tmp_path, tmp_path).losses("a") == {(1, "train"): 2.0}


def test_runs_with_other_losses_or_records_differ():
  one = {(1, "train"): 2.0, (2, "train"): 1.0}
  assert text._largest_difference(one, dict(one)) == 0
  assert text._largest_difference(one, one | {(2, "train"): 1.1}) == pytest.approx(0.1)
  assert text._largest_difference(one, {(1, "train"): 2.0}) == float("inf")


@pytest.mark.parametrize(("resumed_loss", "same"), [(2.0, "yes"), (2.01, "within 5.0e-03")])
def test_where_no_run_is_deterministic_the_losses_may_differ_a_little(
  tmp_path, monkeypatch, resumed_loss, same
):
  def train(runs, name, *more):
    if runs.deterministic:
      raise ValueError("launch.train ended with code 1: no deterministic scatter")
    return {"held_out_loss": 2.0}

  def losses(runs, name):
    return {(1, "train"): resumed_loss if name == "resumed" else 2.0}

  monkeypatch.setattr(text._Runs, "train", train)
  monkeypatch.setattr(text._Runs, "losses", losses)
  monkeypatch.setattr(text._Runs, "train_until_killed", lambda runs, name: 7)
  tiny = text._TINY._replace(text_bytes=1000)
  rows = list(text._measure(tiny, tmp_path))
  assert "no deterministic scatter" in rows[1]["error"]
  assert (rows[3]["killed_after"], rows[3]["same"]) == (7, same)
