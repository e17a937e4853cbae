"""Judges a model of a comparison: python -m launch.comparison.judge MODEL_DIR --passages= --output=

launch.compare starts it for every run that has ended. It measures, by the methods of
launch/comparison/, all of t5x_style.comparison.measures, and writes one JSON file when it is done,
so that file is whole or does not exist; started again, it begins again.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags

from t5x_style.errors import UserError

from ..configuration import flags
from ..process import command, environment, errors, whole_files
from ..process.errors import ConfigurationError
from ..process.exit_codes import ExitCode
from . import processes

if TYPE_CHECKING:
  from t5x_style.comparison.measures import Measured
  from t5x_style.trained.model import TrainedModel

  from .passages import Passage

EXAMPLES = """\
python -m launch.comparison.judge model_dirs/my_run --passages=passages.jsonl --output=my_run.json
python -m launch.comparison.judge model_dirs/my_run --passages=held_out.jsonl --output=x.json \\
  --classification=data/stdlib_packages.gin --classification='NUM_CLASSES = 10'"""

_ABOUT = """\
Measures what a model has learnt on held-out passages, by methods that fit every objective.

The file of --passages is made from the held-out text of the run if it does not exist;
launch.compare makes one that fits all of its candidates."""
_TUNING_STEPS = 150
_SHOWN = 10  # passages whose completions the report shows


def main(argv: Sequence[str]) -> int | None:
  values, words = flags.parse_own(argv, about=_ABOUT, examples=EXAMPLES, define=_define)
  if len(words) != 1 or not values.passages or not values.output:
    raise ConfigurationError("Give one MODEL_DIR, --passages=FILE and --output=FILE; see --help.")
  environment.prepare()
  try:
    _judge(words[0], values)
  except processes.Stopped:  # While it fine-tuned; the same command continues.
    return ExitCode.PREEMPTED
  return None


def _judge(given: str, values: Any) -> None:
  """Measures the model of a folder and writes the output."""
  with errors.as_configuration_errors():
    with environment.quiet_imports():
      import t5x_style

      from . import measures, passages
    model_dir, output = (Path(x).expanduser() for x in (given, values.output))
    file = Path(values.passages).expanduser()
    if not file.exists():
      passages.write(file, _cut(given, values))
    chosen = passages.read(file)
    model = t5x_style.load(model_dir, step=values.step)
    judged = {
      "model_dir": str(model_dir),
      "step": model.step,
      "asked": _asked(values),
      "measures": {k: v.as_json() for k, v in _measures(model, model_dir, chosen, values).items()},
      "passages": measures.examples(model, chosen, _SHOWN),
    }
    whole_files.write_json(output, judged)


def _define(values: absl_flags.FlagValues) -> None:
  define_text, define_number = absl_flags.DEFINE_string, absl_flags.DEFINE_integer
  define_text("passages", None, "A file of passages, one JSON object a line.", flag_values=values)
  define_text("output", None, "The JSON file to write.", flag_values=values)
  define_number("step", None, "Only this step, not the newest.", flag_values=values)
  define_number(
    "passage_count", 200, "How many to cut, if the file is made.", lower_bound=1, flag_values=values
  )
  define_number("passage_bytes", 240, "About how long they are.", lower_bound=1, flag_values=values)
  define_number("seed", 0, "Of the cuts, and of the fine-tuning.", flag_values=values)
  define_text(
    "pairs_file", None, "Minimal pairs in BLiMP's format: a file or pattern.", flag_values=values
  )
  absl_flags.DEFINE_multi_string(
    "classification",
    [],
    "A gin file, or a binding, of labelled texts to fine-tune on. May be repeated.",
    flag_values=values,
  )
  define_number("classification_steps", None, "Of fine-tuning.", lower_bound=0, flag_values=values)
  define_text(
    "gin_search_paths", None, "Folders of gin files, with commas between.", flag_values=values
  )
  define_text("tfds_data_dir", None, "Where prepared TFDS datasets are.", flag_values=values)


def _asked(values: Any) -> dict[str, Any]:
  """Returns the settings of this command, with which launch.compare compares its own."""
  names = ("pairs_file", "classification", "classification_steps")
  return {name: getattr(values, name) for name in names}


def _cut(model_dir: str, values: Any) -> list[Passage]:
  """Cuts passages out of the held-out text of one run."""
  from t5x_style.training import setup

  from ..evaluation import run_settings
  from . import held_out

  own = types.SimpleNamespace(gin_file=[], gin_bindings=[], gin_search_paths=[], tfds_data_dir=None)
  prepared = setup.prepare(run_settings.read(model_dir, own))
  dataset: Any = prepared.dataset
  return held_out.cut(
    [dataset], count=values.passage_count, passage_bytes=values.passage_bytes, seed=values.seed
  )


def _measures(
  model: TrainedModel, model_dir: Path, passages: Sequence[Passage], values: Any
) -> dict[str, Measured]:
  """Returns a value, or the reason why there is none, for each of MEASURES."""
  from t5x_style.comparison.measures import MEASURES, Measured

  from . import measures, run_figures

  found = measures.of_passages(model, passages)
  found |= run_figures.measured(model_dir, model.step or 0, model.objectives)
  if values.pairs_file:
    files = _files(values.pairs_file)
    found["blimp"] = measures.or_reason(lambda: measures.of_pairs_file(model, files))
  else:
    found["blimp"] = Measured(None, "PAIRS_FILE is not set")
  found["classification"] = _classification(model, model_dir, values)
  absent = Measured(None, "it is a figure of the candidate's data")
  return {name: found.get(name, absent) for name in MEASURES}


def _files(pattern: str) -> list[Path]:
  path = Path(pattern).expanduser()
  found = sorted(path.parent.glob(path.name))
  if not found:
    raise ConfigurationError(f"--pairs_file={pattern}: there is no such file.")
  return found


def _classification(model: TrainedModel, model_dir: Path, values: Any) -> Measured:
  from t5x_style.comparison.measures import Measured

  from . import tuning

  steps = _TUNING_STEPS if values.classification_steps is None else values.classification_steps
  if not values.classification or not steps:
    return Measured(None, "no labelled texts are set (CLASSIFICATION)")
  output = Path(values.output).expanduser()
  asked = hashlib.sha256(repr(_asked(values)).encode()).hexdigest()[:8]
  folder = output.with_name(f"{output.stem}-tuned-{model.step}-{asked}")
  try:
    return tuning.classification(
      model,
      model_dir,
      values.classification,
      steps=steps,
      seed=values.seed,
      folder=folder,
      flags=[
        f"--{name}={getattr(values, name)}"
        for name in ("gin_search_paths", "tfds_data_dir")
        if getattr(values, name)
      ],
    )
  except ConfigurationError:  # It may succeed at the next start.
    raise
  except UserError as error:
    return Measured(None, reason=str(error))


if __name__ == "__main__":
  environment.take_large_pages()
  command.run(main)
