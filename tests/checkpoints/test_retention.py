"""The newest and the best checkpoints stay, whatever of their losses can be read."""

import json
import math

from etils import epath

from t5x_style.checkpoints import retention


def test_the_newest_and_the_best_stay():
  losses = {1: 2.0, 2: 5.0, 3: 2.0, 4: 9.0}
  assert retention.steps_to_remove([1, 2, 3, 4, 5], losses, keep=2, keep_best=1) == [1, 2]
  assert retention.steps_to_remove([1, 2, 3, 4, 5], losses, keep=1, keep_best=2) == [2, 4]
  assert retention.steps_to_remove([5, 1], {}, keep=1, keep_best=3) == [1]
  assert retention.steps_to_remove([7], {}, keep=1, keep_best=0) == []


def test_a_loss_that_is_not_finite_is_never_the_best():
  losses = {1: math.nan, 2: -math.inf, 3: 4.0, 4: 5.0}
  assert retention.steps_to_remove([1, 2, 3, 4], losses, keep=1, keep_best=1) == [1, 2]


def test_the_best_has_the_highest_accuracy_or_the_lowest_loss(tmp_path):
  steps = [epath.Path(tmp_path) / str(step) for step in (1, 2, 3, 4)]
  values = [(0.2, 1.0), (0.9, 3.0), (0.9, 2.0), (None, None)]
  for metric, best in (("accuracy", steps[2]), ("loss", steps[0])):
    for step, (accuracy, loss) in zip(steps, values, strict=True):
      (step / "run").mkdir(parents=True, exist_ok=True)
      saved = {} if loss is None else {"loss": loss, "accuracy": accuracy}
      run = {"best_metric": metric, "validation": saved, "validation_loss": loss}
      (step / "run/metadata").write_text(json.dumps(run))
    assert retention.best_of(steps) == best
  assert retention.best_of(steps[3:]) is None
  (steps[3] / "run/metadata").write_text(json.dumps({"validation_loss": 0.5}))
  assert retention.best_of(steps) == steps[3]  # of a version without best_metric


def test_losses_are_read_where_they_can_be(tmp_path):
  step = epath.Path(tmp_path)
  assert retention.validation_loss(step) is None
  (step / "metrics").mkdir()
  (step / "metrics/metrics").write_text(json.dumps({"loss": 3}))  # as Orbax stores it
  assert retention.validation_loss(step) == 3.0
  (step / "run").mkdir()
  for unreadable in ("", "[", "[]", "{}", '{"validation_loss": null}', '{"validation_loss": "x"}'):
    (step / "run/metadata").write_text(unreadable)
    assert retention.validation_loss(step) == 3.0, unreadable
  (step / "run/metadata").write_bytes(b"\xff\xfe{")
  assert retention.validation_loss(step) == 3.0
  (step / "run/metadata").write_text('{"validation_loss": 2.5}')
  assert retention.validation_loss(step) == 2.5
