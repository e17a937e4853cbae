"""A token cache as the corpus of a run: documents that were tokenised before."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Mapping
from typing import NoReturn

from t5x_style import token_cache
from t5x_style.errors import UserError
from t5x_style.setting_types import Text

# Different targets are counted up to this number.
MOST_LABELS = 1000


@dataclasses.dataclass(frozen=True)
class TokenCache:
  """A folder that `python -m launch.cache` made: the tokens of a corpus, read by index.

  The run needs no TensorFlow, resumes at once at any step, and may change its number of processes;
  t5x_style.data.random_access reads it. The vocabulary is the one that the cache was made with.

  Attributes:
    folder: of the cache.
  """

  folder: Text

  @functools.cached_property
  def opened(self) -> token_cache.TokenCache:
    """The cache; its manifest and files are checked when it is first used.

    Raises:
      UserError: there is no cache, or it is damaged.
    """
    return token_cache.open(self.folder)

  @property
  def name(self) -> str:
    return self.opened.manifest.corpus["name"]

  def source(self) -> NoReturn:
    raise UserError(
      f"the token cache {self.folder} has no text to read as a stream: all corpora of a run have "
      "to be token caches, or none of them."
    )

  def fingerprint(self) -> str:
    """Returns a checksum of the documents, their order and their targets."""
    return self.opened.manifest.content

  def targets(self) -> Mapping[str, Mapping[str, int]]:
    """Returns {split: {target: number of documents}}; {} if the documents have none.

    Of more than MOST_LABELS different targets not all are counted.
    """
    if not self.opened.targets:
      return {}
    return {name: _counted(self.opened.split(name)) for name in self.opened.splits}


def _counted(split: token_cache.Split) -> Mapping[str, int]:
  counts: collections.Counter[str] = collections.Counter()
  for document in range(len(split)):
    counts[split.target(document)] += 1
    if len(counts) > MOST_LABELS:  # They are texts, and no labels.
      break
  return counts
