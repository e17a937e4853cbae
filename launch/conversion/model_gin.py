"""The gin files of launch.convert: reads those of a run, writes those of an imported model."""

import dataclasses
import os
import pprint
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from t5x_style.checkpoints import step_folders
from t5x_style.codecs import published_tokenizers
from t5x_style.codecs.published_tokenizers import PublishedTokenizer
from t5x_style.interop.huggingface import tokenizer_export
from t5x_style.interop.huggingface.path_prefix import PREFIX
from t5x_style.interop.huggingface.tokenizer_export import RunVocabulary
from t5x_style.models import Experts, RotaryScaling, TransformerConfig
from t5x_style.models.config import fields_about
from t5x_style.shipped_vocabulary import (
  DEFAULT_EXTRA_IDS,
  DEFAULT_VOCABULARY_FILE,
  VOCABULARY_FOLDER,
)
from t5x_style.trained import checkpoint_folders

from ..configuration.gin_text import Verbatim
from ..configuration.gin_values import Function, GinValues
from ..process.errors import ConfigurationError

KEPT_FOLDER = "huggingface"  # in an imported model: config.json and the tokenizer's files

# Fields of the model that base.gin binds to a macro and that an import sets.
_MACROS = {
  "vocab_size": "VOCAB_SIZE",
  "dropout_rate": "DROPOUT_RATE",
  "attention_dropout_rate": "ATTENTION_DROPOUT_RATE",
}
_LEFT_TO_RUN = fields_about("numerics", "compilation")


def step_to_convert(source: Path) -> Path:
  """Returns the newest step of a MODEL_DIR or of its checkpoints folder, or `source` if it is one.

  Raises:
    ConfigurationError: there is none.
  """
  step = step_folders.find_step(epath.Path(source), f"--from {source}")
  if step is not None:
    return Path(step)
  if (source / "config.json").is_file():
    raise ConfigurationError(f"--from {source} is a Hugging Face folder; write --from hf:{source}.")
  what = "holds no complete checkpoint" if source.is_dir() else "does not exist"
  raise ConfigurationError(
    f"--from {source} {what}; give a MODEL_DIR that was saved to, one step in it, or hf:FOLDER for "
    "a Hugging Face model."
  )


def values_of_run(source: Path, step: Path, flags: Any) -> GinValues:
  """Reads the gin files of the command line, or else the file that the run or the import wrote.

  Raises:
    ConfigurationError: there are none.
  """
  files = list(flags.gin_file)
  if not files:
    folders = (source, step, step.parent, step.parent.parent)
    found = [f / name for f in folders for name in ("config.gin", "model.gin")]
    files = [str(file) for file in found if file.is_file()][:1]
  if not files:
    raise ConfigurationError(
      f"There is no config.gin beside {step}, so nothing says what its model is; give the run's "
      "gin file with --gin_file."
    )
  return GinValues(files, flags.gin_bindings, flags.gin_search_paths)


def label_names(step: Path) -> tuple[str, ...]:
  """Returns the labels that a checkpoint was fine-tuned to tell apart; () if there are none."""
  facts = checkpoint_folders.facts(epath.Path(step))
  components = facts.data.get("components", ()) if facts else ()
  return tuple(label for component in components for label in component.get("labels", ()))


def transformer_config(gin: GinValues) -> TransformerConfig:
  """Returns the model that gin files describe.

  Raises:
    ConfigurationError: they describe none.
  """
  values = gin.parameters(_full_name(TransformerConfig), TransformerConfig)
  if values.get("rotary_scaling"):  # A reference to a class that is bound elsewhere.
    scaling = gin.parameters(_full_name(RotaryScaling), RotaryScaling)
    values["rotary_scaling"] = RotaryScaling(**scaling)
  if values.get("experts"):
    values["experts"] = Experts(**gin.parameters(_full_name(Experts), Experts))
  required = [
    field.name
    for field in dataclasses.fields(TransformerConfig)
    if field.default is dataclasses.MISSING and field.name not in values
  ]
  if required:
    raise ConfigurationError(f"The gin files do not set the model's {', '.join(required)}.")
  _check_padding(gin, values)
  try:
    return TransformerConfig(**values)
  except TypeError as error:  # A parameter that does not exist.
    raise ConfigurationError(f"The gin files: {error}.") from error


def _full_name(kind: type) -> str:
  return f"{kind.__module__}.{kind.__qualname__}"


def _check_padding(gin: GinValues, values: dict[str, Any]) -> None:
  """Refuses to guess the id of padding, from which RoBERTa and BART count their positions."""
  if not values.get("position_offset") or "padding_id" in values:
    return
  if given := _tokenizer_arguments(gin):
    raise ConfigurationError(
      f"The run reads its text with {given['path']}, and its gin files do not say which "
      "id is padding, which the exported model has to know. Add it, for example "
      "--gin_bindings='config.TransformerConfig.padding_id = 1'."
    )


def imported_folder(step: Path, gin: GinValues) -> Path | None:
  """Returns the Hugging Face files of the model that training started from.

  Args:
    gin: of the run that saved `step`.

  Returns:
    A folder with config.json; None if training did not start from an imported model.
  """
  for _ in range(8):  # A run may have started from a run that started from the imported model.
    if (step / KEPT_FOLDER / "config.json").is_file():
      return step / KEPT_FOLDER
    path = gin.macro("INITIAL_CHECKPOINT_PATH")
    if not isinstance(path, str) or not path:
      return None
    if path.startswith(PREFIX):
      folder = Path(os.path.expanduser(path.removeprefix(PREFIX)))
      return folder if (folder / "config.json").is_file() else None
    try:
      step = step_to_convert(Path(os.path.expanduser(path)))
    except ConfigurationError:
      return None
    configs = [f / "config.gin" for f in (step, step.parent.parent)]
    if (step / KEPT_FOLDER).is_dir():
      continue
    found = [file for file in configs if file.is_file()]
    if not found:
      return None
    gin = GinValues([str(found[0])])
  return None


def vocabulary_of_run(gin: GinValues) -> RunVocabulary | None:
  """Returns the vocabulary of a run; None if it is neither SentencePiece's nor one of bytes.

  Raises:
    ConfigurationError: its file no longer exists.
  """
  reference = gin.macro("VOCABULARY")
  if not isinstance(reference, Function):
    return None
  name = reference.name.rpartition(".")[2]
  if name not in ("sentencepiece", "byte_vocabulary"):
    return None
  given: dict[str, Any] = {"extra_ids": DEFAULT_EXTRA_IDS, "specials_from_extra_ids": ()}
  given |= gin.parameters(reference.name)
  content = None
  if name == "sentencepiece":
    path = given.get("path", DEFAULT_VOCABULARY_FILE)
    shipped = VOCABULARY_FOLDER / path
    file = shipped if "/" not in path and shipped.is_file() else Path(os.path.expanduser(path))
    if not file.is_file():
      raise ConfigurationError(
        f"The vocabulary of the run, {path!r}, does not exist; set --gin.VOCABULARY_FILE to it."
      )
    content = file.read_bytes()
  return RunVocabulary(content, given["extra_ids"], tuple(given["specials_from_extra_ids"]))


def tokenizer_of_run(gin: GinValues) -> PublishedTokenizer | None:
  """Returns the run's Hugging Face tokenizer; None if its vocabulary is of another kind.

  Raises:
    UserError: its file no longer exists, or is not what its name says.
  """
  given = _tokenizer_arguments(gin)
  return published_tokenizers.read(given["path"], given.get("lower_case")) if given else None


def _tokenizer_arguments(gin: GinValues) -> dict[str, Any]:
  """Returns the arguments of hf_tokenizer; {} if the run's vocabulary is of another kind."""
  reference = gin.macro("VOCABULARY")
  if not (isinstance(reference, Function) and reference.name.endswith(".hf_tokenizer")):
    return {}
  return gin.parameters(reference.name)


def imported_tokenizer_text(kept: Path, folder: Path, names: Sequence[str]) -> str | None:
  """Returns the gin file with which a run reads its text with an imported tokenizer.

  Args:
    kept: where the tokenizer's files are now.
    folder: where they will be.
    names: of the files.

  Returns:
    Its content; None if runs cannot use the tokenizer.
  """
  if found := [name for name in published_tokenizers.NAMES if name in names]:
    include, name, extra = "data/hf_tokenizer.gin", found[0], ""
  elif "spiece.model" in names:  # T5's
    include, name = "data/vocabulary.gin", "spiece.model"
    extra = f"EXTRA_IDS = {tokenizer_export.appended_sentinels(kept)}\n"
  else:
    return None
  return (
    "# The tokenizer of an imported model: include it in a run after the corpus.\n"
    f"include '{include}'\n\nVOCABULARY_FILE = {str(folder.absolute() / name)!r}\n{extra}"
  )


def imported_model_text(config: TransformerConfig, source: Path, target: Path) -> str:
  """Returns the gin file with which a run starts from an imported model.

  It sets every field, so that it also replaces another model that the run names before it.
  """
  values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
  macros = {macro: values.pop(name) for name, macro in _MACROS.items()}
  scaling = values["rotary_scaling"]
  if scaling:
    values["rotary_scaling"] = Verbatim("@config.RotaryScaling()")
  experts = values["experts"]
  if experts:
    values["experts"] = Verbatim("@experts.Experts()")
    macros["EXPERT_DROPOUT_RATE"] = experts.dropout_rate
  lines = [f"  {k} = {pprint.pformat(v)}" for k, v in values.items() if k not in _LEFT_TO_RUN]
  for name, part in (("config.RotaryScaling", scaling), ("experts.Experts", experts)):
    if part:
      lines += ["", f"{name}:"]
      inside = dataclasses.asdict(part)
      if part is experts:
        inside["dropout_rate"] = Verbatim("%EXPERT_DROPOUT_RATE")
      lines += [f"  {field} = {value!r}" for field, value in inside.items()]
  return "\n".join(
    [
      f"# {source.name!r}, imported from Hugging Face's format by launch.convert: "
      "include it in a run.",
      "include 'models/base.gin'",
      "from __gin__ import dynamic_registration",
      "from t5x_style.models import config",
      *(["from t5x_style.models import experts"] if experts else []),
      "",
      *(f"{name} = {value!r}" for name, value in macros.items()),
      f"INITIAL_CHECKPOINT_PATH = {str(target.absolute())!r}  # None begins with random parameters",
      "",
      "config.TransformerConfig:",
      *lines,
      "",
    ]
  )
