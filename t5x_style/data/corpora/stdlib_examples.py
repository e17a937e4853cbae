"""Texts with targets, made of the standard library's code: what the corpora of such tasks share."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Interval

from t5x_style.data.corpora import python_stdlib
from t5x_style.data.corpora.reading import record_cache
from t5x_style.data.corpora.reading.parts import Document, Part
from t5x_style.setting_types import Text

if TYPE_CHECKING:
  import seqio

_SHARDS = {"train": 8, "validation": 2}


@dataclasses.dataclass(frozen=True)
class StdlibExamples:
  """A corpus of texts and targets from files of the standard library; a subclass says which.

  Attributes:
    validation_percent: of the files, held out by a hash of their path; those that PythonStdlib
      holds out with the same percentage.
    cache_dir: as in PythonStdlib.
    name: of the task, which begins the name of the cache.
    version: of the texts. Increase it when they change, so that no run reads an old cache.
  """

  validation_percent: Annotated[int, Interval(gt=0, lt=100)] = 20
  cache_dir: Text | None = None
  name: ClassVar[str]
  version: ClassVar[int]

  @staticmethod
  def is_used(path: str) -> bool:
    """Returns whether a file is read; its path is relative to the library's folder."""
    raise NotImplementedError

  @staticmethod
  def examples(path: str, code: str) -> Iterator[tuple[str, str, int]]:
    """Yields texts of a file, their targets, and the numbers of the lines they begin with."""
    raise NotImplementedError

  def source(self) -> seqio.DataSource:
    return self._records().source()

  def fingerprint(self) -> str:
    return self._records().content

  def targets(self) -> Mapping[str, Mapping[str, int]]:
    return self._records().targets

  def parts(self) -> Sequence[Part]:
    return python_stdlib.parts_of(python_stdlib.ordered(self._paths()))

  def read(self, part: Part) -> Iterator[Document]:
    path = part.file
    code = (python_stdlib.folder() / path).read_bytes().decode(errors="replace")
    split = python_stdlib.split_of(path, self.validation_percent)
    for text, target, line in self.examples(path, code):
      yield Document(split, text.encode(), target.encode(), path, line)

  def _paths(self) -> list[str]:
    return [x for x in python_stdlib.text_files(python_stdlib.folder()) if self.is_used(x)]

  def _records(self) -> record_cache.Records:
    """Opens the cached texts with their targets; the first call writes them."""
    parts = python_stdlib.parts_of(self._paths())
    key = hashlib.sha256(repr((self.version, self.validation_percent)).encode())
    for part in parts:
      key.update(f"{part.file}\0{part.size}\n".encode())

    def build(writer: record_cache.RecordWriter) -> None:
      for part in parts:
        for document in self.read(part):
          writer.add(document.split, document.text, document.target)

    cache = f"{self.name}-{platform.python_version()}-{key.hexdigest()[:12]}"
    return record_cache.open_or_build(self.cache_dir, cache, _SHARDS, build)
