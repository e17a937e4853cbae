"""Shows what a run feeds its model: python -m launch.preview --gin_file=quickstart.gin

Real rows of the run's data before and after the objective, which positions attend to which, and the
figures: tokens read and predicted, corruption, spans, packing, speed.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags as absl_flags
from rich.console import Console

from .configuration import flags, open_size, stage_settings
from .process import command, environment, errors

EXAMPLES = """\
python -m launch.preview --gin_file=quickstart.gin
python -m launch.preview --gin_file=my_run.gin --html=preview.html
python -m launch.preview --gin_file=three_phases.gin --stage=decay
python -m launch.preview --gin_file=my_run.gin --json | jq .signal_density"""

_FILE_WIDTH = 110  # columns at least, where the output is no terminal


def main(argv: Sequence[str]) -> None:
  values = flags.parse(
    argv,
    about="Shows what a run feeds its model, and measures it.",
    examples=EXAMPLES,
    define=_define,
    runs_model=False,
  )
  environment.prepare()
  with errors.as_configuration_errors():
    html = _html_path(values.html)
    stage = stage_settings.chosen(flags.read_configuration(values), values.stage)
    architecture, dataset = _dataset(stage)
    if stage.note:
      print(stage.note, file=sys.stderr)
    if budget := open_size.given(stage.settings):
      print(f"{budget} will choose BATCH_SIZE; here it is that of the files.", file=sys.stderr)

  from t5x_style.data.preview import measure, page, terminal
  from t5x_style.data.preview.contents import Contents

  measured = measure.preview(dataset, values.examples, seconds=values.seconds)
  contents = Contents(measured, dataset, architecture, attention)
  if html:
    with errors.as_configuration_errors():
      html.write_text(page.page(contents), "utf-8")
  if values.json:
    json.dump(contents.json(), sys.stdout)
    print()
    return
  console = Console()
  if not console.is_terminal:
    console.width = max(console.width, _FILE_WIDTH)
  terminal.show(contents, console)
  if html:
    print(f"\nThe same as a page: {html}")


def attention(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns {side: bool [L, L]}, which positions (rows) attend to which (columns) in one row.

  With both sides, "cross" is bool [L, S], which of the encoder's positions the decoder's see.
  """
  import jax.numpy as jnp

  from t5x_style.models import cross_pattern, decoder_pattern, encoder_pattern

  batch = {name: jnp.asarray(value)[None] for name, value in features.items()}
  masks = {}
  for side, pattern in (("encoder", encoder_pattern), ("decoder", decoder_pattern)):
    if f"{side}_input_tokens" in batch:
      length = batch[f"{side}_input_tokens"].shape[1]
      mask = np.asarray(pattern(batch).mask(length, length))
      masks[side] = np.broadcast_to(mask, (1, 1, length, length))[0, 0]
  if len(masks) == 2:
    lengths = len(masks["decoder"]), len(masks["encoder"])
    mask = np.asarray(cross_pattern(batch).mask(*lengths))
    masks["cross"] = np.broadcast_to(mask, (1, 1, *lengths))[0, 0]
  return masks


def _define(values: absl_flags.FlagValues) -> None:
  absl_flags.DEFINE_string(
    "html", None, "Write everything to this file too, as one HTML page.", flag_values=values
  )
  absl_flags.DEFINE_bool("json", False, "One JSON object, for programs.", flag_values=values)
  absl_flags.DEFINE_integer(
    "examples", 1, "Rows to show of each component.", lower_bound=0, flag_values=values
  )
  absl_flags.DEFINE_float(
    "seconds",
    5.0,
    "Measure a component for this time at most.",
    lower_bound=0.1,
    flag_values=values,
  )
  flags.define_stage(values)


def _html_path(name: str | None) -> Path | None:
  if name is None:
    return None
  path = Path(os.path.expanduser(name))
  if not name or path.is_dir() or not path.parent.is_dir():
    raise errors.ConfigurationError(
      f"--html={name} is no file in a directory that exists; write e.g. --html=preview.html."
    )
  existed = path.exists()
  try:  # Now, not after the measurements.
    path.open("a").close()
    if not existed:
      path.unlink()
  except OSError as error:
    raise errors.ConfigurationError(
      f"--html={name} cannot be written ({error.strerror}); write e.g. --html=preview.html."
    ) from error
  return path


def _dataset(stage: stage_settings.Chosen) -> tuple[str, Any]:
  """Returns the run's architecture and the dataset of a stage, as one process would load it."""
  from t5x_style.training import setup, train_config
  from t5x_style.training.stage import Stage

  config = stage.settings.build(train_config.TrainConfig)
  dataset = config.dataset(
    architecture=config.model.architecture,
    batch_size=config.batch_size,
    seed=Stage(number=stage.number).data_seed(config.seed),
    process_index=0,
    process_count=1,
  )
  if not hasattr(dataset, "rows_of_component"):
    raise errors.ConfigurationError(
      f"The dataset {type(dataset).__name__} has no text to show; "
      "train_config.TrainConfig.dataset must be @loader.load (gin_configs/data/loading.gin)."
    )
  setup.check_vocabulary(config, dataset.vocab_size)
  return config.model.architecture, dataset


if __name__ == "__main__":
  command.run(main)
