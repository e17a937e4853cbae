"""Says where a row of a run came from: python -m launch.where MODEL_DIR --step=1234 --row=7

Names the file and the line of its text, the epoch and the component, and shows the text, what the
objective hid of it and what the model was fed. It reads the run's configuration and its token
cache, and no checkpoint.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags as absl_flags
from etils import epath

from .configuration import data_parameters, flags, open_size, reader, stage_settings
from .process import command, environment, errors
from .process.errors import ConfigurationError

EXAMPLES = """\
python -m launch.where model_dirs/my_run --step=1234 --row=7
python -m launch.where model_dirs/my_run --step=1234 --rows=0:8
python -m launch.where --gin_file=my_run.gin --step=1 --row=0 --json | jq .rows[0].parts"""

_ABOUT = """\
Says where rows of a batch came from: file, line, epoch, component, text, noise, features.

It takes the MODEL_DIR of a run, whose config.gin is read, or --gin_file; flags override."""

_FILE_WIDTH = 110  # columns at least, where the output is no terminal
_ROLLED_BACK = "The run has rolled back: {:,} batches before this one were left out."


class _Asked(NamedTuple):
  """What is asked for.

  Attributes:
    dataset: of the stage that trained the step.
    batch: the number of the batch, from 0, in the data of the stage.
    rows: of the batch, from 0.
    note: what the number of the step does not say; "" if nothing.
  """

  dataset: Any
  batch: int
  rows: list[int]
  note: str


def main(argv: Sequence[str]) -> None:
  values, words = flags.parse_own(argv, about=_ABOUT, examples=EXAMPLES, define=_define)
  environment.prepare()
  with errors.as_configuration_errors():
    model_dir = _add_model_dir(values, words)
    _check_flags(values)
    asked = _asked(values, model_dir, flags.read_configuration(values))

  from t5x_style.data.preview import origins

  found = origins.of_rows(asked.dataset, asked.batch, asked.rows)
  if values.json:
    rows = [origin.json() for origin in found]
    json.dump({"step": values.step, "note": asked.note, "rows": rows}, sys.stdout)
    print()
    return
  _show(found, values.step, asked)


def _asked(values: Any, model_dir: Path | None, settings: reader.Configuration) -> _Asked:
  """Opens the data of the stage that trained the step."""
  stages = stage_settings.stages(settings)
  begun = [x for x in stages if x.after_steps < values.step]
  later = [x.after_steps for x in stages[len(begun) :]]
  if model_dir is not None:
    # Flags after the one config.gin replace also what its stages set.
    settings = stage_settings.of_step(settings, values.step)
  elif begun:
    settings = settings.with_macros(begun[-1].macros, begun[-1].location)
  _check_reads_caches(settings)
  open_size.refuse(settings)

  from t5x_style.results import data_places
  from t5x_style.training import train_config
  from t5x_style.training.stage import Stage

  config = settings.build(train_config.TrainConfig)
  rows = _rows(values, config.batch_size, config.train_steps)
  # Each stage reads its data from the start, in an order of its own.
  stage = Stage(number=len(begun) + 1, first=begun[-1].after_steps if begun else 0)
  dataset: Any = config.dataset(
    architecture=config.model.architecture,
    batch_size=config.batch_size,
    seed=stage.data_seed(config.seed),
    process_index=0,
    process_count=1,
  )
  batch = straight = values.step - 1 - stage.first
  if model_dir is not None:
    last, period = min([*later, config.train_steps]), config.save_period
    batch = data_places.batch_of_step(
      epath.Path(model_dir), values.step, first=stage.first, last=last, save_period=period
    )
  return _Asked(
    dataset, batch, rows, _ROLLED_BACK.format(batch - straight) if batch > straight else ""
  )


def _show(found: Sequence[Any], step: int, asked: _Asked) -> None:
  from rich.console import Console
  from rich.text import Text

  from t5x_style.data.preview import colours, spans

  console = Console()
  if not console.is_terminal:
    console.width = max(console.width, _FILE_WIDTH)

  def line(text: Any = "", style: str = "") -> None:
    text = Text(text, style) if isinstance(text, str) else text
    console.print(text, soft_wrap=False, highlight=False, overflow="fold")

  line(colours.legend())
  for origin in found:
    line(f"\nstep {step:,}, row {origin.row}: row {origin.number:,} of the run", "bold")
    component = f"component {origin.component}, " if origin.component else ""
    line(f"{component}epoch {origin.epoch + 1}, unit {origin.unit:,} of {origin.units:,}")
    for part in origin.parts:
      line(f"  {part.words()}")
    several = len(origin.texts) > 1
    for number, text in enumerate(origin.texts, 1):
      line(f"\ntext{f' {number}' if several else ''}, {len(text.ids)} tokens", "cyan")
      line(colours.coloured(text, asked.dataset.ids))
    for name, tokens in spans.sections(origin.shown):
      line(f"\n{name}", "cyan")
      line(colours.coloured(tokens, asked.dataset.ids))
  if asked.note:
    line(f"\n{asked.note}")


def _define(values: absl_flags.FlagValues) -> None:
  absl_flags.DEFINE_integer(
    "step", None, "The step that trained on the rows, from 1.", lower_bound=1, flag_values=values
  )
  absl_flags.DEFINE_integer(
    "row", None, "The row of the global batch, from 0.", lower_bound=0, flag_values=values
  )
  absl_flags.DEFINE_string(
    "rows", None, "Several rows: --rows=0:8 shows the first eight.", flag_values=values
  )
  absl_flags.DEFINE_bool("json", False, "One JSON object, for programs.", flag_values=values)
  flags.define_data(values)


def _add_model_dir(values: Any, words: Sequence[str]) -> Path | None:
  """Puts the config.gin of a MODEL_DIR before the gin files of the flags; returns the MODEL_DIR."""
  if len(words) > 1:
    raise ConfigurationError(f"{words[1]!r} is one word too many: give one MODEL_DIR.")
  if not words:
    return None
  path = Path(words[0]).expanduser()
  if path.suffix == ".gin":
    values.gin_file = [words[0], *values.gin_file]
    return None
  if not (path / "config.gin").exists():
    raise ConfigurationError(
      f"{words[0]} has no config.gin; give the MODEL_DIR of a run, or its gin files: "
      "--gin_file=my_run.gin."
    )
  values.gin_file = [str(path / "config.gin"), *values.gin_file]
  return path


def _check_reads_caches(settings: reader.Configuration) -> None:
  from t5x_style.data import corpora, loader

  # A corpus is built with all that the run reads; only the class is looked at where it is enough.
  named = getattr(settings.macro("CORPUS"), "target", None)
  mixed = named is None or named.object in (corpora.TokenCache, corpora.Mixture)
  if mixed and loader.reads_caches(settings.argument(data_parameters.CORPUS)):
    return
  raise ConfigurationError(
    "This run reads its text as a stream, in which a row has no address: what it holds depends on "
    "all rows before it. Only rows of a run on a token cache can be found: make one with `python "
    "-m launch.cache`, and train with --gin_file=data/token_cache.gin."
  )


def _check_flags(values: Any) -> None:
  if values.step is None or (values.row is None) == (values.rows is None):
    raise ConfigurationError("Give --step and one of --row and --rows: --step=1234 --row=7.")


def _rows(values: Any, batch_size: int, train_steps: int) -> list[int]:
  """Returns the rows that the flags ask for."""
  if values.step > train_steps:
    raise ConfigurationError(
      f"--step={values.step} is after the last step of the run: TRAIN_STEPS = {train_steps}."
    )
  first, _, end = (values.rows or "").partition(":")
  if values.row is not None:
    chosen = [values.row]
  elif first.isdecimal() and end.isdecimal() and int(first) < int(end):
    chosen = list(range(int(first), int(end)))
  else:
    raise ConfigurationError(f"--rows={values.rows} is no range of rows; write --rows=0:8.")
  if chosen[-1] >= batch_size:
    raise ConfigurationError(
      f"Row {chosen[-1]} is not in a batch of BATCH_SIZE = {batch_size} rows, from 0."
    )
  return chosen


if __name__ == "__main__":
  command.run(main)
