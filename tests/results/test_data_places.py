"""The batch of a step after rollbacks, against a run that is played step by step."""

import json

import pytest

from t5x_style.errors import UserError
from t5x_style.results import data_places

FIRST, LAST, PERIOD = 0, 60, 10
# (steps taken so far, the checkpoint that is restored); one goes back twice to the same.
ROLLBACKS = [(23, 20), (24, 20), (37, 30), (41, 40)]


def played():
  """Returns {step: batch} as the run ended, and {checkpoint: its place in the data}."""
  batches, places = {}, {0: 0}
  step, place, left = 0, 0, list(ROLLBACKS)
  while step < LAST:
    step, place = step + 1, place + 1
    batches[step] = place - 1
    if left and left[0][0] == step:
      step = left.pop(0)[1]
      continue
    if step % PERIOD == 0:
      places[step] = place
  del places[0]
  return batches, places


def write(folder, places, rollbacks=True):
  for step, place in places.items():
    (folder / f"checkpoints/{step}/data").mkdir(parents=True)
    (folder / f"checkpoints/{step}/data/stream_00000").write_text(json.dumps({"batch": place}))
  record = {"step": 60, "split": "train"} | ({"rollbacks": 4} if rollbacks else {})
  (folder / "metrics.jsonl").write_text(json.dumps(record) + "\n")


def batch(folder, step, **changes):
  settings = {"first": FIRST, "last": LAST, "save_period": PERIOD} | changes
  return data_places.batch_of_step(folder, step, **settings)


def test_every_step_of_a_run_that_rolled_back(tmp_path):
  batches, places = played()
  assert batches[21] == 27  # Its first two attempts had batches 20 and 23.
  write(tmp_path, places)
  assert {step: batch(tmp_path, step) for step in batches} == batches


def test_without_a_rollback_no_checkpoint_is_needed(tmp_path):
  assert batch(tmp_path, 7) == 6
  write(tmp_path, {}, rollbacks=False)
  assert batch(tmp_path, 47, first=40) == 6


def test_what_removed_checkpoints_would_say_is_not_guessed(tmp_path):
  batches, places = played()
  write(tmp_path, {step: places[step] for step in (20, 50)})
  with pytest.raises(UserError, match="no checkpoint between step 20 and step 50"):
    batch(tmp_path, 35)
  with pytest.raises(UserError, match="no checkpoint after step 50"):
    batch(tmp_path, 55)
  assert batch(tmp_path, 15) == batches[15]


def test_a_checkpoint_of_another_stage_says_nothing(tmp_path):
  write(tmp_path, {20: 99, 30: 10, 40: 20})
  assert batch(tmp_path, 35, first=20, last=40) == 14
