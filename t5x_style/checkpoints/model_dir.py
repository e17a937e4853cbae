"""Checks MODEL_DIR before a run: it can be written, and nothing in it is of the wrong kind."""

import os

import jax
from etils import epath

from t5x_style.checkpoints import arrays
from t5x_style.errors import NO_ROOM, StorageError, UserError

# Patterns of the files that a run writes; all others in the folder are ignored.
_FILES = (
  *("config.gin", "model-info.txt", "run-info.json", "metrics.jsonl", "samples.jsonl"),
  "size.json",
  *("wandb-id.txt", "mlflow-id.txt", "profile-*.txt"),
)
_FOLDERS = (
  *("checkpoints", "checkpoints/[0-9]*", "tensorboard", "tensorboard/*"),
  *("skipped_batches", "vocabulary"),
)
# Room for the files of a start: config.gin, model-info.txt, and the first metrics.
_PROBE_BYTES = 2**16


def check(path: epath.PathLike) -> None:
  """Checks that a run can write to MODEL_DIR, and makes the folder.

  Raises:
    UserError: the folder cannot be written, or a file has the name of a folder that the run needs,
      or a folder the name of a file.
    StorageError: its disk is full.
  """
  arrays.check_path(path)
  path = epath.Path(path).expanduser()
  try:
    if path.exists() and not path.is_dir():
      raise UserError(
        f"MODEL_DIR = {str(path)!r} is a file, and has to be a folder; set another MODEL_DIR."
      )
    path.mkdir(parents=True, exist_ok=True)
    _write_and_remove(path / f".writable.{jax.process_index()}")
    for pattern in (*_FILES, *_FOLDERS):
      for found in path.glob(pattern):
        _check_kind(path, found, pattern)
  except OSError as error:
    if error.errno in NO_ROOM:
      raise StorageError(
        f"MODEL_DIR = {str(path)!r} has no room ({error.strerror}); make room and start the same "
        "command again, or set another MODEL_DIR."
      ) from error
    raise UserError(
      f"MODEL_DIR = {str(path)!r} cannot be written ({error}); "
      "set --gin.MODEL_DIR=\"'/path/you/can/write'\"."
    ) from error


def write_text(model_dir: epath.Path, name: str, text: str) -> None:
  """Writes a file in MODEL_DIR; if there is no room for it, the file that was there stays."""
  part = model_dir / f".{name}.part"
  try:
    part.write_text(text)
  except OSError:
    part.unlink(missing_ok=True)
    raise
  part.replace(model_dir / name)


def _write_and_remove(probe: epath.Path) -> None:
  try:
    probe.write_bytes(bytes(_PROBE_BYTES))
  finally:
    probe.unlink(missing_ok=True)


def _check_kind(model_dir: epath.Path, found: epath.Path, pattern: str) -> None:
  name = found.relative_to(model_dir)
  is_folder, wanted = found.is_dir(), pattern in _FOLDERS
  if pattern == "tensorboard/*":  # Files are TensorBoard's own, folders are named after splits.
    wanted = is_folder or found.name in ("train", "validation")
  if is_folder != wanted:
    kinds = ("a folder", "a file") if wanted else ("a file", "a folder")
    raise UserError(
      f"MODEL_DIR = {str(model_dir)!r}: {name} has to be {kinds[0]}, and is {kinds[1]}. Rename or "
      "remove it, or set another MODEL_DIR."
    )
  if os.path.exists(found) and not os.access(found, os.W_OK):
    raise UserError(
      f"MODEL_DIR = {str(model_dir)!r}: {name} there cannot be written by this user; change its "
      "permissions (chmod +w), or set another MODEL_DIR."
    )
