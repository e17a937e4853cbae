"""Compiles a run for absent devices: python -m launch.precompile --gin_file=X --topology=h100:8

Compiles the real training step of the run ahead of time, on a machine without such devices, and
reports its memory and collectives, the time of a step and of the whole run, and with
--price_per_chip_hour what they cost. The run's data is not read and its MODEL_DIR is not touched.
"""

import dataclasses
import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from absl import flags as absl_flags

from .configuration import data_parameters, flags, open_size, stage_settings
from .process import command, environment, errors

if TYPE_CHECKING:
  from t5x_style.training import train_config

EXAMPLES = """\
python -m launch.precompile --gin_file=pods/t5_1_1_base_v5e_4x4.gin --topology=v5e:4x4
python -m launch.precompile --gin_file=my_run.gin --topology=v5p:4x4x8 --json | jq .fits
python -m launch.precompile --gin_file=my_run.gin --topology=v6e:8x8 --search --write=winner.gin
python -m launch.precompile --gin_file=my_run.gin --topology=v5e:16x16 --slices=2
python -m launch.precompile --gin_file=my_run.gin --topology=h100:4x8 --price_per_chip_hour=2.5"""

# Neither a corpus nor the vocabulary is read: without_data replaces both by placeholders.
DATA_OVERRIDES = dict.fromkeys(
  (data_parameters.CORPUS, data_parameters.REPLAY_CORPUS, data_parameters.VOCABULARY)
)


def main(argv: Sequence[str]) -> None:
  values = flags.parse(
    argv,
    about="Compiles a run's training step for absent TPUs or GPUs: memory, traffic, time, money.",
    examples=EXAMPLES,
    define=_define,
    runs_model=False,
  )
  # Only the compiler runs: it must not take a device that this machine may have.
  os.environ["JAX_PLATFORMS"] = "cpu"
  environment.prepare()
  for kind in ("tpu", "gpu"):
    environment.set_xla_flags(os.environ, kind)

  from t5x_style.planning import topologies

  with errors.as_configuration_errors():
    _check(values, topologies.EXAMPLES)
    topology = topologies.parse(values.topology, values.slices)
    devices = topologies.devices(topology)
    read = flags.read_configuration(values, DATA_OVERRIDES)
    open_size.refuse(read)
    stage = stage_settings.chosen(read, values.stage, checked=False)
    if stage.note:
      print(stage.note, file=sys.stderr)

    from t5x_style.planning import precompile_report, precompile_search
    from t5x_style.training import setup, train_config

    config = without_data(stage.settings.build(train_config.TrainConfig))
    if values.search:
      price = values.price_per_chip_hour
      found = precompile_search.search(config, topology, devices, values.compiles, price)
      if values.write:
        precompile_search.write(found, values.write)
    else:
      prepared = setup.prepare(config, devices)
  if values.search:
    _print(precompile_search, found, values.json)
  else:
    report = precompile_report.examine(prepared, topology, values.price_per_chip_hour)
    _print(precompile_report, report, values.json)


def _check(values: absl_flags.FlagValues, examples: str) -> None:
  """Raises ConfigurationError for flags that are missing or that do not belong together."""
  if not values.topology:
    raise errors.ConfigurationError(
      f"--topology is missing: what to compile for, such as {examples}."
    )
  if values.write and not values.search:
    raise errors.ConfigurationError("--write is for what --search finds; add --search.")


def _print(module: Any, result: Any, as_json: bool) -> None:
  if as_json:
    json.dump(module.as_json(result), sys.stdout)
    print()
  else:
    module.show(result)


def without_data(config: "train_config.TrainConfig") -> "train_config.TrainConfig":
  """Returns the configuration with batches of the same shapes, for which no data is read."""
  if "t5x_style.data.loader" not in sys.modules:  # The gin files do not name it.
    return config

  from t5x_style.data import loader, placeholders

  if inspect.unwrap(config.dataset) is not loader.load:
    return config
  dataset = functools.partial(
    cast(Callable[..., Any], config.dataset),  # loader.load, as gin configured it
    corpus=placeholders.PlaceholderCorpus(),
    vocabulary=placeholders.PlaceholderVocabulary(config.model.vocab_size),
    shuffle_buffer_size=1,
  )
  return dataclasses.replace(config, dataset=dataset)


def _define(values: absl_flags.FlagValues) -> None:
  flags.define_stage(values)
  absl_flags.DEFINE_string(
    "topology",
    None,
    "A TPU slice: generation and chips, e.g. v5p:4x4x8. Or GPUs: those of a node, e.g. h100:8, or "
    "nodes x GPUs, e.g. h100:4x8.",
    flag_values=values,
  )
  absl_flags.DEFINE_integer("slices", 1, "TPU slices.", lower_bound=1, flag_values=values)
  absl_flags.DEFINE_float(
    "price_per_chip_hour",
    None,
    "What a chip costs in an hour: prints what a step, 10^9 tokens and the run cost.",
    lower_bound=0.0,
    flag_values=values,
  )
  absl_flags.DEFINE_bool("json", False, "One JSON object, for programs.", flag_values=values)
  absl_flags.DEFINE_bool(
    "search", False, "Rank meshes, microbatches and remat policies.", flag_values=values
  )
  absl_flags.DEFINE_integer(
    "compiles",
    3,
    "How many of the best layouts a search compiles.",
    lower_bound=0,
    flag_values=values,
  )
  absl_flags.DEFINE_string(
    "write", None, "The gin file to write the best layout of the search to.", flag_values=values
  )


if __name__ == "__main__":
  command.run(main)
