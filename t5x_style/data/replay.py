"""Continued pre-training: rows of a new corpus, and a share of rows of the old one.

A model that trains on new text only forgets the old; replaying a few percent of the old corpus
prevents most of it (Ibrahim et al. 2024, section 6.2). Both corpora are read with one vocabulary
and one objective. They are the components "new" and "old" of the batches, so each has its own loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from t5x_style.data.corpora.base import Corpus
from t5x_style.errors import UserError

NEW, OLD = "new", "old"


class Replay(NamedTuple):
  """The old corpus, and the share of the rows that come from it, in [0, 1)."""

  corpus: Corpus
  share: float


class Part(NamedTuple):
  """A corpus of a run."""

  label: str  # NEW or OLD; "" for the only corpus
  corpus: Corpus
  share: float  # of the rows


def parts(corpus: Corpus, replay: Replay | None) -> Iterator[Part]:
  """Yields the corpora of a run."""
  if replay is None:
    yield Part("", corpus, 1.0)
  else:
    yield Part(NEW, corpus, 1.0 - replay.share)
    yield Part(OLD, replay.corpus, replay.share)


def identity(corpus: Corpus, replay: Replay | None) -> dict[str, dict[str, str]]:
  """Returns the names and fingerprints of the corpora, for the identity of a run."""
  names = {"": "corpus", NEW: "corpus", OLD: "replay_corpus"}
  return {
    names[part.label]: {"name": part.corpus.name, "fingerprint": part.corpus.fingerprint()}
    for part in parts(corpus, replay)
  }


def check(corpus: Corpus, replay: Replay) -> None:
  """Checks a replay.

  Raises:
    UserError: the share is outside [0, 1), or both corpora hold the same text.
  """
  if not 0 <= replay.share < 1:
    raise UserError(
      f"REPLAY_SHARE = {replay.share} is outside [0, 1): it is the share of the rows that come "
      "from REPLAY_CORPUS. Set it to e.g. 0.05; 0 trains on CORPUS only and evaluates on both."
    )
  if (text := corpus.fingerprint()) and text == replay.corpus.fingerprint():
    raise UserError(
      f"REPLAY_CORPUS and CORPUS are the same text ({corpus.name}): set CORPUS to the new text, "
      "and REPLAY_CORPUS to that of the first training, or to None to replay nothing."
    )


def check_absent(corpus: Corpus | None, task_name: str) -> None:
  """Raises UserError if a run of the SeqIO task `task_name` has a corpus to replay."""
  if corpus is not None:
    raise UserError(
      f"REPLAY_CORPUS is set, and MIXTURE_OR_TASK_NAME = {task_name!r}: a replay needs CORPUS and "
      "OBJECTIVE. Add the old text to your SeqIO mixture, and set REPLAY_CORPUS = None."
    )


def describe(name: str, replayed: str | None, share: float) -> str:
  """Returns "text_files" or "text_files and 5% python_stdlib"."""
  return name if replayed is None else f"{name} and {share:.0%} {replayed}"
