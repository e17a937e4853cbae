"""Shared by classification and text_to_text: the targets of a corpus, and texts that are cut."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from t5x_style.errors import UserError

if TYPE_CHECKING:
  from t5x_style.data.tensorflow_setup import tf

# This many documents show which share of a corpus is cut.
_MEASURED = 500
# A warning says so if more than this share is.
_MUCH = 0.01


def targets_of(corpus: Any, objective: str) -> Mapping[str, Mapping[str, int]]:
  """Returns {split: {target: number of documents}} of a corpus, as LabelledCorpus does.

  Raises:
    UserError: its documents have no targets.
  """
  found = corpus.targets() if hasattr(corpus, "targets") else {}
  if not found:
    raise UserError(
      f"OBJECTIVE {objective!r} predicts what a corpus says about each text, and CORPUS "
      f"{corpus.name!r} says nothing: include 'data/jsonl.gin' and set TARGET_FIELD to the field "
      'of the labels or answers, e.g. TARGET_FIELD = "label".'
    )
  return found


def warn_of_cut_texts(
  documents: Callable[[], tf.data.Dataset], room: Mapping[str, tuple[str, int]], where: str
) -> None:
  """Warns if many of the first texts have more tokens than a row has room for.

  Args:
    documents: opens them.
    room: {feature of a document: (feature of TASK_FEATURE_LENGTHS, most tokens)}.
    where: names the documents in the message.
  """
  lengths = [
    {name: len(document[name]) for name in room}
    for document in documents().take(_MEASURED).as_numpy_iterator()
  ]
  for name, (feature, most) in room.items():
    longer = sum(length[name] > most for length in lengths) / max(len(lengths), 1)
    if longer > _MUCH:
      warnings.warn(
        f"{longer:.0%} of the first {len(lengths)} texts of {where} have more than {most} tokens "
        f"and are cut at the end; the longest has {max(x[name] for x in lengths)}. Raise "
        f"TASK_FEATURE_LENGTHS[{feature!r}] if the end matters.",
        stacklevel=2,
      )
