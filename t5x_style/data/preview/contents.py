"""What a preview shows, in the terminal and on a page: headings, texts, pictures and figures."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from t5x_style.data.preview.measure import Dataset, Preview

Features = Mapping[str, np.ndarray]

# {key of Preview.values(), or "rate": (heading, format)} of the table.
FIGURES = {
  "rate": ("share of rows", ".1%"),
  "raw_tokens": ("raw tokens", ",.1f"),
  "input_tokens": ("tokens read", ",.1f"),
  "target_tokens": ("tokens with loss", ",.1f"),
  "signal_density": ("signal density", ".1%"),
  "corruption_rate": ("corruption rate", ".1%"),
  "mean_span_length": ("mean span length", ".2f"),
  "unknown_tokens": ("unknown tokens", ".2%"),
  "unknown_text": ("unknown text", ".2%"),
  "dropped_text": ("of it dropped", ".2%"),
  "packing_density": ("packing density", ".1%"),
  "tokens_per_second": ("raw tokens/s", ",.0f"),
}


@dataclasses.dataclass(frozen=True)
class Contents:
  """A measured dataset, and what else is shown of it.

  Attributes:
    attention: {side: bool [L, L]}, which positions (rows) attend to which (columns), of one row of
      model features; "cross": bool [L, S], from decoder to encoder. The masks are those of the
      models, which data does not import.
  """

  preview: Preview
  dataset: Dataset
  architecture: str
  attention: Callable[[Features], Mapping[str, np.ndarray]]

  @property
  def title(self) -> str:
    """Objective, architecture and lengths."""
    lengths = ", ".join(f"{name} {n}" for name, n in self.dataset.feature_lengths.items())
    return f"{self.preview.name}, {self.architecture.replace('_', '-')}, {lengths}"

  @property
  def components(self) -> Sequence[Preview]:
    """The components of a mixture, or the single objective."""
    return self.preview.components or (self.preview,)

  @property
  def columns(self) -> list[tuple[str, Preview]]:
    """(heading, part) of the table's columns: the components, then all of them together."""
    parts = [(part.name, part) for part in self.components]
    return [*parts, ("all", self.preview)] if self.preview.components else parts

  def figures(self) -> Iterator[tuple[str, list[str]]]:
    """The rows of the table: (heading, a cell for each column)."""
    values = [{"rate": part.rate, **part.values()} for _, part in self.columns]
    for key, (heading, spec) in FIGURES.items():
      yield heading, ["?" if v[key] is None else format(v[key], spec) for v in values]

  def json(self) -> dict[str, Any]:
    """Returns the figures and the examples as token ids."""
    lengths = dict(self.dataset.feature_lengths)
    return {"architecture": self.architecture, "feature_lengths": lengths} | self.preview.json()

  def remarks(self) -> list[str]:
    """Sentences on who sees whom, what was skipped, and what the vocabulary cannot spell."""
    lines = [f"{text} (CROSS_DOCUMENTS)."] if (text := self.dataset.documents_apart) else []
    runs_on = "No text is cut off: documents run on from one window into the next."
    if not self.dataset.text_runs_on:
      runs_on = "No text is cut off: long documents have several windows."
    if skipped := self.preview.values().get("skipped"):
      documents = max(skipped["documents"], 1)
      lines.append(
        f"of {skipped['documents']:,} documents read {skipped['short']:,} "
        f"({skipped['short'] / documents:.1%}) had too little text, "
        f"{skipped['repaired']:,} were not UTF-8; {skipped['windows']:,} windows had nothing to "
        f"predict. {runs_on}"
      )
    if self.preview.coverage and (text := self.preview.coverage.remark()):
      lines.append(f"{text}.")
    return lines


def shrunk(mask: np.ndarray, cells: int) -> np.ndarray:
  """Returns a smaller picture of a mask, bool [<= cells, <= cells]; a cell shows its majority."""
  rows, columns = (
    np.linspace(0, size, min(cells, size) + 1).round().astype(int) for size in mask.shape
  )
  sums = np.add.reduceat(np.add.reduceat(mask.astype(float), rows[:-1], 0), columns[:-1], 1)
  return sums >= np.diff(rows)[:, None] * np.diff(columns)[None, :] / 2
