"""Results as records of the output: dictionaries of JSON values."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from t5x_style.trained.classifying import Classified
from t5x_style.trained.filled import Filled
from t5x_style.trained.generating import Generated

_DIGITS = 6  # of probabilities and vectors: float32 has about seven


def of_result(result: Any) -> dict[str, Any]:
  """Returns the record of a continuation, a filled text, a label or a vector."""
  if isinstance(result, Generated):
    return _generated(result) | (
      {"others": [_generated(other) for other in result.others]} if result.others else {}
    )
  if isinstance(result, Filled):
    return {
      "filled": result.text,
      "holes": [
        [{"text": c.text, "probability": _number(c.probability)} for c in candidates]
        for candidates in result.holes
      ],
    }
  if isinstance(result, Classified):
    shares = {label: _number(x) for label, x in result.probabilities.items()}
    return {"label": result.label, "probabilities": shares}
  return {"embedding": [_number(x) for x in np.asarray(result).tolist()]}


def _generated(result: Generated) -> dict[str, Any]:
  return {
    "continuation": result.text,
    "tokens": len(result.tokens),
    "log_probability": _number(result.log_probability),
    "finished": result.finished,
  }


def _number(value: float) -> float | None:
  """Returns a number with six digits; None for what JSON has no number for."""
  return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def shown(text: str, result: Any, most: int = 5) -> str:
  """Returns a result as lines to read on a terminal."""
  if isinstance(result, Generated):
    lines = [f"{text}\n  -> {result.text}"]
    lines += [
      f"  or {other.text}   (log-probability {other.log_probability:.2f})"
      for other in result.others
    ]
    return "\n".join(lines)
  if isinstance(result, Filled):
    return "\n".join([result.text, *_holes(result.holes, most)])
  if isinstance(result, Classified):
    each = "   ".join(f"{k} {x:.3f}" for k, x in list(result.probabilities.items())[:most])
    return f"{text}\n  -> {each}"
  numbers = ", ".join(f"{x:.4f}" for x in np.asarray(result)[:8].tolist())
  return f"{text}\n  -> [{numbers}, ...] ({len(result)} numbers; --output=FILE.jsonl writes them)"


def _holes(holes: Sequence[Sequence[Any]], most: int) -> list[str]:
  lines = []
  for number, candidates in enumerate(holes, 1):
    each = "   ".join(f"{c.text!r} {c.probability:.3f}" for c in candidates[:most])
    lines.append(
      f"  hole {number}: {each or 'the model wrote another text, or had no position left'}"
    )
  return lines
