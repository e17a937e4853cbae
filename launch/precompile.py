"""Compiles for TPUs that are not here: python -m launch.precompile --gin_file=X --topology=v5e:4x4

The real training step of the run, compiled ahead of time on a machine without TPU, and what can be
known of it: memory, collectives, the least time of a step, what the whole run takes at best. The
run's data is not read and its MODEL_DIR not touched.
"""

import dataclasses
import functools
import inspect
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags as absl_flags

from .configuration import errors, flags
from .process import command, environment

EXAMPLES = """\
python -m launch.precompile --gin_file=pods/t5_1_1_base_v5e_4x4.gin --topology=v5e:4x4
python -m launch.precompile --gin_file=my_run.gin --topology=v5p:4x4x8 --json | jq .fits
python -m launch.precompile --gin_file=my_run.gin --topology=v6e:8x8 --search --write=winner.gin
python -m launch.precompile --gin_file=my_run.gin --topology=v5e:16x16 --slices=2"""

# What reads data is not called: without_data puts something in its place.
DATA = {"t5x_style.data.loader.load.corpus": None, "t5x_style.data.loader.load.vocabulary": None}


def main(argv: Sequence[str]) -> None:
  values = flags.parse(
    argv,
    about="Compiles a run's training step for TPUs that are not here, and says what to expect.",
    examples=EXAMPLES,
    define=_define,
    runs_model=False,
  )
  # Nothing runs but the compiler, and a TPU of this machine is not to be taken.
  os.environ["JAX_PLATFORMS"] = "cpu"
  environment.prepare()
  environment.set_xla_flags(os.environ, "tpu")
  with errors.as_configuration_errors():
    if not values.topology:
      raise errors.ConfigurationError(
        "--topology is missing: which TPU to compile for, such as v4:2x2x4, v5e:4x4, v5p:4x4x8 or "
        "v6e:8x8."
      )
    if values.write and not values.search:
      raise errors.ConfigurationError("--write is for what --search finds; add --search.")

    from t5x_style.planning import topologies

    topology = topologies.parse(values.topology, values.slices)
    devices = topologies.devices(topology)
    settings = flags.read_configuration(values, DATA)

    from t5x_style.planning import precompile_report, precompile_search
    from t5x_style.training import setup, train_config

    config = without_data(settings.build(train_config.TrainConfig))
    if not values.search:
      prepared = setup.prepare(config, devices)
  if values.search:
    with errors.as_configuration_errors():
      found = precompile_search.search(config, topology, devices, values.compiles)
      if values.write:
        precompile_search.write(found, values.write)
    _print(precompile_search, found, values.json)
  else:
    _print(precompile_report, precompile_report.examine(prepared, topology), values.json)


def _print(module: Any, result: Any, as_json: bool) -> None:
  if as_json:
    json.dump(module.as_json(result), sys.stdout)
    print()
  else:
    module.show(result)


def without_data(config: Any) -> Any:
  """The run with batches of the same shapes whose text is not read."""
  load = inspect.unwrap(config.dataset)
  if getattr(load, "__module__", "") != "t5x_style.data.loader":
    return config

  from t5x_style.data import placeholders

  dataset = functools.partial(
    config.dataset,
    corpus=placeholders.PlaceholderCorpus(),
    vocabulary=placeholders.PlaceholderVocabulary(config.model.vocab_size),
    streams=1,
    shuffle_buffer_size=1,
  )
  return dataclasses.replace(config, dataset=dataset)


def _define(values: absl_flags.FlagValues) -> None:
  absl_flags.DEFINE_string(
    "topology", None, "A slice: generation and chips, e.g. v5p:4x4x8.", flag_values=values
  )
  absl_flags.DEFINE_integer("slices", 1, "Of these, how many.", lower_bound=1, flag_values=values)
  absl_flags.DEFINE_bool("json", False, "One JSON object, for programs.", flag_values=values)
  absl_flags.DEFINE_bool(
    "search", False, "Rank meshes, microbatches and remat policies.", flag_values=values
  )
  absl_flags.DEFINE_integer(
    "compiles", 3, "How many of the best to compile in a search.", lower_bound=0, flag_values=values
  )
  absl_flags.DEFINE_string(
    "write", None, "A gin file to write what the search found best.", flag_values=values
  )


if __name__ == "__main__":
  command.run(main)
