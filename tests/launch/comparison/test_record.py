"""comparison.json: a changed plan is refused with its differences, an extended one is not."""

import pytest

from launch.comparison import record
from launch.process.errors import ConfigurationError
from t5x_style.comparison.settings import Comparison


def plan(candidates=("a", "b"), rate=1, steps=100, **changes):
  settings = {"compare_dir": "/nowhere", "amount": 5.0, "seeds": (0, 1), **changes}
  comparison = Comparison(candidates={name: (f"{name}.gin",) for name in candidates}, **settings)
  facts = {name: {"settings": {"adamw.rate": str(rate)}} for name in candidates}
  return record.plan(comparison, facts, dict.fromkeys(candidates, steps))


def begun(tmp_path, new):
  kept = record.Record(tmp_path)
  kept.begin(new, {"cores": 2})
  return kept


def test_the_same_plan_continues(tmp_path):
  run = record.Run("a", 0)
  begun(tmp_path, plan()).update(run, state="judged")
  again = begun(tmp_path, plan(compare_dir="/elsewhere", at_once=2))
  assert again.runs == {"a-0": {"state": "judged"}}


@pytest.mark.parametrize(
  ("changed", "line"),
  [
    ({"rate": 2}, "candidates.a.settings.adamw.rate: 1 -> 2"),
    ({"amount": 6.0}, "comparison.amount: 5.0 -> 6.0"),
    ({"candidates": ("a",)}, "comparison.candidates.b: ['b.gin'] -> (not there)"),
    ({"seeds": (1,)}, "comparison.seeds: [0, 1] -> [1]"),
    ({"steps": 90}, "candidates.a.steps: 100 -> 90"),
    ({"halve_by": "pairs"}, "comparison.halve_by: None -> pairs"),
  ],
)
def test_a_changed_plan_is_refused_with_its_difference(tmp_path, changed, line):
  begun(tmp_path, plan())
  with pytest.raises(ConfigurationError, match="with other settings") as caught:
    begun(tmp_path, plan(**changed))
  assert line in str(caught.value)
  assert begun(tmp_path, plan()).content["plan"] == plan()


def test_candidates_and_seeds_may_be_added(tmp_path):
  begun(tmp_path, plan())
  assert begun(tmp_path, plan(("a", "c", "b"), seeds=(0, 1, 2))).content["plan"]["candidates"]["c"]
  halved = tmp_path / "halved"
  halved.mkdir()
  begun(halved, plan(halve_by="pairs"))
  with pytest.raises(ConfigurationError, match=r"comparison.seeds: \[0, 1\] -> \[0, 1, 2\]"):
    begun(halved, plan(halve_by="pairs", seeds=(0, 1, 2)))


def test_a_damaged_file_is_named(tmp_path):
  (tmp_path / "comparison.json").write_text('{"plan": ')
  with pytest.raises(ConfigurationError, match=r"comparison.json is damaged .*Remove it"):
    record.Record(tmp_path)
