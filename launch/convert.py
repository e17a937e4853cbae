"""Converts checkpoints: python -m launch.convert --from hf:FOLDER --to NEW_FOLDER, and back."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from t5x_style.errors import UserError

from .configuration import errors, flags
from .configuration.errors import ConfigurationError
from .process import command, environment

EXAMPLES = """\
python -m launch.convert --from hf:bert-base-uncased --to imported
python -m launch.train --gin_file=my_run.gin --gin_file=imported/model.gin     (train on from it)
python -m launch.convert --from model_dirs/my_run --to hf:exported
python -m launch.convert --from model_dirs/my_run/checkpoints/5000 --to hf:exported --dtype=bfloat16
python -m launch.convert --from hf:FOLDER --to x --dry_run               (check and report only)"""

_HF = "hf:"  # as of t5x_style.interop.huggingface


def main(argv: Sequence[str]) -> None:
  values = flags.parse(
    argv,
    about="Converts a Hugging Face model folder (safetensors) to a checkpoint, or a checkpoint to "
    "one. Nothing is downloaded; hf:FOLDER is a folder on disk.",
    examples=EXAMPLES,
    define=_define,
    runs_model=False,
  )
  environment.prepare()
  source, target = values["from"].value, values["to"].value
  with errors.as_configuration_errors():
    if not source or not target:
      missing = "--from" if not source else "--to"
      raise ConfigurationError(f"{missing} is not given; --help shows examples.")
    if source.startswith(_HF) == target.startswith(_HF):
      raise ConfigurationError(
        f"--from {source} --to {target}: one of the two has to be hf:FOLDER, a Hugging Face model."
      )
    if source.startswith(_HF):
      _import(values, _path("from", source.removeprefix(_HF)), _path("to", target))
    else:
      _export(values, _path("from", source), _path("to", target.removeprefix(_HF)))


def _define(values: absl_flags.FlagValues) -> None:
  absl_flags.DEFINE_string(
    "from", None, "hf:FOLDER; or a MODEL_DIR, a step in it, or what --to made.", flag_values=values
  )
  absl_flags.DEFINE_string("to", None, "The new folder; hf:FOLDER to export.", flag_values=values)
  absl_flags.DEFINE_enum(
    "dtype",
    None,
    ["float32", "bfloat16", "float16"],
    "Of the parameters that are written; by default what they are stored in.",
    flag_values=values,
  )
  absl_flags.DEFINE_string(
    "max_shard_size", "5GB", "The largest safetensors file, as 500MB or 5GB.", flag_values=values
  )
  absl_flags.DEFINE_string(
    "family", None, "The model_type to export as, where several would do.", flag_values=values
  )
  absl_flags.DEFINE_bool(
    "dry_run", False, "Check everything, print the report, write nothing.", flag_values=values
  )


def _path(flag: str, text: str) -> Path:
  try:
    return Path(text).expanduser()
  except RuntimeError as error:  # "~name" of no user
    raise ConfigurationError(f"--{flag} {text}: {error}") from error


def _import(values: Any, folder: Path, target: Path) -> None:
  from t5x_style.checkpoints import arrays
  from t5x_style.interop.huggingface import (
    conversion,
    model_folder,
    tokenizer_export,
  )

  from .configuration import model_gin

  _check_new(target)
  arrays.check_path(target.resolve())
  source = model_folder.open_folder(folder)
  config = source.correspondence.config
  if values.dry_run:
    _print_report(conversion.report_of(source))
    return
  with _written(target) as part:
    report = conversion.import_folder(source, part, values.dtype)
    kept = part / "huggingface"
    kept.mkdir()
    shutil.copyfile(folder / "config.json", kept / "config.json")
    conversion.keep_unused(source, kept, values.dtype)
    names = tokenizer_export.copy(folder, kept)
    (part / "model.gin").write_text(model_gin.model_file(config, folder, target))
    text = model_gin.tokenizer_file(kept, target / kept.name, names)
    if text:
      (part / "tokenizer.gin").write_text(text)
    _write_report(part / "conversion.txt", report)
  included = ["model.gin", "tokenizer.gin"] if text else ["model.gin"]
  arguments = ["--gin_file=YOUR_RUN.gin", *(f"--gin_file={target / name}" for name in included)]
  _print_done(
    f"Imported {_described(source.config_json.values)}",
    report,
    {
      "parameters": f"{target / 'state'}" + (f", as {values.dtype}" if values.dtype else ""),
      "model": f"{target / 'model.gin'} sets MODEL, VOCAB_SIZE and INITIAL_CHECKPOINT_PATH",
      "tokenizer": f"{target / kept.name}: {', '.join(names) or 'there was none'}",
      "report": f"{target / 'conversion.txt'}",
      "train on": " ".join(
        [f"python -m {environment.PACKAGE}.train", *map(flags.quoted, arguments)]
      ),
    },
  )


def _export(values: Any, source: Path, target: Path) -> None:
  from t5x_style.interop.huggingface import config_export, conversion, family_registry, model_folder

  from .configuration import model_gin

  limit = _bytes(values.max_shard_size)
  _check_new(target)
  step = model_gin.find_step(source)
  if step.name.isdigit() and step.resolve().parent in target.resolve().parents:
    raise ConfigurationError(
      f"--to {target} is among the checkpoints of {source}, of which training deletes old ones. "
      "Choose a folder elsewhere."
    )
  gin = model_gin.values_of(source, step, values)
  config = model_gin.transformer_config(gin)
  origin = model_gin.origin(step, gin)
  origin_settings = model_gin.settings_of(origin)
  correspondence, settings = config_export.choose_family(config, origin_settings, values.family)
  unused = {}
  if (
    origin
    and origin_settings
    and family_registry.family_of(origin_settings) is correspondence.family
  ):
    unused = model_folder.read_unused(origin, correspondence)
  if values.dry_run:
    _print_report(conversion.check_step(step, correspondence, values.dtype))
    return
  with _written(target) as part:
    report = conversion.export_step(
      step, part, correspondence, dtype=values.dtype, max_shard_size=limit, unused=unused
    )
    note, ids = _write_tokenizer(part, gin, origin, config.architecture)
    conversion.write_config_json(part, settings | ids, report)
    _write_report(part / "conversion.txt", report)
  _print_done(
    f"Exported {step} as {_described(settings)}",
    report,
    {
      "model": f"{target}: config.json, {len(list(target.glob('*.safetensors')))} safetensors",
      "tokenizer": note,
      "report": f"{target / 'conversion.txt'}",
      "try it": f"transformers.{settings['architectures'][0]}.from_pretrained({str(target)!r})",
    },
  )


def _write_tokenizer(
  target: Path, gin: Any, origin: Path | None, architecture: str
) -> tuple[str, dict[str, int]]:
  """What is said about the tokenizer, and the ids the model's settings repeat."""
  from t5x_style.interop.huggingface import tokenizer_export

  from .configuration import model_gin

  vocabulary = model_gin.vocabulary(gin)
  if vocabulary is None:
    folder = model_gin.tokenizer_folder(gin) or origin
    names = tokenizer_export.copy(folder, target) if folder else []
    return f"{', '.join(names)}, of {folder}" if names else "none: the run names none", {}
  try:
    return "tokenizer.json, of the run's vocabulary", tokenizer_export.write(
      target, vocabulary, architecture
    )
  except UserError as error:
    return f"none could be made: {error}", {}


def _check_new(target: Path) -> None:
  if not target.resolve().name or target.name in ("", ".."):
    raise ConfigurationError(f"--to {target}: give the name of a new folder.")
  if target.is_symlink() and not target.exists():
    raise ConfigurationError(
      f"--to {target} is a link to {os.readlink(target)!r}, which does not exist. Make that "
      "folder, or give the name of a new one."
    )
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    what = "exists and is not empty" if target.is_dir() else "is a file"
    raise ConfigurationError(
      f"--to {target} {what}; nothing there is overwritten. Choose another folder or remove it."
    )


@contextlib.contextmanager
def _written(target: Path) -> Iterator[Path]:
  """A new folder to write to, whose content is the target's in the end, or gone after an error.

  It is made inside the target where that exists, empty, which may be a link or a mounted disk; or
  else in the nearest folder above that exists. Nothing but what was made here is ever removed.
  """
  place = target.resolve()
  above = next(folder for folder in (place, *place.parents) if os.path.lexists(folder))
  try:
    made = tempfile.TemporaryDirectory(prefix=".convert-", dir=above)
  except OSError as error:
    raise ConfigurationError(f"--to {target} cannot be made: {error.strerror}.") from error
  with made as temporary:
    part = Path(temporary) / "new"  # With the permissions of any new folder, not of a private one.
    part.mkdir()
    yield part
    try:
      if place == above:
        for entry in sorted(part.iterdir()):
          entry.rename(place / entry.name)
      else:
        place.parent.mkdir(parents=True, exist_ok=True)
        part.rename(place)
    except OSError as error:
      raise ConfigurationError(f"--to {target} cannot be made: {error.strerror}.") from error


def _bytes(text: str) -> int:
  """ "500MB" -> 500_000_000"""
  found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]?)B", text.strip(), re.IGNORECASE)
  size = int(float(found[1]) * 1000 ** " KMG".index(found[2].upper() or " ")) if found else 0
  if size < 1:
    raise ConfigurationError(f"--max_shard_size={text} is no size; write it as 500MB or 5GB.")
  return size


def _described(settings: Mapping[str, Any]) -> str:
  return f"{settings['model_type']} ({', '.join(settings.get('architectures') or ['no class'])})"


def _lines(report: Sequence[Any]) -> list[str]:
  width = max(len(moved.name) for moved in report)
  return [
    f"{moved.name:{width}}  {moved.dtype:8}  {'x'.join(map(str, moved.shape or ())):>16}  "
    f"{moved.where}"
    for moved in report
  ]


def _write_report(path: Path, report: Sequence[Any]) -> None:
  title = "# Every tensor of the Hugging Face model, its dtype and shape, and what it is here.\n"
  path.write_text(title + "\n".join(_lines(report)) + "\n")


def _print_report(report: Sequence[Any]) -> None:
  print("\n".join(_lines(report)))
  print("\nAll of it fits. This was a dry run: nothing was written.")


def _print_done(title: str, report: Sequence[Any], facts: Mapping[str, str]) -> None:
  moved = [line for line in report if line.shape is not None]
  sizes = sum(line.size for line in moved)
  dtypes = ", ".join(sorted({line.dtype for line in moved}))
  print(f"{title}: {sizes:,} parameters in {len(moved)} tensors, {dtypes}.")
  left_out = [line for line in report if line.shape is None]
  if left_out:
    facts = {**facts, "left out": f"{len(left_out)} tensors of the file; the report says why"}
  for name, text in facts.items():
    # A path may hold bytes that are not UTF-8.
    print(f"  {name:11} {text.encode(errors='backslashreplace').decode()}")


if __name__ == "__main__":
  command.run(main)
