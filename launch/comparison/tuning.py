"""Fine-tunes a model of a comparison on labelled texts, in a run of its own.

Encoders get a head for labels (BERT), other models write the label (T5). All see the same examples
in the same order, for as many steps; the learning rate depends on the architecture only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from t5x_style.comparison.measures import Measured, error_of_share
from t5x_style.errors import UserError
from t5x_style.trained.abilities import abilities
from t5x_style.trained.loaded_model import LoadedModel

from ..process.errors import ConfigurationError
from ..process.exit_codes import ExitCode
from . import arguments, processes
from .run_job import read_metrics

# Usual for models of some million parameters, which take more than BERT base does.
LEARNING_RATES = {"encoder_only": 5e-4, "encoder_decoder": 1e-3, "decoder_only": 1e-3}
_INPUTS, _TARGETS = 112, 16  # tokens; a decoder has both in a row of 128
_BATCH_SIZE, _EVAL_BATCHES = 16, 32
_MOST_CHARACTERS = 500  # of an error that becomes the reason
_OF_VOCABULARY = re.compile(r"(VOCABULARY|VOCABULARY_FILE|EXTRA_IDS|SPECIAL_TOKENS) = ")
_OF_LABELS = re.compile(r"(NUM_CLASSES|LABELS) *=")  # bindings that only a head for labels takes


def classification(
  model: LoadedModel,
  model_dir: Path,
  corpus: Sequence[str],
  *,
  steps: int,
  seed: int,
  folder: Path,
  flags: Sequence[str] = (),
) -> Measured:
  """Fine-tunes a model as launch.train does, and returns its accuracy on the held-out texts.

  Args:
    model_dir: of its run, with config.gin.
    corpus: gin files and "NAME = value" bindings of labelled texts, such as
      ("data/stdlib_packages.gin", "NUM_CLASSES = 10").
    folder: MODEL_DIR of the fine-tuning, which resumes if it was interrupted. Its output is in
      FOLDER.log.
    flags: of launch.train, in addition.

  Raises:
    UserError: the model or the labelled texts do not allow it.
    ConfigurationError: it failed for another reason.
    processes.Stopped: by a signal.
  """
  folder.mkdir(parents=True, exist_ok=True)
  own = model_dir / "config.gin"
  if not own.exists():
    return Measured(None, f"{model_dir} has no config.gin, which says what model it is")
  vocabulary = folder.with_name(f"{folder.name}-vocabulary.gin")
  vocabulary.write_text(_vocabulary(own.read_text()))
  architecture = model.config.architecture
  labels = architecture == "encoder_only"
  files, bindings = arguments.separated(corpus, "CLASSIFICATION")
  if not labels:
    bindings = [text for text in bindings if not _OF_LABELS.match(text)]
  objective = "classification" if labels else "text_to_text"
  metric = "accuracy" if labels else "exact_match"
  lengths = {"inputs": _INPUTS} if labels else {"inputs": _INPUTS, "targets": _TARGETS}
  settings = {
    "MODEL_DIR": str(folder),
    "INITIAL_CHECKPOINT_PATH": model.path,
    "TASK_FEATURE_LENGTHS": lengths,
    "TRAIN_STEPS": steps,
    "WARMUP_STEPS": max(1, steps // 10),
    "BATCH_SIZE": _BATCH_SIZE,
    "PEAK_LEARNING_RATE": LEARNING_RATES[architecture],
    "RANDOM_SEED": seed,
    "EVAL_PERIOD": steps,
    "EVAL_BATCHES": _EVAL_BATCHES,
    "PACK": False,  # A text a row, so that all are asked the same texts.
    "SAVE_PERIOD": steps,
    "BEST_METRIC": metric,
  }
  bindings += [f"{name} = {value!r}" for name, value in settings.items()]
  both_ways = abilities(model).get("continue") or abilities(model).get("fill")
  if architecture == "decoder_only" and both_ways and both_ways.both_ways:
    bindings.append("text_to_text.TextToText.bidirectional_inputs = True")
  gin = [str(own), "runs/finetune.gin", *files, f"objectives/{objective}.gin", str(vocabulary)]
  _train(gin, bindings, flags, folder.with_name(f"{folder.name}.log"))
  share, texts = _accuracy(folder, metric), _EVAL_BATCHES * _BATCH_SIZE
  head = "a new head on the first token" if labels else "the decoder, which writes the label"
  return Measured(
    share,
    standard_error=error_of_share(share * texts, texts),  # As if there were this many texts.
    count=texts,
    method=f"share of {texts} held-out texts (or all, if there are fewer) "
    f"whose label is right after {steps} steps of {_BATCH_SIZE} "
    f"labelled texts, the same for all models, by {head} (learning rate "
    f"{LEARNING_RATES[architecture]:g}, AdamW); the error is that of {texts} texts",
  )


def _vocabulary(config: str) -> str:
  """Returns the lines of a config.gin that make the vocabulary of its run."""
  lines = config.splitlines()
  made = next((line for line in lines if line.startswith("VOCABULARY = @")), "")
  found = re.match(r"VOCABULARY = @([\w.]+)\(", made)
  if not found:
    raise UserError("The run's config.gin has no VOCABULARY, so labelled texts cannot be read.")
  module = found[1].partition(".")[0]
  imports = [
    line for line in lines if re.match(rf"(from [\w.]+ )?import ([\w.]+ as )?{module}\b", line)
  ]
  kept = [x for x in lines if _OF_VOCABULARY.match(x) or x.startswith(f"{found[1]}.")]
  return "\n".join(["from __gin__ import dynamic_registration", *imports, *kept, ""])


def _train(files: Sequence[str], bindings: Sequence[str], flags: Sequence[str], log: Path) -> None:
  """Runs launch.train to its end.

  Raises:
    UserError: the model or the labelled texts do not allow it.
    ConfigurationError: it failed for another reason, such as a full disk.
    processes.Stopped: by a signal.
  """
  given = arguments.Given(tuple(files), tuple(bindings)).as_arguments()
  with processes.Signals() as signals:
    child = processes.Child("train", [*given, *flags], log)
    code = processes.wait(child, signals)
  if code == ExitCode.MISTAKE:
    raise UserError(f"it cannot be fine-tuned: {child.error()[:_MOST_CHARACTERS]}")
  if code:
    raise ConfigurationError(
      f"The fine-tuning ended with code {code} ({log}): "
      f"{child.error()[:_MOST_CHARACTERS]}\nThe same command continues it."
    )


def _accuracy(folder: Path, name: str) -> float:
  records = read_metrics(folder)
  found = [x[name] for x in records if x["split"] == "validation" and name in x]
  if not found:
    raise UserError(f"the fine-tuning in {folder} has no {name} on held-out texts")
  return float(found[-1])
