"""The digests in `run` bind what was saved together."""

import copy
import json

import jax.numpy as jnp
import pytest
from etils import epath

from t5x_style.checkpoints import verification
from t5x_style.checkpoints.damage import DamagedError
from t5x_style.checkpoints.digests import digests

STATE = {"params": {"kernel": jnp.arange(6.0)}, "step": jnp.int32(7)}
STREAMS = {"stream_00000": b"here", "stream_00001": b"there"}
RUN = {"identity": {"seed": 0}, "progress": {"seconds": 1.5, "totals": {}}}
FOLDER = epath.Path("/checkpoints/7")


@pytest.fixture
def run():
  """The item `run` as it is read back."""
  return json.loads(json.dumps(verification.with_digests(RUN, 7, STATE, STREAMS)))


def test_what_was_saved_is_accepted(run):
  verification.check_run(run, FOLDER)
  verification.check_run(run, epath.Path("/somewhere/best"))  # A copy may have any name.
  verification.check_streams(run, STREAMS)
  verification.check_arrays(run, digests(STATE))
  verification.check_arrays(run, digests({"params": STATE["params"]}))
  verification.check_step(7, FOLDER)
  assert {key: run[key] for key in RUN} == RUN
  assert run["digests"]["arrays"]["params/kernel"]["shape"] == [6]


def leaves(node, path=()):
  """The paths of all numbers and texts in JSON."""
  if isinstance(node, dict | list):
    for key in node if isinstance(node, dict) else range(len(node)):
      yield from leaves(node[key], (*path, key))
  else:
    yield path


def test_any_change_of_the_json_is_found(run):
  """Every value in it, among them the digests."""
  for path in leaves(run):
    changed = copy.deepcopy(run)
    node = changed
    for key in path[:-1]:
      node = node[key]
    node[path[-1]] = f"{node[path[-1]]}0"
    with pytest.raises(DamagedError, match="run/metadata is not what was saved"):
      verification.check_run(changed, FOLDER)


@pytest.mark.parametrize("broken", [[], {}, None, 3, {"identity": {}}, RUN | {"progress": []}])
def test_json_that_no_run_saves_is_damaged(broken):
  with pytest.raises(DamagedError, match="run/metadata is not what a run saves"):
    verification.check_run(broken, FOLDER)


def test_digests_cannot_get_lost(run):
  """What earlier versions saved has none, and nothing else."""
  verification.check_run(RUN, FOLDER)
  verification.check_run(RUN | {"guard": {}, "validation_loss": 2.5}, FOLDER)
  run["digests_"] = run.pop("digests")
  with pytest.raises(DamagedError, match="run/metadata is not what a run saves"):
    verification.check_run(run, FOLDER)


def test_another_step_is_found(run):
  with pytest.raises(DamagedError, match="the checkpoint of step 7 under another name"):
    verification.check_run(run, epath.Path("/checkpoints/9"))
  with pytest.raises(DamagedError, match="state/ is of step 7"):
    verification.check_step(7, epath.Path("/checkpoints/9"))


@pytest.mark.parametrize(
  ("streams", "reason"),
  [
    ({"stream_00000": b"here"}, "data/stream_00001 is missing"),
    (STREAMS | {"stream_00000": b"there"}, "data/stream_00000, a place in the data, is not"),
    (STREAMS | {"stream_00002": b"here"}, "data/stream_00002 was not saved with it"),
  ],
)
def test_other_places_in_the_data_are_found(run, streams, reason):
  with pytest.raises(DamagedError, match=reason):
    verification.check_streams(run, streams)


def test_other_arrays_are_named(run):
  other = {"params": {"kernel": STATE["params"]["kernel"].at[2].add(1)}, "step": STATE["step"]}
  with pytest.raises(DamagedError, match="^1 of 2 arrays .* not what was saved: params/kernel$"):
    verification.check_arrays(run, digests(other))
  with pytest.raises(DamagedError, match="bias"):
    verification.check_arrays(run, digests({"params": {"bias": jnp.zeros(3)}}))
