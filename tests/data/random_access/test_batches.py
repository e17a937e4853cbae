"""The iterator: its place is one number, also after an error of reading."""

import json
import threading

import numpy as np
import pytest

from t5x_style.data.random_access.batches import BatchIterator, Made
from t5x_style.errors import UserError


def iterator(make=None, identity="data"):
  return BatchIterator(make or (lambda n: Made({"x": np.array([n])}, n % 2)), identity)


def read(batches, count):
  return [int(next(batches)["x"][0]) for _ in range(count)]


def test_batches_come_in_order_and_resume_anywhere():
  batches = iterator()
  assert read(batches, 5) == [0, 1, 2, 3, 4]
  state = batches.get_state()
  assert read(batches, 2) == [5, 6]
  other = iterator()
  read(other, 3)
  other.set_state(state)
  assert read(other, 3) == [5, 6, 7]
  assert [*state] == ["stream_00000"] and len(state["stream_00000"]) < 100
  other.set_state({"stream_00000": json.dumps({"batch": 10**12, "data": "data"}).encode()})
  assert read(other, 2) == [10**12, 10**12 + 1]


def test_no_batch_before_the_place_is_made():
  made = []
  batches = iterator(lambda n: made.append(n) or Made({"x": np.array([n])}, 0))
  batches.set_state({"stream_00000": json.dumps({"batch": 20_000, "data": "data"}).encode()})
  read(batches, 3)
  assert min(made) == 20_000 and len(made) < 20


def test_batches_are_made_ahead_in_threads():
  threads, ready = set(), threading.Event()

  def make(number):
    threads.add(threading.current_thread().name)
    if number == 2:
      ready.set()
    return Made({"x": np.array([number])}, 0)

  batches = iterator(make)
  assert read(batches, 1) == [0]
  assert ready.wait(20)  # Nobody has asked for batch 2.
  assert threading.current_thread().name not in threads


def test_after_an_error_the_place_is_that_of_the_last_batch():
  broken = True

  def make(number):
    if broken and number == 3:
      raise UserError("the file is gone")
    return Made({"x": np.array([number])}, 0)

  batches = iterator(make)
  assert read(batches, 3) == [0, 1, 2]
  for _ in range(2):
    with pytest.raises(UserError, match="the file is gone"):
      next(batches)
    assert json.loads(batches.get_state()["stream_00000"])["batch"] == 3
  broken = False
  assert read(batches, 3) == [3, 4, 5]


def test_windows_with_nothing_to_predict_are_counted():
  batches = iterator()
  assert batches.skipped() == ""
  read(batches, 6)
  assert batches.skipped().startswith("3 windows had nothing to predict")


@pytest.mark.parametrize(
  "state, message",
  [
    ({"stream_00000": b"PK\x03\x04\xff"}, "not that of a token cache"),
    ({"stream_00001": b"{}"}, "not that of a token cache"),
    ({"stream_00000": b'{"batch": 3, "data": "other"}'}, "of other data"),
  ],
)
def test_a_place_in_other_data_is_refused(state, message):
  with pytest.raises(UserError, match=message):
    iterator().set_state(state)
