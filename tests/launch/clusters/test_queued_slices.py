"""What becomes of slices, with a gcloud that only answers."""

import pytest

from launch.clusters import queued_slices
from launch.clusters.programs import ProgramError, Programs
from t5x_style.errors import UserError

FAILS = ProgramError("no network", 1)
REFUSES = ProgramError("no quota", 1)


class Gcloud(Programs):
  """Answers with the next state, or raises it; `refuses` is what `create` raises."""

  def __init__(self, states, refuses=None):
    self.said, self.called = [], []
    super().__init__(dry_run=False, say=self.said.append)
    self._states, self._refuses = list(states), refuses

  def answer(self, *words, absent=None):
    state = self._states.pop(0)
    if isinstance(state, Exception):
      raise state
    return state

  def run(self, *words):
    self.called.append(words[4])
    if words[4] == "create" and self._refuses:
      raise self._refuses


@pytest.fixture
def make(monkeypatch):
  """Returns a gcloud, and slices of it."""
  monkeypatch.setattr(queued_slices, "_POLL_SECONDS", 0.0)

  def make(*states, refuses=None, to_create=True):
    gcloud = Gcloud(states, refuses)
    created = queued_slices.Slices("v5e:4x4", 16) if to_create else None
    return gcloud, queued_slices.QueuedSlices(gcloud, "mine", "us-west4-a", slices=created)

  return make


def test_slices_that_were_being_deleted_at_the_beginning_are_created(make):
  gcloud, slices = make("DELETING", "DELETING", None, "ACCEPTED", "ACTIVE")
  slices.make_ready()
  assert gcloud.called == ["create"]


def test_slices_that_are_deleted_later_are_not_created_again(make):
  gcloud, slices = make("ACTIVE", "DELETING", None)
  slices.make_ready()
  with pytest.raises(queued_slices.DeletedError):
    slices.make_ready()
  assert gcloud.called == []


def test_a_failure_right_after_the_creation_is_waited_out(make):
  gcloud, slices = make(None, FAILS, FAILS, "ACCEPTED", "ACTIVE")
  slices.make_ready()
  assert (gcloud.called, slices.known) == (["create"], True)


@pytest.mark.parametrize(
  ("states", "remains"),
  [
    ((None, None), ""),
    ((None, "ACCEPTED"), "mine stays queued; "),  # The answer to `create` was lost.
    ((None, FAILS), ""),
  ],
)
def test_what_remains_of_slices_that_are_refused(make, states, remains):
  _, slices = make(*states, refuses=REFUSES)
  with pytest.raises(ProgramError, match="no quota"):
    slices.make_ready()
  assert slices.what_remains().partition("once")[0] == remains


def test_what_remains_where_the_creation_was_interrupted(make):
  _, slices = make(None, refuses=KeyboardInterrupt())
  with pytest.raises(KeyboardInterrupt):
    slices.make_ready()
  assert slices.what_remains().startswith("mine stays queued; ")


def test_slices_that_cannot_be_created_again_are_not_deleted(make):
  gcloud, slices = make("ACTIVE", "SUSPENDED", to_create=False)
  slices.make_ready()
  assert gcloud.said == ["Google may take mine back: only with --topology it is queued again."]
  with pytest.raises(UserError, match="mine is SUSPENDED: give --topology="):
    slices.make_ready()
  assert gcloud.called == []
  assert slices.what_remains().startswith("mine stays SUSPENDED, which costs nothing.")


def test_names_of_slices_that_exist_are_asked_for_with_patience(make):
  described = '{"state": {"state": "ACTIVE"}, "tpu": {"nodeSpec": [{"nodeId": "mine"}]}}'
  _, slices = make(FAILS, described, FAILS, described)
  with pytest.raises(ProgramError):
    slices.nodes()
  assert slices.nodes() == slices.nodes() == ["mine"]
  assert slices.what_remains().startswith("mine stays, and is paid for. ")
