"""Where a row of a run came from, and what became of its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from t5x_style.architectures import predicted_side
from t5x_style.data.preview import example
from t5x_style.data.preview.example import Example, Tokens
from t5x_style.data.random_access.dataset import Dataset
from t5x_style.data.random_access.rows import OF_TEXT


class Part(NamedTuple):
  """Consecutive tokens of a document, from `start` to before `end` of `tokens`."""

  file: str
  line: int  # or record, from 1; 0 where the file is one document
  part: int  # of a text that was read as several documents, from 0
  document: int  # its number in the token cache
  start: int
  end: int
  tokens: int  # of the whole document

  def words(self) -> str:
    """Returns "a.jsonl, line 7, tokens 0 to 200 of 801"."""
    line = f", line {self.line:,}" if self.line else ""
    part = f", part {self.part + 1:,}" if self.part else ""
    return f"{self.file}{line}{part}, tokens {self.start:,} to {self.end:,} of {self.tokens:,}"


class Origin(NamedTuple):
  """Where a row came from.

  Attributes:
    row: in the batch.
    number: of the row in the run, from 0.
    component: its name; "" if there is only one.
    epoch: of the component, from 0.
    unit, units: which row of that epoch's text it is, and how many there are.
    parts: of documents, in their order in the row.
    texts: the tokens of each example of the row before the objective.
    hidden: which of them the model has to find out.
    shown: what is read and what is predicted.
  """

  row: int
  number: int
  component: str
  epoch: int
  unit: int
  units: int
  parts: list[Part]
  texts: list[Tokens]
  hidden: list[np.ndarray]
  shown: Example

  def json(self) -> dict[str, Any]:
    """Returns all of it as JSON values; tokens are ids."""
    return {
      "row": self.row,
      "number": self.number,
      "component": self.component,
      "epoch": self.epoch,
      "unit": self.unit,
      "units": self.units,
      "parts": [part._asdict() for part in self.parts],
      "texts": [
        {"tokens": text.ids, "hidden": hidden.tolist()}
        for text, hidden in zip(self.texts, self.hidden, strict=True)
      ],
      "inputs": self.shown.inputs.ids,
      "targets": self.shown.targets.ids,
      "loss_weights": self.shown.targets.weights,
    }


def of_rows(dataset: Dataset, batch: int, chosen: Sequence[int]) -> list[Origin]:
  """Returns where rows of a global batch came from.

  Args:
    batch: its number, from 0: that of step s is s - 1.
    chosen: rows of the batch, from 0.
  """
  rows = dataset.rows
  kinds = np.array(example.token_kinds(dataset.ids))
  numbers = batch * dataset.batch_size + np.array(chosen, np.int64)
  found = []
  for row, number, place in zip(chosen, numbers.tolist(), rows.places(numbers), strict=True):
    component = rows.components[place.component]
    made = component.examples
    features = rows.of_component(place.component, np.array([place.unit]), np.array([place.epoch]))
    shown = {name: value[0] for name, value in features.items() if name not in OF_TEXT}
    split, parts = made.split, []
    for member in made.members(place.unit, place.epoch):
      source = split.source(member.document)
      tokens = int(split.lengths(member.document, member.document + 1)[0])
      parts.append(Part(*source, *member, tokens))
    texts = made.texts(place.unit, place.epoch)
    found.append(
      Origin(
        row=row,
        number=number,
        component=component.name if len(rows.components) > 1 else "",
        epoch=place.epoch,
        unit=place.unit,
        units=made.count,
        parts=parts,
        texts=[example.text(tokens, hidden, kinds) for tokens, hidden in texts],
        hidden=[hidden for _, hidden in texts],
        shown=example.of_row(shown, kinds, predicted_side(rows.architecture)),
      )
    )
  return found
