"""A cache of texts as TFRecord files; the folder appears only when complete, and is checked."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import secrets
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t5x_style.data.corpora.reading import known_files, record_pieces
from t5x_style.data.corpora.reading.record_files import MOST_LABELS
from t5x_style.errors import UserError

if TYPE_CHECKING:
  import seqio

  from t5x_style.data.tensorflow_setup import tf

_FORMAT = 1
_MANIFEST = "manifest.json"
# Up to this size checksums are compared, which takes about a second per GB. For larger caches only
# the sizes of the files are; TensorFlow checks each record while it is read.
_CHECKSUM_BYTES = 2 * 2**30
_STALE_SECONDS = 86_400


class RecordWriter:
  """Writes documents to the shards of their split, in turn.

  Attributes:
    folder: where the files are.
    state: what was last given to `save` by a process that was interrupted; None if none was.
    documents, text_bytes: {split: how many}.
  """

  def __init__(self, folder: Path, shards: dict[str, int]):
    """Creates a writer; in the folder of an interrupted writer it resumes from what that saved."""
    self.folder = folder
    self.state: Any = None
    self._shards = shards
    self._writers: dict[str, list[tf.io.TFRecordWriter]] = {}
    self._digest = hashlib.sha256()
    self.documents = dict.fromkeys(shards, 0)
    self.text_bytes = dict.fromkeys(shards, 0)
    self._targets: dict[str, collections.Counter[str]] = {}
    self._saved = record_pieces.Pieces(folder)
    if (progress := self._saved.restored()) is not None:
      self.state, count = progress
      for split, text, target in self._saved.documents(count, self._files):
        self._count(split, text, target)

  def add(self, split: str, text: bytes, target: bytes | None = None) -> None:
    """Writes one document, and what is to be predicted for it, if there is such a thing."""
    from t5x_style.data.tensorflow_setup import tf

    if split not in self._writers:
      paths = [str(self._saved.piece(name)) for name in self._files(split)]
      self._writers[split] = [tf.io.TFRecordWriter(path) for path in paths]
    values = {"text": text} if target is None else {"text": text, "target": target}
    features = {
      name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
      for name, value in values.items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    writers = self._writers[split]
    writers[self.documents[split] % len(writers)].write(example.SerializeToString())
    self._saved.order.append(split)
    self._count(split, text, target)

  def save(self, state: Any) -> None:
    """Saves all documents so far, and `state` (JSON), from which the next process resumes."""
    for writer in itertools.chain(*self._writers.values()):
      writer.flush()
    self._saved.save(state, [name for split in self._shards for name in self._files(split)])

  def _count(self, split: str, text: bytes, target: bytes | None) -> None:
    self.documents[split] += 1
    self.text_bytes[split] += len(text)
    self._digest.update(f"{split} {len(text)} ".encode() + text)
    if target is not None:
      self._digest.update(f" {len(target)} ".encode() + target)
      counts = self._targets.setdefault(split, collections.Counter())
      if len(counts) <= MOST_LABELS:
        counts[target.decode()] += 1

  def _files(self, split: str) -> list[str]:
    count = self._shards[split]
    return [f"{split}-{i:05d}-of-{count:05d}.tfrecord" for i in range(count)]

  def close(self, facts: Any) -> None:
    """Closes the files and writes the manifest, with `facts` in it."""
    splits = {}
    for writer in itertools.chain(*self._writers.values()):
      writer.close()
    for split in (split for split, count in self.documents.items() if count):
      self._saved.join(self._files(split))
      splits[split] = {
        "documents": self.documents[split],
        "text_bytes": self.text_bytes[split],
        "files": {name: _facts(self.folder / name) for name in self._files(split)},
      }
    self._saved.remove()
    manifest = {
      "format": _FORMAT,
      "content": self._digest.hexdigest(),
      "facts": facts,
      "splits": splits,
      "targets": self._targets,
    }
    (self.folder / _MANIFEST).write_text(json.dumps(manifest, indent=1))


@dataclasses.dataclass(frozen=True)
class Records:
  """A complete cache.

  Attributes:
    folder: holds the files.
    content: checksum of all documents in their order.
    facts: what the builder returned.
    documents: {split: number of documents}.
    files: {split: paths}.
    targets: {split: {target: number of documents}} if the documents have targets, else {}; where
      there are more than MOST_LABELS, not all are counted.
  """

  folder: Path
  content: str
  facts: Any
  documents: dict[str, int]
  files: dict[str, list[str]]
  targets: dict[str, dict[str, int]]

  def source(self) -> seqio.DataSource:
    """Returns a SeqIO source of {"text": string} and, if there are targets, "target".

    Its `record_files` are KnownFiles.
    """
    import seqio

    from t5x_style.data.tensorflow_setup import tf

    names = ("text", "target") if self.targets else ("text",)
    source = seqio.TFExampleDataSource(
      self.files,
      {name: tf.io.FixedLenFeature([], tf.string) for name in names},
      num_input_examples=self.documents,
    )
    every = [file for files in self.files.values() for file in files]
    source.record_files = known_files.KnownFiles(every, sampled=False)
    return source


def default_root() -> Path:
  """Returns the default folder of caches: $T5X_STYLE_CACHE, or one in the user's cache folder."""
  if folder := os.environ.get("T5X_STYLE_CACHE"):
    return Path(os.path.expanduser(folder))
  return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "t5x_style" / "text"


def open_or_build(
  root: str | os.PathLike[str] | None,
  name: str,
  shards: dict[str, int],
  build: Callable[[RecordWriter], Any],
) -> Records:
  """Opens the cache `name`; builds it first if it is absent or damaged.

  Args:
    root: a local folder; default_root() if None.
    name: of the cache's folder; must contain a key of all that the content depends on.
    shards: {split: number of files}.
    build: adds the documents, always in the same order; its result is stored as `facts`. It must
      not raise OSError, which is taken for an error of writing.

  Raises:
    UserError: the folder cannot be written.
  """
  folder = _folder(root, name)
  records = _open(folder, warn="It is built again.")
  if records:
    return records
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder.with_name(f".{name}.lock")) as locked:
      # Another process may have built it while this one waited.
      return _open(folder) or _build(folder, shards, build, alone=locked)
  except Exception as error:
    of_tensorflow = type(error).__module__.startswith("tensorflow")  # It writes the files.
    if not (isinstance(error, OSError) or of_tensorflow):
      raise
    raise UserError(
      f"the text cache {folder} cannot be written: {error}. Set the environment variable "
      "T5X_STYLE_CACHE, or cache_dir of the corpus in the gin file, to a folder with room that you "
      "may write to."
    ) from error


def open_if_complete(root: str | os.PathLike[str] | None, name: str) -> Records | None:
  """Opens the cache `name`; None if it is absent, or damaged (with a warning)."""
  return _open(_folder(root, name), warn="It is not read.")


def _folder(root: str | os.PathLike[str] | None, name: str) -> Path:
  return (Path(os.path.expanduser(root)) if root else default_root()) / name


def _build(
  folder: Path, shards: dict[str, int], build: Callable[[RecordWriter], Any], alone: bool = False
) -> Records:
  """Writes the cache to a temporary folder and renames that.

  Args:
    alone: whether no other process builds it; then the folder of one that was killed is resumed.
  """
  for old in folder.parent.glob(f".{folder.name}.*.tmp"):
    if time.time() - old.stat().st_mtime > _STALE_SECONDS:  # its process was killed
      shutil.rmtree(old, ignore_errors=True)
  key = "begun" if alone else f"{secrets.token_hex(4)}.tmp"
  temporary = folder.with_name(f".{folder.name}.{key}")
  temporary.mkdir(exist_ok=alone)
  try:
    writer = RecordWriter(temporary, shards)
    writer.close(build(writer))
    _replace(temporary, folder)
    shutil.rmtree(temporary, ignore_errors=True)
  except Exception as error:
    if isinstance(error, UserError) or not record_pieces.is_saved(temporary):
      shutil.rmtree(temporary, ignore_errors=True)
    raise
  records = _open(folder)
  if records is None:
    raise OSError(f"what was just written to {folder} reads differently")
  return records


def _replace(temporary: Path, folder: Path) -> None:
  """Renames `temporary` to `folder`.

  A damaged cache there is removed; a complete one, which a process on another machine has just
  written, is kept instead.
  """
  for _ in range(3):
    try:
      temporary.rename(folder)
      return
    except OSError:
      if not folder.exists():
        raise
    if _open(folder):
      return
    damaged = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    with contextlib.suppress(FileNotFoundError):
      folder.rename(damaged)
    shutil.rmtree(damaged, ignore_errors=True)
  raise OSError(f"{folder} keeps coming back damaged")


def _open(folder: Path, warn: str = "") -> Records | None:
  """Opens the cache; None if it is absent or differs from its manifest.

  Args:
    warn: what is done about one that differs; "" does not warn of it.
  """
  if not folder.is_dir():
    return None
  try:
    manifest = json.loads((folder / _MANIFEST).read_text())
    if manifest["format"] != _FORMAT:
      return None
    splits = manifest["splits"]
    files = {name: facts for split in splits.values() for name, facts in split["files"].items()}
    checksums = sum(size for size, _ in files.values()) <= _CHECKSUM_BYTES
    for name, (size, checksum) in files.items():
      if (folder / name).stat().st_size != size:
        raise ValueError(f"{name} has not the {size} bytes it was written with")
      if checksums and _facts(folder / name)[1] != checksum:
        raise ValueError(f"the checksum of {name} differs")
    return Records(
      folder,
      manifest["content"],
      manifest["facts"],
      {split: facts["documents"] for split, facts in splits.items()},
      {split: [str(folder / name) for name in facts["files"]] for split, facts in splits.items()},
      manifest.get("targets", {}),
    )
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    if warn:
      warnings.warn(f"The text cache {folder} is damaged ({error}). {warn}", stacklevel=3)
    return None


def _facts(file: Path) -> tuple[int, str]:
  """Size in bytes and checksum."""
  with file.open("rb") as f:
    checksum = hashlib.file_digest(f, "sha256").hexdigest()
  return file.stat().st_size, checksum


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
  """Prevents processes of one machine from building the same cache twice; says whether it does.

  On file systems without locks they may, which costs time but does no harm.
  """
  with contextlib.ExitStack() as stack:
    locked = False
    with contextlib.suppress(ImportError, OSError):
      import fcntl

      file = stack.enter_context(path.open("w"))
      fcntl.flock(file, fcntl.LOCK_EX)
      locked = True
    yield locked
