"""The configuration of the run that a checkpoint is of, with the data to measure it on."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from etils import epath

from t5x_style.checkpoints import inventory, step_folders
from t5x_style.errors import UserError

from ..configuration import data_parameters, flags, reader, stage_settings
from ..process import environment
from ..process.errors import ConfigurationError

if TYPE_CHECKING:
  from t5x_style.training.train_config import TrainConfig

# Macros of gin_configs/data/ that make another vocabulary.
_OF_VOCABULARY = ("VOCABULARY", "VOCABULARY_FILE", "EXTRA_IDS", "SPECIAL_TOKENS")


class OfStage(NamedTuple):
  """Checkpoints of one stage of a run.

  Attributes:
    name: of the stage; "" if the run has one only.
    config: of the stage.
    corpus: that it reads; None if it is a SeqIO task.
    checkpoints: their folders.
  """

  name: str
  config: TrainConfig
  corpus: Any
  checkpoints: list[epath.Path]


def read(model: str, values: Any) -> TrainConfig:
  """Returns the configuration of a run, with the data that the flags name.

  The gin files are the config.gin that the run wrote, and after it those of the flags. The
  vocabulary stays that of the run, also if the gin file of a corpus includes another one. Of a
  staged run, the settings are those of the stage of its newest checkpoint.

  Args:
    model: a MODEL_DIR, its checkpoints folder, or one checkpoint.
    values: flags with those of `flags.define_data`.

  Raises:
    ConfigurationError: there are no gin files, or they are wrong.
  """
  settings, vocabulary = _settings(model, values)
  return _built(stage_settings.of_step(settings, _newest_step(model)), vocabulary)


def of_each_stage(model: str, values: Any, checkpoints: Sequence[epath.Path]) -> Iterator[OfStage]:
  """Yields the checkpoints of each stage of a run with the configuration of that stage.

  gin has the configuration until the next one is asked for.

  Args:
    model, values: as of `read`.
    checkpoints: of the run, in the order of their steps.

  Raises:
    ConfigurationError: as `read`.
  """
  settings, vocabulary = _settings(model, values)
  later = stage_settings.stages(settings)
  names = [stage_settings.FIRST, *(stage.name for stage in later)]

  def stage(checkpoint: epath.Path) -> int:
    return sum(x.after_steps < _step(checkpoint, model) for x in later)

  for number, group in itertools.groupby(checkpoints, stage):
    own = list(group)
    settings.use()
    chosen = stage_settings.of_step(settings, _step(own[0], model))
    corpus = chosen.argument(data_parameters.CORPUS)
    yield OfStage(names[number] if later else "", _built(chosen, vocabulary), corpus, own)


def _settings(model: str, values: Any) -> tuple[reader.Configuration, Any]:
  """Reads the gin files; returns also the vocabulary of the run if theirs may be another one."""
  own = _config_gin(inventory.checkpoints_folder(model))
  if own is None and not values.gin_file:
    raise ConfigurationError(
      f"{model} has no config.gin, which says what to measure on; give the gin files of a run of "
      "this model: --gin_file=my_run.gin."
    )
  chosen = {text.partition("=")[0].strip() for text in values.gin_bindings} & {*_OF_VOCABULARY}
  vocabulary = None
  if own is not None and not chosen:
    kept = _kept_vocabulary(own, values.gin_search_paths)
    if values.gin_file:
      with environment.quiet_imports():
        before = reader.read([str(own)], kept, values.gin_search_paths)
        vocabulary = before.argument(data_parameters.VOCABULARY)
    values.gin_bindings = [*kept, *values.gin_bindings]
  values.gin_file = [*([str(own)] if own else []), *values.gin_file]
  return flags.read_configuration(values), vocabulary


def _built(settings: reader.Configuration, vocabulary: Any) -> TrainConfig:
  from t5x_style.training import train_config

  config = settings.build(train_config.TrainConfig)
  return config if vocabulary is None else with_data(config, vocabulary=vocabulary)


def _step(checkpoint: epath.Path, model: str) -> int:
  return int(checkpoint.name) if checkpoint.name.isdigit() else _newest_step(model)


def _newest_step(model: str) -> int:
  """Returns the step of a checkpoint, or of the newest one of a run; 0 if there is none."""
  with contextlib.suppress(UserError):
    step = step_folders.find_step(epath.Path(model).expanduser())
    return int(step.name) if step is not None and step.name.isdigit() else 0
  return 0


def _kept_vocabulary(own: epath.Path, search_paths: Sequence[str]) -> list[str]:
  """Returns a binding of the vocabulary file in MODEL_DIR, if the one that the run read is gone.

  So a MODEL_DIR can be measured on another machine than that of the training.
  """
  with environment.quiet_imports():
    named = reader.read([str(own)], (), search_paths).macro("VOCABULARY_FILE")
  if not isinstance(named, str) or "/" not in named or epath.Path(named).expanduser().exists():
    return []
  files = [own.parent / "vocabulary" / name for name in ("vocabulary.model", "tokenizer.json")]
  return [f"VOCABULARY_FILE = {str(file)!r}" for file in files if file.exists()]


def with_data(config: TrainConfig, **arguments: Any) -> TrainConfig:
  """Returns the configuration with other arguments of t5x_style.data.loader.load."""
  dataset: Any = functools.partial(config.dataset, **arguments)
  return dataclasses.replace(config, dataset=dataset)


def _config_gin(folder: epath.Path) -> epath.Path | None:
  """Returns the config.gin of the run whose checkpoints, or one of them, are in a folder."""
  folder = folder.absolute()
  files = [place / "config.gin" for place in (folder, folder.parent, folder.parent.parent)]
  return next((file for file in files if file.exists()), None)
