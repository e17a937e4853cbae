"""Several corpora in one run, whose rows are drawn at rates."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, NoReturn

from t5x_style.data.corpora.base import Corpus
from t5x_style.errors import UserError
from t5x_style.setting_types import NonNegativeFloat, PositiveFloat, Text

# The names of a replay (t5x_style.data.corpus_mixture), which may be added to a mixture.
_RESERVED = ("new", "old")


class Part(NamedTuple):
  """A corpus of a run."""

  label: str  # its name in the logs; "" for the only corpus
  corpus: Corpus
  share: float  # of the rows, or of the tokens; those of a run sum to 1
  epochs: float | None = None  # how often it may be read


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Draws every row from one of several corpora, all with one vocabulary and objective.

  Each corpus has a loss of its own in the logs, its realised share, and how often it has been read.
  An evaluation has as many batches of each corpus.

  Attributes:
    corpora: {name in the logs: corpus}.
    rates: {name: how often the corpus is drawn} in any unit, such as the sizes of the corpora; {}
      draws all equally often. A corpus of rate 0 is only evaluated on.
    unit: what is drawn at these rates: "rows" of a batch, or "tokens", which differ where rows of
      one corpus hold more padding than those of another.
    temperature: rates are raised to 1 / temperature; above 1 it makes them more equal (multilingual
      BERT; mT5, Xue et al. 2020, section 3.1, with alpha = 1 / temperature).
    epochs: {name: how often the corpus is read at most}. When it has been read so often, the others
      get its share, in proportion to their rates. When all have ended, the run ends with an error.
  """

  corpora: Mapping[Text, Corpus]
  rates: Mapping[Text, NonNegativeFloat] = dataclasses.field(default_factory=dict)
  unit: Literal["rows", "tokens"] = "rows"
  temperature: PositiveFloat = 1.0
  epochs: Mapping[Text, PositiveFloat] = dataclasses.field(default_factory=dict)

  @property
  def name(self) -> str:
    return "_".join(self.corpora)

  def members(self) -> Iterator[Part]:
    """Yields the corpora with their shares.

    Raises:
      UserError: a rate or a limit is of no corpus, or wrong, or two corpora hold the same text.
    """
    self._check_names()
    rates = dict(self.rates) or dict.fromkeys(self.corpora, 1.0)
    if rates.keys() != self.corpora.keys() or min(rates.values()) < 0 or not any(rates.values()):
      raise UserError(
        f"CORPUS_RATES = {rates}, and CORPORA has {list(self.corpora)}: set one number for each, 0 "
        "to evaluate on a corpus only, and one above 0 at least; {} draws all equally often."
      )
    most = max(rates.values())  # Powers of ratios cannot become too large.
    weights = {name: (rate / most) ** (1 / self.temperature) for name, rate in rates.items()}
    total = sum(weights.values())
    for name, corpus in self.corpora.items():
      yield Part(name, corpus, weights[name] / total, self.epochs.get(name))

  def _check_names(self) -> None:
    odd = [x for x in self.corpora if not re.fullmatch(r"[A-Za-z0-9_.]+", x) or x in _RESERVED]
    if odd or not self.corpora:
      raise UserError(
        f"CORPORA has the names {list(self.corpora)}: set one corpus or more, whose names are made "
        'of letters, digits, "_" and "." and are not "new" or "old".'
      )
    if unknown := sorted(self.epochs.keys() - self.corpora.keys()):
      raise UserError(
        f"CORPUS_EPOCHS has {', '.join(unknown)}, and CORPORA has {', '.join(self.corpora)}: a "
        "limit is for one of these."
      )
    seen: dict[str, str] = {}
    for name, corpus in self.corpora.items():
      text = corpus.fingerprint()
      if text and text in seen:
        raise UserError(
          f"CORPORA: {seen[text]!r} and {name!r} are the same text; leave out one of them, and set "
          "its rate to what both should have together."
        )
      seen[text] = name

  def source(self) -> NoReturn:
    raise UserError(
      f"the mixture of {', '.join(self.corpora)} is no single source of text; give one of its "
      "corpora as CORPUS."
    )

  def fingerprint(self) -> str:
    """Returns a checksum of all corpora with their names; rates are no part of it."""
    texts: list[Any] = [(name, x.name, x.fingerprint()) for name, x in self.corpora.items()]
    return hashlib.sha256(repr(texts).encode()).hexdigest()
