"""The records of launch.eval loss as tables, one for each kind of bits per byte."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from t5x_style.likelihoods import Likelihood

from ..checkpoints.output import table
from .compressors import Compressed
from .loss_records import Record

_NOT_COMPARABLE = "Compare it only with the same objective on the same text."
_LANGUAGE = "A language model that is not below all of them has not learnt the language."
_COLUMNS = {
  "loss": ("nats/token", ".4f"),
  "perplexity": ("perplexity", ",.2f"),
  "accuracy": ("accuracy", ".1%"),
  "bits_per_byte": ("bits/byte", ".4f"),
  "exact_match": ("exact match", ".1%"),
  "pair_accuracy": ("pairs right", ".1%"),
}


def tables(
  records: Sequence[Record], kinds: Mapping[str, Likelihood], compressed: Compressed | None = None
) -> str:
  """Returns the figures of all checkpoints, for people.

  Args:
    records, kinds: see loss_records.record.
    compressed: the same text, compressed, to show beside kinds that are comparable.
  """
  parts = any("parts" in x for x in records)
  blocks = [table(*_rows(records, "all parts" if parts else ""))]
  for kind in sorted(set(kinds.values()), key=lambda kind: not kind.comparable):
    names = [name for name, of_part in kinds.items() if of_part == kind]
    rows = [
      {"step": x["step"], "part": name, **x["parts"][name]}
      for x in records
      for name in names
      if name in x.get("parts", {})
    ]
    measured = rows or [x for x in records if not parts and "bits_per_byte" in x]
    if not any("bits_per_byte" in x for x in measured):
      continue
    warning = "" if kind.comparable else f" {_NOT_COMPARABLE}"
    blocks.append(_wrapped(f"Bits per byte, {kind.name}: {kind.what}{warning}"))
    if rows:
      blocks.append(table(*_rows(rows, "")))
    if kind.comparable and compressed is not None:
      blocks.append(_compressed(compressed))
      compressed = None
  return "\n\n".join(blocks)


def _rows(records: Sequence[Record], part: str) -> tuple[list[str], list[list[str]]]:
  """Returns headings and cells; the last column marks the best step, or names a problem."""
  columns = {k: v for k, v in _COLUMNS.items() if any(k in x for x in records)}
  best = _best(records)
  with_part = bool(part) or any("part" in x for x in records)
  rows = []
  for x in records:
    cells = [f"{x['step']:,}" if isinstance(x["step"], int) else x["step"]]
    cells += [x.get("part", part)] if with_part else []
    cells += [format(x[k], spec) if k in x else "-" for k, (_, spec) in columns.items()]
    rows.append([*cells, x.get("problem", "best" if x is best else "")])
  return ["step", *(["part"] if with_part else []), *(v[0] for v in columns.values()), ""], rows


def _best(records: Sequence[Record]) -> Record | None:
  """Returns the step with the lowest loss, if there are several of one part."""
  measured = [x for x in records if "loss" in x]
  one_part = len({x.get("part") for x in measured}) == 1
  return min(measured, key=lambda x: x["loss"]) if one_part and len(measured) > 1 else None


def _compressed(compressed: Compressed) -> str:
  figures = ", ".join(f"{name} {x:.4f}" for name, x in compressed.bits_per_byte.items())
  return _wrapped(f"Compressors on {compressed.method}: {figures}. {_LANGUAGE}")


def _wrapped(text: str) -> str:
  return textwrap.fill(text, 98, initial_indent="  ", subsequent_indent="  ")
