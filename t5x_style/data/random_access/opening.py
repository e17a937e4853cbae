"""Opens the data of a run on token caches, from what gin says; finds all mistakes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from t5x_style.data import converters, corpus_mixture, packing, run_facts
from t5x_style.data.corpora.mixture import Part
from t5x_style.data.corpora.token_cache import TokenCache
from t5x_style.data.objectives.base import Objective
from t5x_style.data.random_access import examples, plans, rows, units
from t5x_style.data.random_access.dataset import Dataset, HeldOut
from t5x_style.data.random_access.documents import Documents
from t5x_style.data.random_access.schedule import Schedule
from t5x_style.data.tokenizers import token_ids
from t5x_style.data.tokenizers.token_ids import TokenIds
from t5x_style.data.tokenizers.vocabulary import Vocabulary
from t5x_style.errors import UserError
from t5x_style.token_cache import Split

# Increase it when the same settings give other rows, so that no run resumes with other rows.
_VERSION = 1
_LIMITED_VERSION = 2  # of runs with CORPUS_EPOCHS
_EVALUATION_SEED = 0
# This many rows of a component show how many tokens a row of it has.
_MEASURED_ROWS = 256


class Settings(NamedTuple):
  """Settings of a run that are not about its text.

  Attributes:
    pack: whether short examples share rows, where the objective keeps documents apart in this way.
    batch_size: global batch in rows.
    process: index and count.
  """

  architecture: str
  pack: bool
  batch_size: int
  seed: int
  process: tuple[int, int]


class _Run(NamedTuple):
  """What the rows of a run are made of; the objective knows the corpora."""

  corpora: Sequence[Part]
  caches: Mapping[str, TokenCache]  # by the label of the corpus; all of one vocabulary
  components: Sequence[corpus_mixture.Component]
  objective: Objective
  lengths: Mapping[str, int]  # {task feature: tokens} of a row
  ids: TokenIds
  settings: Settings


def open_run(
  corpus: Any,
  replayed: corpus_mixture.Replay | None,
  vocabulary: Vocabulary | None,
  objective: Objective | None,
  settings: Settings,
  feature_lengths: Mapping[str, int] | None,
  cross_documents: bool | None = None,
) -> Dataset:
  """Opens the token caches of a run, and plans the rows of their documents.

  Args:
    corpus: a corpora.TokenCache, or a mixture of them.
    replayed: the cache of an earlier training, and its share; None if there is none.
    vocabulary: None, or that of the caches.
    feature_lengths: TASK_FEATURE_LENGTHS in tokens; the objective computes those left out.
    cross_documents: replaces what the objective says, unless it is None.

  Raises:
    UserError: a setting cannot work, a cache is damaged or of another vocabulary, or the training
      split of one gives no row.
  """
  if objective is None:
    raise UserError("OBJECTIVE is not set; include a file of gin_configs/objectives/.")
  architecture = settings.architecture
  objective.check_architecture(architecture)
  if replayed is not None:
    corpus_mixture.check_replay(corpus, replayed)
  corpora = corpus_mixture.parts(corpus, replayed)
  caches = _caches(corpora, vocabulary)
  objective = corpus_mixture.for_corpora(objective, corpora)
  if cross_documents is not None:
    objective = objective.with_cross_documents(cross_documents)
  lengths = objective.lengths(dict(feature_lengths or {}), architecture)
  ids = token_ids.of_codec(caches[corpora[0].label].opened.codec)
  objective.check(ids, lengths, architecture)
  components = corpus_mixture.components(corpora, objective)
  run = _Run(corpora, caches, components, objective, lengths, ids, settings)
  train = _rows(run, "train", settings.seed)
  if corpus_mixture.unit(corpus) == "tokens":
    train = _by_tokens(train)
  return _opened(run, train)


def _opened(run: _Run, train: rows.Rows) -> Dataset:
  """Opens the held-out splits of a run, and checks its rows of training."""
  for component in train.components:
    if component.rate and not component.examples.count:
      raise UserError(
        f"{component.name} gives no example: the training split of the token cache has no document "
        f"with enough tokens for feature lengths {dict(run.lengths)}. Check what CACHE_DIR points "
        "to, or shorten TASK_FEATURE_LENGTHS."
      )
  _check_documents(run, train)
  held_out, absent = [], []
  for label, cache in run.caches.items():
    missing = [label or cache.name]
    if "validation" in cache.opened.splits:
      found = _rows(run, "validation", _EVALUATION_SEED, only=label)
      missing = [x.name for x in found.components if x.rate and not x.examples.count]
      if not missing:
        held_out.append(_one_pass(found))
    absent += missing
  objectives = [component.objective for component in run.components]
  parts = [
    run_facts.Part(component.name, objective, objective.likelihood, True)
    for component, objective in zip(train.components, objectives, strict=True)
  ]
  names = ", ".join(dict.fromkeys(objective.name for objective in objectives))
  return Dataset(
    train,
    held_out,
    absent,
    run_facts.of(run.objective.name, parts, run.lengths, run.settings.architecture),
    batch_size=run.settings.batch_size,
    process=run.settings.process,
    description=f"{corpus_mixture.describe(run.corpora)} (token cache), {names}",
    identity=_identity(run, train),
    vocabulary=_vocabulary(run),
  )


class _FirstDocuments:
  """The first documents of a split, as Objective.check_texts reads those of a stream."""

  def __init__(self, split: Split, has_target_tokens: bool):
    self._split, self._has_target_tokens = split, has_target_tokens
    self._count = len(split)

  def opened(self) -> _FirstDocuments:
    return self

  def take(self, count: int) -> _FirstDocuments:
    self._count = min(count, self._count)
    return self

  def as_numpy_iterator(self) -> Iterator[Mapping[str, np.ndarray]]:
    for number in range(self._count):
      document = {"targets": self._split.tokens(number)}
      if self._has_target_tokens:
        document["target_tokens"] = self._split.target_tokens(number)
      yield document


def _check_documents(run: _Run, train: rows.Rows) -> None:
  """Checks, and warns of, documents that an objective cannot use, or only in part."""
  for component, made in zip(run.components, train.components, strict=True):
    pieces = made.examples.pieces
    if isinstance(pieces, Documents):
      pieces.check()
    if run.settings.process[0] == 0:
      found: Any = _FirstDocuments(made.examples.split, component.objective.target_is_text)
      component.objective.check_texts(found.opened, run.lengths, "the 'train' split")


def _rows(run: _Run, split: str, seed: int, only: str | None = None) -> rows.Rows:
  """Returns the rows of a split.

  Args:
    only: draws rows of the corpus with this label only; its components keep their numbers.
  """
  several = len(run.components) > 1
  components, most = [], []
  for index, component in enumerate(run.components):
    if only is not None and component.label != only:
      continue
    limited = only is None and component.start is not None
    order = _first_of_corpus(run, component.label) if limited else index
    made = _examples(run, component, split, seed, order)
    epochs = component.epochs if only is None else None
    limit = None if epochs is None else int(epochs * made.count)
    shared = None
    if limited and made.count:
      shared = _shared(component, made, order)
      limit = shared.end - shared.first
    components.append(
      rows.Component(
        name=component.name or run.objective.name,
        corpus=component.label,
        # An evaluation of one corpus does not ask for its share of the training, which may be 0.
        rate=component.share if only is None else component.rate,
        examples=made,
        causal_inputs=component.objective.causal_inputs,
        number=index if several else None,
        shared=shared,
      )
    )
    most.append(limit)
  schedule = Schedule(tuple(component.rate for component in components), seed, tuple(most))
  architecture = run.settings.architecture
  return rows.Rows(tuple(components), schedule, architecture, run.lengths, run.ids, seed)


def _first_of_corpus(run: _Run, label: str) -> int:
  """Returns the index of the first component that reads a corpus."""
  return [component.label for component in run.components].index(label)


def _shared(
  component: corpus_mixture.Component, made: examples.Examples, order: int
) -> rows.SharedEpochs:
  """Returns the rows of a component that shares the limited epochs of its corpus with others."""
  assert component.start is not None and component.epochs is not None
  # The rounding keeps sums of shares, such as 0.9999999999, from leaving out a row.
  edges = (component.start, component.start + component.epochs)
  first, end = (int(round(x * made.count, 6)) for x in edges)
  return rows.SharedEpochs(order, first, max(end, first + 1), isinstance(made, examples.Alone))


def _by_tokens(train: rows.Rows) -> rows.Rows:
  """Returns the rows with the shares of rows that make the shares of now those of tokens."""
  tokens = []
  for index, component in enumerate(train.components):
    read = 1.0
    if component.rate and component.examples.count:
      some = train.first_of_component(index, np.arange(_MEASURED_ROWS))
      sides = [some[name] for name in converters.PADDED_TOKENS.values() if name in some]
      read = sum(int((side > 0).sum()) for side in sides) / _MEASURED_ROWS
    tokens.append(read)
  rates = [component.rate for component in train.components]
  shares = corpus_mixture.shares_of_rows(rates, tokens)
  components = [
    dataclasses.replace(component, rate=share)
    for component, share in zip(train.components, shares, strict=True)
  ]
  schedule = dataclasses.replace(train.schedule, rates=tuple(shares))
  return dataclasses.replace(train, components=tuple(components), schedule=schedule)


def _examples(
  run: _Run, component: corpus_mixture.Component, split_name: str, seed: int, order: int
) -> examples.Examples:
  """Returns the rows of a component; `order` decides where joined documents are cut."""
  cache, objective = run.caches[component.label], component.objective
  split, architecture = cache.opened.split(split_name), run.settings.architecture
  own = objective.own_lengths(run.lengths, architecture)
  if not objective.reads_documents:
    corrupt = objective.corrupt_window(run.ids, own, architecture)
    if objective.windows_are_joined:
      key = int(rows.order_key(seed, order)[0])
      length = objective.window_length(own, architecture)
      joined = examples.Windows(split, units.JoinedWindows(split, length, key), corrupt, seed)
      return examples.Alone(split, joined, run.lengths)
  cutting = objective.pieces(own, architecture)
  sharing = _sharing(run, objective, own, split)
  plan = plans.open_plan(Path(cache.folder), cache.fingerprint(), split, cutting, sharing)
  of_documents = units.PieceUnits(split, cutting, plan.positions)
  pieces: examples.Pieces
  if objective.reads_documents:
    pieces = Documents(split, of_documents, objective, run.ids, own, architecture, seed)
  else:
    pieces = examples.Windows(split, of_documents, corrupt, seed)
  if sharing is None:
    return examples.Alone(split, pieces, run.lengths)
  return examples.Shared(split, pieces, plan, architecture, run.lengths)


def _sharing(
  run: _Run, objective: Objective, own: Mapping[str, int], split: Split
) -> plans.Sharing | None:
  """Says how examples of an objective share rows; None if each has a row of its own.

  Args:
    own: {task feature: tokens} of the component, at most those of a row.
  """
  architecture = run.settings.architecture
  if not (run.settings.pack and objective.examples_share_rows and architecture != "encoder_only"):
    return None

  def needs(tokens: np.ndarray, documents: np.ndarray) -> np.ndarray:
    targets = None
    if objective.target_is_text:
      first, last = documents[0], documents[-1]
      targets = split.target_lengths(first, last + 1)[documents - first]
    found = objective.most_tokens(tokens, targets, own, architecture)
    sides = [found[name] for name in ("inputs", "targets") if name in found]
    return np.stack([sum(sides)] if architecture == "decoder_only" else sides, axis=1)

  room = tuple(packing.widths(run.lengths, architecture).values())
  facts = {"architecture": architecture, "own": dict(own), "objective": objective.identity()}
  return plans.Sharing(needs, room, facts)


def _one_pass(found: rows.Rows) -> HeldOut:
  """Returns the rows until a component has no more text, with all components in their shares."""
  counts = np.array([component.examples.count for component in found.components])
  if len(counts) == 1:
    return HeldOut(found, int(counts[0]), np.zeros(0, np.int64))
  shares = found.schedule.shares
  whole = shares.most_blocks(counts)
  before, after = shares.counts(whole), shares.counts(whole + 1)
  # Of the next block each component has this share of its rows.
  share = np.min((counts - before) / np.maximum(after - before, 1))
  numbers = whole * shares.block + np.arange(shares.block)
  components, of_component = found.schedule(numbers)
  kept = of_component < (before + np.floor(share * (after - before)))[components]
  return HeldOut(found, whole * shares.block, numbers[kept])


def _caches(corpora: Sequence[Part], given: Vocabulary | None) -> dict[str, TokenCache]:
  """Returns the corpora by their labels.

  Raises:
    UserError: one is no token cache, or has another vocabulary than the others or the run.
  """
  caches = {part.label: part.corpus for part in corpora if isinstance(part.corpus, TokenCache)}
  for part in corpora:
    if part.label not in caches:
      raise UserError(
        f"a token cache and {part.corpus.name}, which is no token cache, are corpora of one run: "
        "make a cache of it, too (`python -m launch.cache`), or read both as text."
      )
  first, *others = (cache.opened for cache in caches.values())
  for other in others:
    first.check_vocabulary(other.manifest.vocabulary["identity"])
  if given is not None:
    from t5x_style.data.tokenizers import vocabularies

    first.check_vocabulary(vocabularies.identity(given))
  return caches


def _vocabulary(run: _Run) -> Mapping[str, Any]:
  """Returns the identity of the vocabulary."""
  return run.caches[run.corpora[0].label].opened.manifest.vocabulary["identity"]


def _identity(run: _Run, train: rows.Rows) -> dict[str, Any]:
  """Returns what decides on the batches, as JSON values."""
  settings = run.settings
  return {
    "token_caches": {
      label or "corpus": {"name": cache.name, "content": cache.fingerprint()}
      for label, cache in run.caches.items()
    },
    "order": _VERSION if all(x.epochs is None for x in run.components) else _LIMITED_VERSION,
    "vocabulary": _vocabulary(run),
    "architecture": settings.architecture,
    "feature_lengths": dict(run.lengths),
    "pack": settings.pack,
    "batch_size": settings.batch_size,
    "seed": settings.seed,
    "components": [
      {"name": made.name, "rate": made.rate}
      | component.objective.identity()
      | ({"epochs": component.epochs} if component.epochs is not None else {})
      | ({"start": component.start} if component.start is not None else {})
      for made, component in zip(train.components, run.components, strict=True)
    ],
  }
