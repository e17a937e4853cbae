"""Compares two checkpoints: equal to the bit, or which parameters differ and by how much."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from t5x_style.checkpoints import comparison
from t5x_style.checkpoints.arrays import orbax_arrays
from t5x_style.checkpoints.comparison import Difference, Sums

from ..process.errors import ConfigurationError
from . import steps
from .output import for_json, progress, table

FLAGS = ("step", "all", "json")
FOLDERS = (1, 2)

_SHOWN = 20  # arrays, without --all

Totals = Mapping[str, Sums]


def run(values: Any, folders: Sequence[str]) -> int:
  pair = _two_steps(folders, steps.numbers(values))
  key, what = (None, "arrays") if values.all else ("params", "parameters")
  parts = {"params": "params/", "opt_state": "opt_state/"} if values.all else {"params": ""}
  opened = [orbax_arrays(step / "state", key, setting="diff") for step in pair]
  first, second = comparison.in_one_layout(*opened)
  size = comparison.bytes_of(first) + comparison.bytes_of(second)
  with progress("Comparing", size) as read:
    found = comparison.compare(first, second, (str(pair[0]), str(pair[1])), read)
  totals = {part: comparison.total(found, start) for part, start in parts.items()}
  if values.json:
    print(json.dumps(_object(pair, found, totals)))
  else:
    print(f"a  {pair[0]}\nb  {pair[1]}\n")
    print(_text(found, totals, what, len(found) if values.all else _SHOWN))
  return 0 if all(difference.equal for difference in found) else 1


def _two_steps(folders: Sequence[str], numbers: Sequence[int]) -> tuple[epath.Path, epath.Path]:
  if len(folders) == 1 and len(numbers) != 2:
    raise ConfigurationError(
      f"diff compares two checkpoints: name another folder beside {folders[0]}, or two steps in "
      "it, --step=1000 --step=2000."
    )
  if len(numbers) > 2:
    raise ConfigurationError(
      f"diff compares two checkpoints; --step is given {len(numbers)} times."
    )
  if len(folders) == 1:
    first, second = steps.of_folder(folders[0], numbers)
    return first, second
  if not numbers:
    return steps.newest(folders[0]), steps.newest(folders[1])
  both = numbers if len(numbers) == 2 else [numbers[0], numbers[0]]
  first, second = (
    steps.of_folder(folder, [number])[0] for folder, number in zip(folders, both, strict=True)
  )
  return first, second


def _object(
  pair: Sequence[epath.Path], found: Sequence[Difference], totals: Totals
) -> dict[str, Any]:
  return {
    "a": str(pair[0]),
    "b": str(pair[1]),
    "equal": all(difference.equal for difference in found),
    "totals": {part: _measures(sums) for part, sums in totals.items()},
    "arrays": [
      {
        "name": difference.name,
        "equal": difference.equal,
        "a": _described(difference.first),
        "b": _described(difference.second),
        **_measures(difference.sums),
      }
      for difference in found
    ],
  }


def _measures(sums: Sums | None) -> dict[str, float | None]:
  return {
    "max_difference": for_json(sums.largest) if sums else None,
    "relative_norm": for_json(sums.relative_norm) if sums else None,
    "cosine": for_json(sums.cosine) if sums else None,
  }


def _text(found: Sequence[Difference], totals: Totals, what: str, shown: int) -> str:
  different = [difference for difference in found if not difference.equal]
  if not different:
    return f"All {len(found):,} {what} are equal to the bit."
  rows = [[*_cells(x.sums), f"{x.name}{_remark(x)}"] for x in different[:shown]]
  if len(different) > shown:
    rows.append(["", "", "", f"... and {len(different) - shown:,} more; --all shows them"])
  for part, sums in totals.items():
    if sums.numbers:
      rows.append([*_cells(sums), f"all of {part}: {sums.numbers:,} numbers"])
  equal = len(found) - len(different)
  return (
    table(["max |a-b|", "|a-b| / |a|", "cosine", ""], rows)
    + f"\n\n{len(different):,} of {len(found):,} {what} differ; {equal:,} are equal to the bit."
  )


def _cells(sums: Sums | None) -> list[str]:
  if sums is None:
    return ["-", "-", "-"]
  return [f"{sums.largest:.3e}", f"{sums.relative_norm:.3e}", f"{sums.cosine:.6f}"]


def _remark(difference: Difference) -> str:
  """Returns what is different besides the numbers."""
  first, second = difference.first, difference.second
  if first is None or second is None:
    return f"  only in {'a' if first else 'b'}: {_shown(first or second)}"
  if first != second:
    return f"  {_shown(first)} in a, {_shown(second)} in b"
  if difference.sums and difference.sums.squared == 0:
    return "  only zeros of another sign"
  return ""


def _shown(described: tuple[tuple[int, ...], str] | None) -> str:
  return f"{described[1]} {describe_shape(described[0])}" if described else "nothing"


def describe_shape(shape: Sequence[int]) -> str:
  return "x".join(map(str, shape)) or "scalar"


def _described(described: tuple[tuple[int, ...], str] | None) -> dict[str, Any] | None:
  return {"shape": described[0], "dtype": described[1]} if described else None
