"""The files of a cache of records that is being written, so that another process can resume.

TensorFlow writes records only to new files. So a process that resumes writes pieces, which are
joined to the files: TFRecord files that are joined are a TFRecord file.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

_PROGRESS, _ORDER = "progress.json", "order"
_PIECE = ".piece"
_CHUNK = 2**22  # bytes


def is_saved(folder: Path) -> bool:
  """Returns whether another process can resume in a folder."""
  return (folder / _PROGRESS).exists()


class Pieces:
  """The files of a folder with their pieces, and the order of the documents in them.

  Attributes:
    order: the splits of the documents that were written since the last `save`.
  """

  def __init__(self, folder: Path):
    self._folder = folder
    self.order: list[str] = []
    self._ordered = 0  # documents whose split is saved

  def restored(self) -> tuple[Any, int] | None:
    """Brings the files to what was last saved; None, and an empty folder, if nothing was.

    Returns:
      the state that was saved, and the number of documents.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
      progress = json.loads((self._folder / _PROGRESS).read_text())
      sizes: dict[str, list[int]] = progress["sizes"]
      for name, (size, piece) in sizes.items():
        self._check(name, size)
        self._check(name + _PIECE, piece)
      self._check(_ORDER, progress["documents"])
      for name, (size, piece) in sizes.items():
        with (self._folder / name).open("ab") as file:
          file.truncate(size)
        self._append(name, piece)
      os.truncate(self._folder / _ORDER, progress["documents"])
      # Should this process be killed here, the pieces are still there and are joined again.
      self._ordered = progress["documents"]
      self._write(progress["state"], {name: [sum(both), 0] for name, both in sizes.items()})
      for name in sizes:
        (self._folder / (name + _PIECE)).unlink(missing_ok=True)
      return progress["state"], self._ordered
    for path in self._folder.iterdir():
      path.unlink()
    return None

  def _check(self, name: str, size: int) -> None:
    """Raises OSError if a file is shorter than it was: the machine lost what it had written."""
    path = self._folder / name
    if (path.stat().st_size if path.exists() else 0) < size:
      raise OSError(f"{path} is shorter than {size} bytes")

  def documents(
    self, count: int, files: Callable[[str], Sequence[str]]
  ) -> Iterator[tuple[str, bytes, bytes | None]]:
    """Yields (split, text, target) of the documents that are saved, in their order.

    Args:
      count: how many there are.
      files: split -> its files, to which documents were written in turn.
    """
    from t5x_style.data.tensorflow_setup import tf

    readers: dict[str, list[Iterator[bytes]]] = {}
    taken: dict[str, int] = {}
    with (self._folder / _ORDER).open("rb") as order:
      for letter in order.read(count).decode():
        split = {"t": "train", "v": "validation"}[letter]
        if split not in readers:
          paths = [str(self._folder / name) for name in files(split)]
          readers[split] = [_records(path) for path in paths]
          taken[split] = 0
        record = next(readers[split][taken[split] % len(readers[split])])
        taken[split] += 1
        features = tf.train.Example.FromString(record).features.feature
        target = features["target"].bytes_list.value[0] if "target" in features else None
        yield split, features["text"].bytes_list.value[0], target

  def piece(self, name: str) -> Path:
    """Returns where this process writes what belongs to a file."""
    return self._folder / (name + _PIECE)

  def save(self, state: Any, names: Sequence[str]) -> None:
    """Saves `state`, and that the files and their pieces are valid up to their present sizes."""
    with (self._folder / _ORDER).open("ab") as file:
      file.write("".join(split[0] for split in self.order).encode())
    self._ordered += len(self.order)
    self.order.clear()
    paths = {name: (self._folder / name, self.piece(name)) for name in names}
    self._write(
      state,
      {n: [path.stat().st_size if path.exists() else 0 for path in p] for n, p in paths.items()},
    )

  def _write(self, state: Any, sizes: dict[str, list[int]]) -> None:
    progress = {"state": state, "documents": self._ordered, "sizes": sizes}
    temporary = self._folder / f"{_PROGRESS}.new"
    temporary.write_text(json.dumps(progress))
    temporary.replace(self._folder / _PROGRESS)

  def join(self, names: Sequence[str]) -> None:
    """Joins the pieces to their files."""
    for name in names:
      piece = self.piece(name)
      if piece.exists():
        if (self._folder / name).exists():
          self._append(name, piece.stat().st_size)
          piece.unlink()
        else:
          piece.rename(self._folder / name)
      else:
        (self._folder / name).touch()

  def _append(self, name: str, size: int) -> None:
    """Appends the first bytes of a file's piece to it."""
    if size:
      with self.piece(name).open("rb") as piece, (self._folder / name).open("ab") as file:
        while size and (chunk := piece.read(min(size, _CHUNK))):
          size -= file.write(chunk)

  def remove(self) -> None:
    """Removes what is needed only while files are written."""
    for name in (_PROGRESS, _ORDER):
      (self._folder / name).unlink(missing_ok=True)


def _records(path: str) -> Iterator[bytes]:
  """Yields the records of a file."""
  from t5x_style.data.tensorflow_setup import tf

  # One by one they would take ten times as long.
  for records in tf.data.TFRecordDataset(path).batch(256).as_numpy_iterator():
    yield from records
