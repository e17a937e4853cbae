"""The command line of each run: the user's gin files, then those of its candidate, then its own."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from t5x_style.comparison.settings import Comparison

from ..process.errors import ConfigurationError

# What the plan sets for each run; SCHEDULE_STEPS only in successive halving.
PLANNED = (
  "TRAIN_STEPS",
  "SCHEDULE_STEPS",
  "EVAL_PERIOD",
  "SAVE_PERIOD",
  "LOG_PERIOD",
  "RANDOM_SEED",
  "MODEL_DIR",
)


@dataclasses.dataclass(frozen=True)
class Given:
  """The flags of the command line that every run gets, too."""

  gin_files: tuple[str, ...]
  bindings: tuple[str, ...]
  search_paths: tuple[str, ...] = ()
  tfds_data_dir: str | None = None

  @classmethod
  def of_flags(cls, values: Any) -> "Given":
    """Takes them from parsed flags."""
    return cls(
      tuple(values.gin_file),
      tuple(values.gin_bindings),
      tuple(values.gin_search_paths),
      values.tfds_data_dir,
    )

  def as_arguments(self) -> list[str]:
    """Returns them as they are given to a command."""
    found = [f"--gin_file={name}" for name in self.gin_files]
    found += [f"--gin_bindings={text}" for text in self.bindings]
    if self.search_paths:
      found.append(f"--gin_search_paths={','.join(self.search_paths)}")
    if self.tfds_data_dir:
      found.append(f"--tfds_data_dir={self.tfds_data_dir}")
    return found


def of_run(
  given: Given, comparison: Comparison, candidate: str, planned: Mapping[str, Any]
) -> Given:
  """Returns what a run of a candidate reads.

  The bindings of the command line override all files, those of the candidate override them, and
  `planned`, {name of PLANNED: value}, comes last.

  Raises:
    ConfigurationError: an entry of the candidate is neither a gin file nor a binding.
  """
  files, bindings = separated(
    (*comparison.candidates[candidate], *comparison.shared), f"The candidate {candidate!r}"
  )
  own = [f"{name} = {value!r}" for name, value in planned.items()]
  return dataclasses.replace(
    given,
    gin_files=(*given.gin_files, *files),
    bindings=(*given.bindings, *bindings, *own),
  )


def separated(entries: Sequence[str], what: str) -> tuple[list[str], list[str]]:
  """Returns the gin files and the bindings among the entries.

  Raises:
    ConfigurationError: an entry is neither; `what` begins the message.
  """
  files = [x for x in entries if x.endswith(".gin") and "=" not in x]
  bindings = [x for x in entries if "=" in x]
  for entry in entries:
    if entry not in files and entry not in bindings:
      raise ConfigurationError(
        f"{what} holds {entry!r}: write gin files ('models/decoder_only_mini.gin') and bindings "
        "('BATCH_SIZE = 32')."
      )
  return files, bindings
