"""Patterns of the user's file names: the files that match, and whether they can be read."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence

from t5x_style.data.corpora.reading import remote_files
from t5x_style.data.corpora.reading.remote_files import is_remote
from t5x_style.errors import UserError

# Folders and files that hold no text of a corpus begin so: .git, _SUCCESS.
_NOT_TEXT = (".", "_")
# (files below a folder) -> those of a corpus
InFolder = Callable[[Sequence[str]], Sequence[str]]


def check_fraction(fraction: float) -> None:
  """Raises UserError unless `fraction` can be the share of documents that is held out."""
  if not 0 <= fraction < 1:
    raise UserError(
      f"VALIDATION_FRACTION = {fraction} is not a share of at least 0 and less than 1; 0.05 holds "
      "out every twentieth document."
    )


def splits(
  pattern: str | Sequence[str],
  validation_pattern: str | Sequence[str] | None,
  in_folder: InFolder = list,
) -> dict[str, list[str]]:
  """Returns the sorted files of "train" and, if it has a pattern, of "validation".

  A file that matches both patterns belongs to "validation" only.

  Args:
    in_folder: chooses among the files below a folder that a pattern names.

  Raises:
    UserError: a pattern matches no file, or a file cannot be read.
  """
  files = {"train": matching(pattern, "CORPUS_FILES", in_folder)}
  if validation_pattern:
    files["validation"] = matching(validation_pattern, "VALIDATION_FILES", in_folder)
    held_out = {_identity(file) for file in files["validation"]}
    files["train"] = [file for file in files["train"] if _identity(file) not in held_out]
    if not files["train"]:
      raise UserError(
        f"VALIDATION_FILES = {validation_pattern!r} matches all that CORPUS_FILES = {pattern!r} "
        "does; nothing is left to train on. Write patterns of which one matches more."
      )
  return files


def matching(patterns: str | Sequence[str], macro: str, in_folder: InFolder = list) -> list[str]:
  """Returns the sorted files that match at least one pattern; errors name the gin macro `macro`.

  A folder stands for all files below it but those whose path has a part that begins with "." or
  "_". A file that has several names, through links or as "a" and "./a", is listed once. Names that
  are not UTF-8 are decoded by os.fsdecode, which keeps their bytes.
  """
  found: set[str] = set()
  for pattern in [patterns] if isinstance(patterns, str) else patterns:
    files = _glob(pattern, in_folder)
    if not files:
      raise UserError(_nothing_matches(pattern, macro))
    found.update(files)
  for file in found:
    _check_readable(file, macro)
  if not found:
    raise UserError(f"{macro} = {patterns!r} names no file; write e.g. '/my/texts/**/*.txt'.")
  return sorted({_identity(file): file for file in sorted(found, reverse=True)}.values())


def _identity(file: str) -> str:
  """Returns the same text for all names of a file."""
  return file if is_remote(file) else os.path.realpath(file)


def _glob(pattern: str, in_folder: InFolder) -> Sequence[str]:
  if is_remote(pattern):
    below = remote_files.below(pattern)
    return remote_files.glob(pattern) if below is None else in_folder(_of_corpus(pattern, below))
  path = os.path.expanduser(pattern)
  if os.path.isdir(path):
    return in_folder(_below(path))
  # The name of an existing file is not a pattern, even if it has brackets.
  names = [path] if os.path.isfile(path) else glob.glob(path, recursive=True)
  return [name for name in names if not os.path.isdir(name)]


def _below(folder: str) -> list[str]:
  found = []
  for where, folders, files in os.walk(folder):
    folders[:] = [name for name in folders if not name.startswith(_NOT_TEXT)]
    found += [os.path.join(where, name) for name in files if not name.startswith(_NOT_TEXT)]
  return found


def _of_corpus(folder: str, files: Sequence[str]) -> list[str]:
  """Leaves out the files whose path below the folder has a part that begins with "." or "_"."""
  parts = {file: file.removeprefix(folder).strip("/").split("/") for file in files}
  return [file for file in files if not any(part.startswith(_NOT_TEXT) for part in parts[file])]


def _nothing_matches(pattern: str, macro: str) -> str:
  if is_remote(pattern):
    return f"no file matches {macro} = {pattern!r}; check the name of the bucket and the folder."
  path = os.path.abspath(os.path.expanduser(pattern))
  message = f"no file matches {macro} = {pattern!r}"
  if os.path.isdir(path):
    return f"{message}, which is a folder without such files; write a pattern that names them."
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


def absolute(file: str) -> str:
  """Returns the path of a local file from the root; the address of a remote one."""
  return file if is_remote(file) else os.path.abspath(file)


def size(file: str) -> int:
  """Returns the size of a file in bytes."""
  return remote_files.status(file).size if is_remote(file) else os.path.getsize(file)
