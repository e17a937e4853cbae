"""What a corpus is: the protocol that the loader uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from t5x_style.data.corpora.reading.parts import Document, Part
from t5x_style.setting_types import Text

if TYPE_CHECKING:
  import seqio

# One or several of path, "/my/*.txt", "/my/folder", "gs://bucket/*.txt".
Patterns = Text | Sequence[Text]


class Corpus(Protocol):
  """A source of documents. Creating a corpus reads nothing.

  Attributes:
    name: used in the names of SeqIO tasks, so letters, digits, "_", "." and ":" only.
  """

  @property
  def name(self) -> str: ...

  def source(self) -> seqio.DataSource:
    """Prepares the data and returns a SeqIO source of {"text": string}, one document per example.

    The source is finite and has a fixed order. Its splits are "train" and, where documents are
    held out, "validation". Where a long document is read as several examples, these have the same
    number "document", int64. A corpus with something to predict for each document also has
    "target", string.

    A source may have `known_files` and `record_files`, KnownFiles of corpora.reading: those of the
    user, and those that TensorFlow reads. At each save a run warns of changes of the former, and
    ends if one of the latter has changed.

    Raises:
      UserError: the data cannot be read.
    """
    ...

  def fingerprint(self) -> str:
    """Returns a checksum that changes with the text, but not with the place of the files."""
    ...


class DocumentCorpus(Corpus, Protocol):
  """A corpus that can be read without TensorFlow, by several processes at once.

  Its documents are those of `source`, in the same splits, but long ones are not cut.
  """

  def parts(self) -> Sequence[Part]:
    """Checks the files and returns the parts that hold all documents, each once, in a fixed order.

    Raises:
      UserError: the data cannot be read.
    """
    ...

  def read(self, part: Part) -> Iterator[Document]:
    """Yields the documents of a part, in their order.

    Raises:
      UserError: the data cannot be read; it names the file and the place.
    """
    ...


class LabelledCorpus(Corpus, Protocol):
  """A corpus whose documents have "target": the label of a text, or the text to answer it with."""

  def targets(self) -> Mapping[str, Mapping[str, int]]:
    """Returns {split: {target: number of documents}}; {} if the documents have none.

    Of more than record_cache.MOST_LABELS different targets not all are counted.
    """
    ...
