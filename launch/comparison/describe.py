"""Writes the facts of all candidates as JSON: a process that launch.compare starts.

    python -m launch.comparison.describe --gin_file=compare.gin --output=facts.json

It opens the data and builds every run, so that mistakes are found before the first one is trained,
and so that launch.compare itself holds no device.
"""

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from t5x_style.comparison.settings import Comparison, folder_name

from ..configuration import flags, open_size, reader
from ..process import command, environment, errors
from . import arguments, gin_settings

_PASSAGES_SEED = 0  # The same passages for all seeds, so that only the models differ.
# The parts of the configuration that the plan sets, or that only the comparison reads.
_NOT_OF_A_RUN = (
  *(f"TrainConfig.{x}" for x in ("model_dir", "train_steps", "eval_period", "save_period")),
  *(f"TrainConfig.{x}" for x in ("log_period", "seed", "hang_minutes")),
  ".total_steps",
)


def main(argv: Sequence[str]) -> int | None:
  values, _ = flags.parse_own(
    argv, about="Describes the candidates of a comparison.", examples="", define=_define
  )
  environment.prepare()
  with errors.as_configuration_errors():
    given = arguments.Given.of_flags(values)
    comparison = gin_settings.read(given)
    _check_judging(comparison)
    datasets: dict[str, Any] = {}
    found = {name: _describe(given, comparison, name, datasets) for name in comparison.candidates}
    _check_same_text(found)
    _check_halving(comparison, found)
    _check_classification(comparison, found)
    if values.passages:
      _ensure_passages(comparison, datasets, found, Path(values.passages))
    figures = {name: _data_figures(datasets[name]) for name in values.data_figures}
  content = {"candidates": found, "machine": _machine(), "data": figures}
  Path(values.output).write_text(json.dumps(content))
  return None


def _define(values: absl_flags.FlagValues) -> None:
  flags.define_data(values)
  absl_flags.DEFINE_string("output", None, "The file to write.", flag_values=values)
  absl_flags.DEFINE_string(
    "passages", None, "Where held-out passages are written, unless they exist.", flag_values=values
  )
  absl_flags.DEFINE_multi_string(
    "data_figures", [], "A candidate whose data is measured. May be repeated.", flag_values=values
  )


def _check_judging(comparison: Comparison) -> None:
  """Raises ConfigurationError if the runs could not be judged."""
  if comparison.pairs_file:
    path = Path(comparison.pairs_file).expanduser()
    if not any(path.parent.glob(path.name)):
      raise errors.ConfigurationError(
        f"PAIRS_FILE = {comparison.pairs_file!r}: there is no such file; give minimal pairs in "
        "BLiMP's format, or None."
      )
  if comparison.classification is not None:
    arguments.separated(comparison.classification, "CLASSIFICATION")


def _check_same_text(found: Mapping[str, Mapping[str, Any]]) -> None:
  """Raises ConfigurationError if candidates are trained on different texts."""
  from . import held_out

  corpora = {name: json.dumps(held_out.corpora(x["identity"])) for name, x in found.items()}
  first = next(iter(corpora))
  for name, corpus in corpora.items():
    if corpus != corpora[first]:
      raise errors.ConfigurationError(
        f"The candidates {first!r} and {name!r} read different texts, or hold out different parts "
        "of it, so they cannot be asked the same passages. Set the data for all of them, before "
        "the candidates."
      )


def _check_classification(comparison: Comparison, found: Mapping[str, Mapping[str, Any]]) -> None:
  """Raises ConfigurationError if labelled texts could not be read for a candidate."""
  for name, facts in found.items():
    if comparison.classification is not None and not facts["names_vocabulary"]:
      raise errors.ConfigurationError(
        f"CLASSIFICATION fine-tunes on labelled texts, for which the candidate {name!r} names no "
        "VOCABULARY: a token cache brings its own. Set CLASSIFICATION = None, or VOCABULARY to "
        "the one that the cache was made with."
      )


def _check_halving(comparison: Comparison, found: Mapping[str, Mapping[str, Any]]) -> None:
  """Raises ConfigurationError if the candidates could not be halved by the measure."""
  if comparison.halve_by is None:
    return
  for name, facts in found.items():
    if not facts["schedule_has_steps"]:
      raise errors.ConfigurationError(
        f"HALVE_BY = {comparison.halve_by!r}, but the candidate {name!r} has no SCHEDULE_STEPS, so "
        "its learning rate would fall to its end in every round. Include runs/pretrain.gin, or "
        "give its schedule total_steps = %SCHEDULE_STEPS."
      )
    from . import measures

    objectives = {x.get("objective") for x in facts["identity"]["components"]}
    if comparison.halve_by == "completion" and not objectives & measures.CONTINUE:
      raise errors.ConfigurationError(
        f"HALVE_BY = 'completion', but the candidate {name!r} does not learn how a text continues. "
        "Set a measure that all candidates have: 'choice_of_four', 'infilling' or 'pairs'."
      )


def _ensure_passages(
  comparison: Comparison,
  datasets: Mapping[str, Any],
  found: Mapping[str, Mapping[str, Any]],
  path: Path,
) -> None:
  """Writes passages that fit the rows and vocabularies of all candidates, unless they are there.

  Raises:
    ConfigurationError: there are others, with which runs were judged.
  """
  from . import held_out, passages

  held_out.check(list(datasets.values()))
  identity = next(iter(found.values()))["identity"]
  made_for = {
    "corpus": identity.get("corpus", held_out.corpora(identity)),
    "vocabularies": sorted({json.dumps(x["identity"]["vocabulary"]) for x in found.values()}),
    "tokens of the shortest row": min(map(held_out.row_tokens, datasets.values())),
    "passages": comparison.passages,
    "passage_bytes": comparison.passage_bytes,
  }
  note = path.with_suffix(".made_for.json")
  before = json.loads(note.read_text()) if note.exists() and path.exists() else {}
  if before == made_for:
    return
  if before and any((path.parent / "judged").glob("*.json")):
    changed = ", ".join(name for name, value in made_for.items() if before.get(name) != value)
    raise errors.ConfigurationError(
      f"The passages in {path}, with which runs were judged, do not fit: other {changed}. Set "
      "another COMPARE_DIR."
    )
  note.unlink(missing_ok=True)
  made = held_out.cut(
    list(datasets.values()),
    count=comparison.passages,
    passage_bytes=comparison.passage_bytes,
    seed=_PASSAGES_SEED,
  )
  passages.write(path, made)
  note.write_text(json.dumps(made_for))


def _data_figures(dataset: Any) -> dict[str, float]:
  """Returns shares of a candidate's data, measured on some hundred rows.

  signal_density: tokens with loss for each token of the text. filled: the share of the positions of
  a batch that is not padding. text: tokens of the text for each position.
  """
  from t5x_style.data.preview import measure

  found = measure.preview(dataset, examples=0, rows=512, seconds=5.0)
  positions = found.sums.positions / found.sums.rows
  return {
    "signal_density": found.values()["signal_density"],
    "filled": found.values()["packing_density"],
    "text": found.values()["raw_tokens"] / positions,
  }


def _describe(
  given: arguments.Given, comparison: Comparison, candidate: str, datasets: dict[str, Any]
) -> dict[str, Any]:
  """Returns the facts of a candidate; puts its dataset into `datasets`.

  Raises:
    ConfigurationError: its run cannot be built; the message names the candidate.
  """
  planned = {
    "MODEL_DIR": f"{comparison.compare_dir}/runs/{folder_name(candidate)}",
    "RANDOM_SEED": comparison.seeds[0],
  }
  own = arguments.of_run(given, comparison, candidate, planned)
  try:
    with errors.as_configuration_errors(), warnings.catch_warnings():
      # Steps are not known yet, and the run warns again.
      warnings.filterwarnings("ignore", message="The run ends within its warm-up")
      return _facts(own, candidate, datasets)
  except errors.ConfigurationError as error:
    raise errors.ConfigurationError(f"The candidate {candidate!r}: {error}") from error


def _facts(own: arguments.Given, candidate: str, datasets: dict[str, Any]) -> dict[str, Any]:
  with environment.quiet_imports():
    configuration = flags.read_configuration(_Values(own))
  open_size.refuse(configuration)

  from t5x_style.partitioning import total_bytes
  from t5x_style.training import setup, train_config
  from t5x_style.training.dataset import tokens_per_row

  config = configuration.build(train_config.TrainConfig)
  prepared = setup.prepare(config)
  datasets[candidate] = prepared.dataset
  lengths = tokens_per_row(prepared.dataset.feature_shapes)
  state = prepared.abstract
  return {
    "architecture": config.model.architecture,
    "description": prepared.dataset.description,
    "row": lengths,
    "batch_size": config.batch_size,
    "parameters": prepared.num_parameters,
    "parameters_without_vocabulary": prepared.num_parameters - _of_vocabulary(prepared),
    "state_bytes": total_bytes(state.params) + total_bytes(state.opt_state),
    "step_flops": prepared.step_flops,
    "step_positions": config.batch_size * sum(lengths.values()),
    "identity": prepared.identity()["data"],
    "names_vocabulary": configuration.macro("VOCABULARY") is not None,
    "schedule_has_steps": configuration.macro("SCHEDULE_STEPS") is not None,
    "settings": _settings(configuration),
  }


class _Values:
  """Flags as read_configuration takes them."""

  def __init__(self, own: arguments.Given):
    self.gin_file, self.gin_bindings = own.gin_files, own.bindings
    self.gin_search_paths, self.tfds_data_dir = own.search_paths, own.tfds_data_dir


def _of_vocabulary(prepared: Any) -> int:
  """Returns how many parameters belong to single tokens: embedding, head and its bias."""
  import flax.linen as nn
  import jax

  from t5x_style.models.parameter_shapes import boxed_parameters

  boxes = jax.tree.leaves(
    boxed_parameters(prepared.config.model), is_leaf=lambda x: isinstance(x, nn.Partitioned)
  )
  return sum(x.value.size for x in boxes if "vocab" in x.names)


def _settings(configuration: reader.Configuration) -> dict[str, str]:
  """Returns {parameter: value} of all that decides about a run, with the values of macros."""
  values = configuration.values()
  macros = {name: text for name, text in values.items() if "." not in name}
  return {
    name: _without_macros(text, macros)
    for name, text in values.items()
    if "." in name and not name.endswith(_NOT_OF_A_RUN) and ".comparison." not in name
  }


def _without_macros(text: str, macros: Mapping[str, str]) -> str:
  def meaning(found: re.Match[str]) -> str:
    value = macros.get(found[1])
    return found[0] if value is None else _without_macros(value, macros)

  return re.sub(r"%([A-Za-z_]\w*)", meaning, text)


def _machine() -> dict[str, Any]:
  """Returns what the runs will run on."""
  import importlib.metadata
  import os
  import platform

  import jax

  devices = jax.devices()
  packages = ("jax", "flax", "optax", "tensorflow", "seqio")
  return {
    "python": platform.python_version(),
    "system": platform.platform(),
    "processor": _processor(),
    "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    "devices": f"{len(devices)} x {devices[0].device_kind}",
    **{name: importlib.metadata.version(name) for name in packages},
  }


def _processor() -> str:
  try:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:
    lines = []
  import platform

  names = [x.partition(":")[2].strip() for x in lines if x.startswith("model name")]
  return names[0] if names else platform.processor()


if __name__ == "__main__":
  command.run(main)
