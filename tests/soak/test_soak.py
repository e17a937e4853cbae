"""The short form of `python -m tests.soak`: one fault of each kind, and the program around them."""

from types import SimpleNamespace

import pytest

from tests.soak import runner, table
from tests.soak.faults import ALL
from tests.soak.outcomes import Failed, Fault, NotPossible, Outcome
from tests.soak.references import References
from tests.soak.trial import Trial

# One of each kind; those of several processes are in tests/training/test_distributed.py.
SHORT = (
  "kill-commit",
  "sigterm",
  "damage-other-state",
  "disk-full",
  "nan-batch",
  "corpus-replaced",
  "stdout-closed",
  "two-writers",
)


@pytest.fixture(scope="module")
def references(tmp_path_factory):
  return References(tmp_path_factory.mktemp("soak"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_run_survives(name, references, tmp_path):
  result = runner.inject(ALL[name], references, tmp_path / name, seed=0)
  if result.not_possible:
    pytest.skip(result.not_possible)
  assert not result.failure, f"{result.failure}\n{tmp_path}"
  assert result.injected


def injected(references, folder, inject, **settings):
  fault = Fault("a fault", "does something", ("exact",), inject)
  return runner.inject(fault, references, folder / "run", seed=1, **settings)


def test_another_outcome_than_the_expected_one_is_a_failure(references, tmp_path):
  """Its folder stays, that of a run that survived does not."""
  failed = injected(references, tmp_path, lambda trial: trial.outcome("stopped", "why"))
  assert failed.failure == "stopped, expected: exact. why"
  assert failed.folder.exists()
  survived = injected(references, tmp_path, lambda trial: trial.outcome("exact"))
  assert (survived.failure, survived.outcome.kind) == ("", "exact")
  assert not survived.folder.exists()
  assert injected(references, tmp_path, lambda x: x.outcome("exact"), keep=True).folder.exists()


def test_errors_of_the_program_itself_are_failures(references, tmp_path):
  def raises(error):
    def inject(trial):
      trial.injected += 1
      raise error

    return injected(references, tmp_path, inject)

  assert raises(Failed("the reason")).failure == "the reason"
  assert "ZeroDivisionError" in raises(ZeroDivisionError()).failure
  assert raises(NotPossible("no mount")).not_possible == "no mount"
  assert raises(NotPossible("no mount")).injected == 1


def outcome(kind, trained_again):
  return Outcome(kind, injected=0, trained_again=trained_again)


def test_the_table_counts_runs_and_faults(tmp_path):
  fault = Fault("kill", "about", ("exact",), None)
  other = Fault("disk", "about", ("stopped",), None)
  results = [
    table.Result(fault, tmp_path, outcome("exact", 7), injected=3),
    table.Result(fault, tmp_path, outcome("exact", 12), injected=4),
    table.Result(fault, tmp_path, failure="differs", injected=1),
    table.Result(other, tmp_path, not_possible="no mount"),
  ]
  assert table.rows(results) == [
    ["kill", "3", "8", "2", "", "", "1", "10 a run, at most 12"],
    ["disk", "0", "0", "", "", "", "", "not possible here: no mount"],
  ]
  lines = table.markdown(results).splitlines()
  assert {line.count("|") for line in lines} == {9}
  assert lines[2] == "| kill | 3 | 8 | 2 | | | 1 | 10 a run, at most 12 |"


def test_steps_trained_again_are_those_after_the_checkpoint(references, tmp_path):
  began = "A model that knows only how frequent targets are has a loss of 2.7.\n"
  trial = Trial(tmp_path / "run", references, "1")
  trial._starts = [
    (SimpleNamespace(text=lambda text=text: text), reached)
    for text, reached in (
      (began, 0),
      (f"Resuming from step 20.\n{began}", 33),  # 13
      ("", 1040),  # Killed before it trained: the records are still there.
      (f"Resuming from step 1,020.\n{began}", 1040),  # 20
    )
  ]
  assert trial.outcome("exact").trained_again == 33
