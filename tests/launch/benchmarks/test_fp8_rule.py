"""Products in 8 bits stay only if they are fast enough and as good."""

import pytest

from launch.benchmarks import fp8_rule


@pytest.mark.parametrize(
  ("speedup", "loss_ratio", "decision"),
  [
    (1.2, 1.001, "keep it"),
    (1.2, 0.99, "keep it"),
    (1.1, 1.0, "remove it"),
    (1.2, 1.01, "remove it"),
    (1.1, None, "remove it"),
    (None, 1.01, "remove it"),
    (1.2, None, "not decided"),
    (None, None, "not decided"),
  ],
)
def test_the_rule(speedup, loss_ratio, decision):
  found = fp8_rule.verdict(speedup, loss_ratio)
  assert found.startswith(f"{decision}: ")
  assert ("1.20 times as fast" in found) == (speedup == 1.2)


def test_the_figures_are_those_of_the_rows():
  steps = [{"precision": "bfloat16", "speedup": 1.0}, {"precision": "fp8", "speedup": 1.3}]
  runs = [{"label": "undisturbed"}, {"label": "in 8 bits", "loss_ratio": 1.002}]
  assert fp8_rule.of_rows(steps, runs).startswith("keep it: 1.30 times as fast, 1.0020 of the loss")
  assert fp8_rule.of_rows([], runs).startswith("not decided")
