"""Measures the data of a run: examples, token counts, corruption, packing and speed."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from t5x_style.data import converters, skip_counts
from t5x_style.data.preview import example
from t5x_style.data.preview.example import Example
from t5x_style.data.tokenizers.token_ids import TokenIds

if TYPE_CHECKING:
  from t5x_style.data.tokenizers import vocabulary_coverage

_ROWS = 16


@dataclasses.dataclass
class PreviewSums:
  """Sums over rows; `+` adds two of them, `*` multiplies all by a weight."""

  rows: float = 0.0
  raw: float = 0.0
  inputs: float = 0.0  # tokens that are read
  targets: float = 0.0  # tokens that carry loss
  hidden: float = 0.0  # raw tokens that are to be predicted
  unknown: float = 0.0  # raw tokens that stand for what the vocabulary cannot spell
  filled: float = 0.0  # positions of both sides that are not padding
  positions: float = 0.0  # of both sides
  spans: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1))  # number, by length

  def __add__(self, other: PreviewSums) -> PreviewSums:
    sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in _PLAIN}
    spans = np.zeros(max(len(self.spans), len(other.spans)))
    for part in (self.spans, other.spans):
      spans[: len(part)] += part
    return PreviewSums(**sums, spans=spans)

  def __mul__(self, weight: float) -> PreviewSums:
    return PreviewSums(
      **{f.name: getattr(self, f.name) * weight for f in dataclasses.fields(PreviewSums)}
    )


_PLAIN = [field for field in dataclasses.fields(PreviewSums) if field.name != "spans"]


@dataclasses.dataclass(frozen=True)
class Preview:
  """Figures and examples of a run's data, or of one component of it.

  Attributes:
    name: of the objective or component; rate: its share of the rows.
    seconds: the time it took to make the rows, with reading and tokenizing the text.
    counts: documents and windows that were read and skipped; {} for a user's own task.
    components: the parts of a mixture; () for a single objective.
    coverage: how much of the first documents the vocabulary can spell; None if unknown.
  """

  name: str
  rate: float
  sums: PreviewSums
  seconds: float
  counts: Mapping[str, int]
  examples: Sequence[Example]
  components: Sequence[Preview] = ()
  coverage: vocabulary_coverage.Coverage | None = None

  def values(self) -> dict[str, Any]:
    """Returns the figures; numbers of tokens are means over rows.

    raw_tokens: of the window; input_tokens: that are read (a decoder reads its whole row);
    target_tokens: that carry loss; signal_density: target_tokens / raw_tokens; corruption_rate: the
    share of the raw tokens that is hidden; unknown_tokens: the share of the raw tokens that is the
    vocabulary's unknown token; unknown_text: the share of the characters of the first documents
    that the vocabulary cannot spell; dropped_text: the part of these that becomes no token at all,
    both None if unknown; packing_density: the share of all positions that is not padding;
    span_lengths: {length in raw tokens: share of the spans}.
    """
    sums, rows = self.sums, max(self.sums.rows, 1e-9)
    count = sums.spans.sum()
    shares = sums.spans / max(count, 1e-9)
    mean_span = float((shares * np.arange(len(shares))).sum())
    return {
      "raw_tokens": sums.raw / rows,
      "input_tokens": sums.inputs / rows,
      "target_tokens": sums.targets / rows,
      "signal_density": sums.targets / max(sums.raw, 1e-9),
      "corruption_rate": sums.hidden / max(sums.raw, 1e-9),
      "mean_span_length": mean_span,
      "unknown_tokens": sums.unknown / max(sums.raw, 1e-9),
      "unknown_text": self.coverage.share if self.coverage else None,
      "dropped_text": self.coverage.dropped_share if self.coverage else None,
      "packing_density": sums.filled / max(sums.positions, 1e-9),
      "span_lengths": {int(n): float(shares[n]) for n in np.flatnonzero(shares)},
      "tokens_per_second": sums.raw / max(self.seconds, 1e-9),
      **({"skipped": dict(self.counts)} if self.counts else {}),
    }

  def json(self) -> dict[str, Any]:
    """Returns `values` and the examples as token ids, also of each component."""
    result: dict[str, Any] = {"objective": self.name, "rate": self.rate, **self.values()}
    result["examples"] = [
      {
        "raw": example.raw.ids if example.raw else None,
        "inputs": example.inputs.ids,
        "targets": example.targets.ids,
        "loss_weights": example.targets.weights,
      }
      for example in self.examples
    ]
    if self.components:
      result["components"] = [part.json() for part in self.components]
    return result


class Dataset(Protocol):
  """What is measured: a dataset of t5x_style.data.loader."""

  name: str
  coverage: Any

  @property
  def ids(self) -> TokenIds: ...

  @property
  def rates(self) -> Mapping[str, float]: ...

  @property
  def feature_lengths(self) -> Mapping[str, int]: ...

  documents_apart: str
  text_runs_on: bool

  def rows_of_component(self, index: int, rows: int) -> Iterator[Mapping[str, np.ndarray]]: ...


def preview(dataset: Dataset, examples: int = 2, rows: int = 1024, seconds: float = 5.0) -> Preview:
  """Measures the data of a run as it is in training.

  Args:
    dataset: from `loader.load`.
    examples: how many to keep of each component.
    rows: how many to count of each component; fewer if they take longer than `seconds`.
  """
  parts = [_part(dataset, index, examples, rows, seconds) for index in range(len(dataset.rates))]
  if len(parts) == 1:
    return parts[0]
  # A component counts with its rate, its share of the rows.
  sums = functools.reduce(PreviewSums.__add__, (p.sums * (p.rate / p.sums.rows) for p in parts))
  took = sum(p.seconds * p.rate / p.sums.rows for p in parts)
  counts = {k: sum(p.counts.get(k, 0) for p in parts) for k in parts[0].counts}
  shown = [example for part in parts for example in part.examples]
  return Preview(dataset.name, 1.0, sums, took, counts, shown, parts, dataset.coverage)


def _part(dataset: Dataset, index: int, examples: int, rows: int, seconds: float) -> Preview:
  """Measures one component: its rows before components are mixed."""
  name, rate = [*dataset.rates.items()][index]
  kinds = np.array(example.token_kinds(dataset.ids))
  sums, counts = PreviewSums(), np.zeros(len(skip_counts.KINDS), np.int64)
  shown: list[Example] = []
  side = ""
  start = elapsed = 0.0
  number = 0
  for batch in dataset.rows_of_component(index, _ROWS):
    number += 1
    start = start or time.perf_counter()  # The first batch waited for the shuffle buffers to fill.
    elapsed = time.perf_counter() - start
    side = "decoder" if "decoder_target_tokens" in batch else "encoder"
    sums += _count(batch, side, dataset.ids.unk_id)
    if skip_counts.KEY in batch:
      counts = skip_counts.newest(batch[skip_counts.KEY], counts)
    for row in range(min(_ROWS, examples - len(shown))):
      shown.append(example.of_row({k: v[row] for k, v in batch.items()}, kinds, side))
    if number > 1 and (sums.rows >= rows or elapsed >= seconds):
      break
  return Preview(
    name,
    rate / sum(dataset.rates.values()),
    sums,
    elapsed * number / (number - 1),
    skip_counts.total(counts) if counts.any() else {},
    shown,
    coverage=dataset.coverage,
  )


def _count(batch: Mapping[str, np.ndarray], side: str, unknown: int | None) -> PreviewSums:
  """Counts the tokens of a batch of rows; `side` predicts, `unknown` is the unknown token."""
  weights = batch[f"{side}_loss_weights"] > 0
  sides = [batch[name] for name in converters.PADDED_TOKENS.values() if name in batch]
  filled = sum(int((tokens > 0).sum()) for tokens in sides)
  read = int((sides[0] > 0).sum())
  raw = batch.get("raw")
  hidden = batch.get("raw_hidden")
  if hidden is None:  # Sentence pairs are framed before masking; other tasks hide nothing.
    hidden = weights if side == "encoder" else np.zeros_like(weights)
  return PreviewSums(
    rows=len(weights),
    raw=int((raw > 0).sum()) if raw is not None else filled,
    inputs=read,
    targets=int(weights.sum()),
    hidden=int(hidden.sum()),
    unknown=sum(int((x == unknown).sum()) for x in (sides if raw is None else [raw])),
    filled=filled,
    positions=sum(tokens.size for tokens in sides),
    spans=span_lengths(hidden),
  )


def span_lengths(mask: np.ndarray) -> np.ndarray:
  """Counts the spans of True in a mask bool [B, L]: [longest + 1], indexed by length."""
  edges = np.diff(np.pad(mask.astype(np.int8), [(0, 0), (1, 1)]), axis=1)
  starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
  return np.bincount(ends[:, 1] - starts[:, 1], minlength=1).astype(float)
