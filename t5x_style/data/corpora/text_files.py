"""The user's files: what a pattern matches, what is held out, and whether it can be read."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence

import tensorflow as tf

from t5x_style.errors import UserError

# Bytes. A document is in memory as a whole, several times over while it is tokenised.
LARGEST_DOCUMENT = 2**30
# What a fingerprint reads of a file: three blocks of so many bytes, unless there are too many files
# for that; then their sizes have to do.
SAMPLE_BYTES = 65_536
_SAMPLED_FILES = 10_000


def check_fraction(fraction: float) -> None:
  if not 0 <= fraction < 1:
    raise UserError(
      f"VALIDATION_FRACTION = {fraction} is not a share of at least 0 and less than 1; 0.05 holds "
      "out every twentieth document."
    )


def splits(
  pattern: str | Sequence[str], validation_pattern: str | Sequence[str] | None
) -> dict[str, list[str]]:
  """The files of "train" and, where a pattern says which, "validation", sorted.

  Raises:
    UserError: nothing matches.
    PermissionError: a file cannot be read.
  """
  files = {"train": matching(pattern, "CORPUS_FILES")}
  if validation_pattern:
    files["validation"] = matching(validation_pattern, "VALIDATION_FILES")
    held_out = {_identity(file) for file in files["validation"]}
    files["train"] = [file for file in files["train"] if _identity(file) not in held_out]
    if not files["train"]:
      raise UserError(
        f"VALIDATION_FILES = {validation_pattern!r} matches all that CORPUS_FILES = {pattern!r} "
        "does; nothing is left to train on. Write patterns of which one matches more."
      )
  return files


def whole(files: Mapping[str, Sequence[str]], held_out: float | None) -> dict[str, list[str]]:
  """Files that are a document each: empty ones left out, some held out by a hash of their path.

  The hashed path is that below the folder all files have in common, so that they may be moved.

  Args:
    files: of each split.
    held_out: share of the "train" files that becomes "validation", at least one; None or 0: none.
  """
  sizes = {file: _size(file) for names in files.values() for file in names}
  large = [file for file, size in sizes.items() if size > LARGEST_DOCUMENT]
  if large:
    raise UserError(
      f"{large[0]} has {sizes[large[0]] / 2**30:.1f} GiB, too much for one document. Set "
      "CORPUS_DOCUMENTS = 'line' to read a document a line, or cut it into files."
    )
  result = {split: [file for file in names if sizes[file]] for split, names in files.items()}
  for split, names in result.items():
    if not names:
      raise UserError(
        f"all files for {split} are empty, e.g. {files[split][0]}; write their text into them, or "
        "change CORPUS_FILES or VALIDATION_FILES."
      )
  if not held_out:
    return result
  train = result["train"]
  if len(train) < 2:
    raise UserError(
      f"CORPUS_FILES matches one file with text, {train[0]}, which is one document: none can be "
      "held out. Set VALIDATION_FILES to other files, or CORPUS_DOCUMENTS = 'line' to read a "
      "document a line."
    )
  base = _common_folder(train)
  hashes = {
    file: hashlib.sha256(os.fsencode(file[len(base) :].replace(os.sep, "/"))).digest()
    for file in train
  }
  limit = held_out * 2**32
  validation = {f for f in train if int.from_bytes(hashes[f][:4], "big") < limit}
  validation = validation or {min(train, key=hashes.__getitem__)}
  if len(validation) == len(train):
    validation -= {max(train, key=hashes.__getitem__)}
  return {
    "train": [file for file in train if file not in validation],
    "validation": sorted(validation),
  }


def matching(patterns: str | Sequence[str], macro: str) -> list[str]:
  """Every file that one of the patterns matches, sorted; `macro` is named in errors.

  A file that several names lead to, through links or as "a" and "./a", is there once. Names that
  are no UTF-8 hold their bytes as Python writes them (os.fsdecode).
  """
  found: set[str] = set()
  for pattern in [patterns] if isinstance(patterns, str) else patterns:
    files = _glob(pattern)
    if not files:
      raise UserError(_nothing_matches(pattern, macro))
    found.update(files)
  for file in found:
    _check_readable(file, macro)
  if not found:
    raise UserError(f"{macro} = {patterns!r} names no file; write e.g. '/my/texts/**/*.txt'.")
  return sorted({_identity(file): file for file in sorted(found, reverse=True)}.values())


def _identity(file: str) -> str:
  return file if is_remote(file) else os.path.realpath(file)


def is_remote(path: str) -> bool:
  return "://" in path


def _glob(pattern: str) -> list[str]:
  if is_remote(pattern):
    return [file for file in tf.io.gfile.glob(pattern) if not tf.io.gfile.isdir(file)]
  path = os.path.expanduser(pattern)
  # A name that is there is that file, whatever brackets it holds.
  names = [path] if os.path.isfile(path) else glob.glob(path, recursive=True)
  return [name for name in names if not os.path.isdir(name)]


def _nothing_matches(pattern: str, macro: str) -> str:
  if is_remote(pattern):
    return f"no file matches {macro} = {pattern!r}."
  path = os.path.abspath(os.path.expanduser(pattern))
  message = f"no file matches {macro} = {pattern!r}"
  if os.path.isdir(path):
    return f"{message}, which is a folder; write {os.path.join(pattern, '**/*.txt')!r}."
  if pattern != path and not pattern.startswith("~"):
    message += f", that is {path}"
  folder = path
  while glob.has_magic(folder) or not os.path.isdir(folder):
    folder = os.path.dirname(folder)
  present = sorted(os.listdir(folder)) if os.access(folder, os.R_OK) else []
  shown = ", ".join(present[:8]) + (", ..." if len(present) > 8 else "")
  return f"{message}. The folder {folder} holds {shown or 'nothing that can be listed'}."


def _check_readable(file: str, macro: str) -> None:
  if is_remote(file):
    return
  if os.path.islink(file) and not os.path.exists(file):
    raise UserError(
      f"{file}, matched by {macro}, is a link to {os.readlink(file)}, which does not exist; "
      "correct or remove it."
    )
  if not os.path.isfile(file):
    raise UserError(
      f"{file}, matched by {macro}, is a pipe, a socket or a device and not a file, which could be "
      "read again; write its text to a file first."
    )
  if not os.access(file, os.R_OK):
    raise UserError(
      f"{file}, matched by {macro}, cannot be read by this user; change its permissions "
      f"(chmod +r), or write a pattern for {macro} that leaves it out."
    )


def digest(files: Mapping[str, Sequence[str]], *settings: object) -> str:
  """A fingerprint of files by name below their common folder, size and samples of their content."""
  every = sorted({file for names in files.values() for file in names})
  base = _common_folder(every)
  result = hashlib.sha256(repr(settings).encode())
  for split, names in sorted(files.items()):
    result.update(f"{split}:{len(names)}\n".encode())
    for file in names:
      result.update(os.fsencode(f"{file[len(base) :]}\0{_size(file)}\n"))
      if len(every) <= _SAMPLED_FILES:
        result.update(b"".join(sample for _, sample in samples(file)))
  return result.hexdigest()


def samples(file: str) -> list[tuple[int, bytes]]:
  """(place, bytes) at the start, in the middle and at the end of a file; all of a short one."""
  with tf.io.gfile.GFile(file, "rb") if is_remote(file) else open(file, "rb") as f:
    last = max(0, _size(file) - SAMPLE_BYTES)
    found = []
    for start in sorted({0, last // 2, last}):
      f.seek(start)
      found.append((start, f.read(SAMPLE_BYTES)))
  return found


def _size(file: str) -> int:
  return tf.io.gfile.stat(file).length if is_remote(file) else os.path.getsize(file)


def _common_folder(files: Iterable[str]) -> str:
  """The longest path of folders, with the / at its end, with which all files begin."""
  folders = [os.path.dirname(file) + "/" for file in files]
  first, last = min(folders), max(folders)
  same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
  return first[: first.rfind("/", 0, same) + 1]
