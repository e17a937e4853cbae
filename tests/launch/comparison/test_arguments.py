"""What each run reads: the command line, its candidate, the plan, in this order."""

import pytest

from launch.comparison import arguments
from launch.process.errors import ConfigurationError
from t5x_style.comparison.settings import Comparison

COMPARISON = Comparison(
  candidates={"a": ("model.gin", "X = {'inputs': 8}"), "b": ("model",)},
  shared=("fast.gin", "SCAN = False"),
  compare_dir="/nowhere",
  amount=1.0,
)
GIVEN = arguments.Given(("compare.gin", "mine.gin"), ("X = 1", "Y = 'a b'"), ("/one", "/two"))


def test_the_candidate_comes_after_the_command_line_and_the_plan_after_the_candidate():
  own = arguments.of_run(GIVEN, COMPARISON, "a", {"MODEL_DIR": "/runs/a-0", "TRAIN_STEPS": 3})
  assert own.as_arguments() == [
    "--gin_file=compare.gin",
    "--gin_file=mine.gin",
    "--gin_file=model.gin",
    "--gin_file=fast.gin",
    "--gin_bindings=X = 1",
    "--gin_bindings=Y = 'a b'",
    "--gin_bindings=X = {'inputs': 8}",
    "--gin_bindings=SCAN = False",
    "--gin_bindings=MODEL_DIR = '/runs/a-0'",
    "--gin_bindings=TRAIN_STEPS = 3",
    "--gin_search_paths=/one,/two",
  ]


def test_what_is_neither_a_file_nor_a_binding_is_refused():
  with pytest.raises(ConfigurationError, match="The candidate 'b' holds 'model': write gin files"):
    arguments.of_run(GIVEN, COMPARISON, "b", {})
