"""Which corpora a run reads, and which share of the rows each corpus and objective gets.

A run reads one corpus; a mixture of several (corpora.Mixture); or, in continued pre-training, a new
corpus and a share of rows of the old one: a model that trains on new text only forgets the old, and
replaying a few percent of it prevents most of that (Ibrahim et al. 2024, section 6.2). All are read
with one vocabulary and one objective. A component of a run is a corpus with one part of the
objective; "code/causal_lm" has a loss of its own.

Both ways to read data, the stream and the token cache, take the components from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from t5x_style.data.corpora.base import Corpus
from t5x_style.data.corpora.mixture import Mixture, Part
from t5x_style.data.objectives.base import Objective
from t5x_style.errors import UserError

NEW, OLD = "new", "old"
ALL_ENDED = (
  "The data of this run has ended: all of its corpora have been read as often as CORPUS_EPOCHS "
  "allows. Set TRAIN_STEPS to the last step and start again, which completes this run, or raise a "
  "limit in CORPUS_EPOCHS for another run."
)


class Replay(NamedTuple):
  """The old corpus, and the share of the rows that come from it, in [0, 1)."""

  corpus: Corpus
  share: float


class Component(NamedTuple):
  """A corpus with one part of the objective."""

  name: str  # in the logs; "" for the only component
  label: str  # of the corpus; "" for the only corpus
  corpus: Corpus
  objective: Objective
  rate: float  # of the objective among those that read this corpus
  share: float  # of the rows, in any unit that all components share; of the tokens, see `unit`
  epochs: float | None = None  # how often this component reads the corpus at most
  start: float | None = None  # with a limit and several objectives: the epochs of those before it


def parts(corpus: Corpus, replay: Replay | None = None) -> tuple[Part, ...]:
  """Returns the corpora of a run with their shares.

  A mixture with a replay is read as before in what the replay leaves of the rows.

  Raises:
    UserError: rates, limits or names of a mixture are wrong.
  """
  several = isinstance(corpus, Mixture)
  found = tuple(corpus.members()) if isinstance(corpus, Mixture) else (Part("", corpus, 1.0),)
  if replay is None:
    return found
  left = 1.0 - replay.share
  new = (
    part._replace(label=part.label if several else NEW, share=left * part.share) for part in found
  )
  return (*new, Part(OLD, replay.corpus, replay.share))


def components(corpora: Sequence[Part], objective: Objective) -> tuple[Component, ...]:
  """Returns every component of a run: each part of the objective with each corpus.

  A limit on the epochs of a corpus counts how often its text is read by all of its components
  together; each gets its share of them, after the shares of the objectives before it: so with a
  limit of 1 they read different text, and all of it once. (Rows that share examples of a token
  cache are random shares instead: random_access.rows.SharedEpochs.) Components are in the order of
  their names, in which SeqIO has the tasks of a mixture.
  """
  each = objective.components()
  alone = [part.label for part in corpora] == [""]
  total = sum(rate for _, _, rate in each)
  found = []
  for part in corpora:
    before = 0.0
    for name, part_objective, rate in each:
      words = [part.label] * bool(part.label) + [name] * (len(each) > 1)
      share = rate if alone else rate / total * part.share
      epochs, start = None, None
      if part.epochs is not None:
        epochs = part.epochs * rate / total
        start = part.epochs * before / total if len(each) > 1 else None
      found.append(
        Component(
          "/".join(words), part.label, part.corpus, part_objective, rate, share, epochs, start
        )
      )
      before += rate
  return tuple(sorted(found, key=lambda component: component.name.replace("/", "_")))


def unit(corpus: Corpus) -> str:
  """Returns what the shares of a run's corpora are shares of: "rows" or "tokens"."""
  return corpus.unit if isinstance(corpus, Mixture) else "rows"


def shares_of_rows(shares: Sequence[float], tokens_per_row: Sequence[float]) -> list[float]:
  """Returns which shares of the rows give the components these shares of the tokens.

  Args:
    shares: of the tokens, in any unit.
    tokens_per_row: the mean of each component, without padding.

  Returns:
    shares of the rows, which sum to 1.
  """
  rows = np.asarray(shares, float) / np.asarray(tokens_per_row, float)
  return [float(x) for x in rows / rows.sum()]


def for_corpora(objective: Objective, corpora: Sequence[Part]) -> Objective:
  """Returns the objective with what it learns from the corpora, such as the labels of a task.

  Raises:
    UserError: a corpus has other labels than the first.
  """
  trained = [part for part in corpora if part.label != OLD]
  first, *others = [objective.for_corpus(part.corpus) for part in trained]
  for part, other in zip(trained[1:], others, strict=True):
    if other != first:
      raise UserError(
        f"CORPORA: {trained[0].label!r} and {part.label!r} have different labels or targets, and "
        f"OBJECTIVE = {objective.name} needs the same in all corpora."
      )
  return first


def identity(corpus: Corpus, replay: Replay | None) -> dict[str, dict[str, str]]:
  """Returns the names and fingerprints of the corpora, for the identity of a run."""
  named = {"corpus": corpus} | ({} if replay is None else {"replay_corpus": replay.corpus})
  return {
    name: {"name": each.name, "fingerprint": each.fingerprint()} for name, each in named.items()
  }


def describe(corpora: Sequence[Part]) -> str:
  """Returns "text_files", "text_files and 5% python_stdlib" or "75% code, 25% prose".

  Corpora of a mixture that are only evaluated on are left out.
  """
  if not corpora[0].label:
    return corpora[0].corpus.name
  if corpora[0].label == NEW:
    new, old = corpora
    return f"{new.corpus.name} and {old.share:.0%} {old.corpus.name}"
  return ", ".join(f"{part.share:.0%} {part.label}" for part in corpora if part.share)


def check_replay(corpus: Corpus, replay: Replay) -> None:
  """Checks a replay.

  Raises:
    UserError: the share is outside [0, 1), both corpora hold the same text, or the old corpus is a
      mixture.
  """
  if not 0 <= replay.share < 1:
    raise UserError(
      f"REPLAY_SHARE = {replay.share} is outside [0, 1): it is the share of the rows that come "
      "from REPLAY_CORPUS. Set it to e.g. 0.05; 0 trains on CORPUS only and evaluates on both."
    )
  if isinstance(replay.corpus, Mixture):
    raise UserError(
      "REPLAY_CORPUS is a mixture: set REPLAY_CORPUS = None, and add its corpora to CORPORA with "
      "the rates that they should have."
    )
  if isinstance(corpus, Mixture):
    new = {name: each.fingerprint() for name, each in corpus.corpora.items()}
  else:
    new = {corpus.name: corpus.fingerprint()}
  old = replay.corpus.fingerprint()
  for name, text in new.items():
    if text and text == old:
      raise UserError(
        f"REPLAY_CORPUS and CORPUS are the same text ({name}): set CORPUS to the new text, "
        "and REPLAY_CORPUS to that of the first training, or to None to replay nothing."
      )


def check_absent(corpus: Corpus | None, task_name: str) -> None:
  """Raises UserError if a run of the SeqIO task `task_name` has a corpus to replay."""
  if corpus is not None:
    raise UserError(
      f"REPLAY_CORPUS is set, and MIXTURE_OR_TASK_NAME = {task_name!r}: a replay needs CORPUS and "
      "OBJECTIVE. Add the old text to your SeqIO mixture, and set REPLAY_CORPUS = None."
    )
