"""Training steps in 8 bits beside the same in bfloat16, in turns: are they faster by enough?

FP8 = True stays in this package only if it makes the step at least 1.15 times as fast on a GPU that
multiplies in 8 bits, and a run on real text ends with a held-out loss at most .5 % above that of
bfloat16 (python -m launch.benchmark text). `python -m launch.benchmark gpu` measures both and says
which it is. "speedup" is bfloat16's seconds over those in 8 bits, the median of the rounds.
"""

import dataclasses
import statistics
from collections.abc import Iterator
from typing import Any

from . import step, step_cases
from .flax_step import FlaxStep

FLAGS = ("case", "seconds", "tiny")
COLUMNS = {
  "step_seconds": ("s/step", ".3f"),
  "tflops": ("TFLOP/s", ".3f"),
  "compile_seconds": ("compile s", ".1f"),
  "loss": ("loss", ".4f"),
  "speedup": ("speedup", ".2f"),
}
_PLAIN, _FP8 = "bfloat16", "8 bits"
LABELS = (_PLAIN, _FP8)
_BATCHES, _COMPARED_STEPS = 4, 5


def measure(
  case: str | None = None, seconds: float | None = None, tiny: bool = False
) -> Iterator[dict[str, Any]]:
  """Yields a row in bfloat16 and one in 8 bits, for each case; see launch.benchmark."""
  cases = step_cases.tiny() if tiny else step_cases.known(alone=False)
  limits = (seconds or 30.0, 0.01 if tiny else 1.0)
  for each in step_cases.named(cases, case):
    yield from _measure(each, limits)


def _measure(case: step_cases.StepCase, limits: tuple[float, float]) -> Iterator[dict[str, Any]]:
  sides = {_PLAIN: _side(case, False), _FP8: _side(case, True)}
  losses = {
    label: [side.loss(side.step(number)) for number in range(_COMPARED_STEPS)]
    for label, (_, side) in sides.items()
  }
  taken = step.rounds_in_turns([side for _, side in sides.values()], *limits)
  for label, (prepared, side) in sides.items():
    median = statistics.median(taken[label])
    yield {
      "group": f"{case.title}, and in 8 bits",
      "label": label,
      "case": case.name,
      "rows": case.config.batch_size,
      "lengths": dict(case.lengths),
      "precision": "bfloat16" if label == _PLAIN else "fp8",
      "flop_formula": step.FLOP_FORMULA,
      "step_seconds": median,
      "tflops": prepared.step_flops / median / 1e12,
      "compile_seconds": side.compile_seconds,
      "loss": losses[label][-1],
      "losses": losses[label],
      "speedup": statistics.median(
        plain / own for plain, own in zip(taken[_PLAIN], taken[label], strict=True)
      ),
    }


def _side(case: step_cases.StepCase, fp8: bool):
  """Returns the prepared run and its compiled step."""
  model = dataclasses.replace(case.config.model, dtype="bfloat16", fp8=fp8)
  config = dataclasses.replace(case.config, model=model)
  prepared = step_cases.prepare(case._replace(config=config))
  stream = prepared.dataset.train()
  made = FlaxStep(prepared, [next(stream) for _ in range(_BATCHES)])
  made.label = _FP8 if fp8 else _PLAIN
  return prepared, made
