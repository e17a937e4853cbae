"""Converts Hugging Face models to checkpoints and back.

python -m launch.convert --from hf:FOLDER --to NEW_FOLDER
python -m launch.convert --from MODEL_DIR --to hf:NEW_FOLDER
"""

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from t5x_style.errors import UserError
from t5x_style.interop.huggingface.path_prefix import PREFIX

from .configuration import flags
from .conversion import hub, output_folder
from .process import command, environment, errors
from .process.errors import ConfigurationError

EXAMPLES = """\
python -m launch.convert --from hf:bert-base-uncased --to imported
python -m launch.train --gin_file=my_run.gin --gin_file=imported/model.gin     (start from it)
python -m launch.convert --from model_dirs/my_run --to hf:exported
python -m launch.convert --from model_dirs/my_run/checkpoints/5000 --to hf:exported --dtype=bfloat16
python -m launch.convert --from model_dirs/my_run --to hf:exported --push_to_hub=me/my-model
python -m launch.convert --from hf:FOLDER --to x --dry_run               (only check and report)"""


def main(argv: Sequence[str]) -> None:
  values = flags.parse(
    argv,
    about="Converts a Hugging Face model (a folder with config.json and safetensors) to a "
    "checkpoint that a run can start from, or a checkpoint to a Hugging Face model. Nothing is "
    "downloaded: hf:FOLDER is a folder on disk.",
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
    if source.startswith(PREFIX) == target.startswith(PREFIX):
      raise ConfigurationError(
        f"--from {source} --to {target}: one of the two has to be hf:FOLDER, a Hugging Face model."
      )
    if values.push_to_hub:
      if source.startswith(PREFIX) or values.dry_run:
        raise ConfigurationError("--push_to_hub pushes what an export writes: --to hf:FOLDER.")
      hub.check(values.push_to_hub, values.private)
    if source.startswith(PREFIX):
      _import(values, _path("from", source.removeprefix(PREFIX)), _path("to", target))
    else:
      _export(values, _path("from", source), _path("to", target.removeprefix(PREFIX)))


def _define(values: absl_flags.FlagValues) -> None:
  absl_flags.DEFINE_string(
    "from",
    None,
    "What to convert: hf:FOLDER, or a MODEL_DIR, one step in it, or what an import wrote.",
    flag_values=values,
  )
  absl_flags.DEFINE_string(
    "to",
    None,
    "The new folder: FOLDER for a checkpoint, hf:FOLDER for a Hugging Face model.",
    flag_values=values,
  )
  absl_flags.DEFINE_enum(
    "dtype",
    None,
    ["float32", "bfloat16", "float16"],
    "The dtype of the parameters that are written. By default each keeps its own.",
    flag_values=values,
  )
  absl_flags.DEFINE_string(
    "max_shard_size",
    "5GB",
    "The largest size of a safetensors file, such as 500MB. By default 5GB.",
    flag_values=values,
  )
  absl_flags.DEFINE_string(
    "family",
    None,
    "The model_type to export as. By default that of the imported model, or the first that fits.",
    flag_values=values,
  )
  absl_flags.DEFINE_string(
    "push_to_hub",
    None,
    "USER/NAME: push the exported folder to this repository of the Hugging Face hub.",
    flag_values=values,
  )
  absl_flags.DEFINE_bool(
    "private", False, "A repository that --push_to_hub makes is private.", flag_values=values
  )
  absl_flags.DEFINE_bool(
    "dry_run", False, "Check everything and print the report; write nothing.", flag_values=values
  )


def _path(flag: str, text: str) -> Path:
  """Expands "~"."""
  try:
    return Path(text).expanduser()
  except RuntimeError as error:  # "~name" of no user
    raise ConfigurationError(f"--{flag} {text}: {error}") from error


def _import(values: Any, folder: Path, target: Path) -> None:
  """Writes a Hugging Face folder as a checkpoint, with gin files for a run that starts from it."""
  from t5x_style.checkpoints import arrays
  from t5x_style.interop.huggingface import conversion_report, model_folder

  from .conversion import model_gin

  output_folder.check_new("--to", target)
  arrays.check_path(target.resolve())
  source = model_folder.open_folder(folder)
  if values.dry_run:
    _print_report(conversion_report.report_import(source))
    return
  with output_folder.all_or_nothing("--to", target) as part:
    report, names = _write_imported(source, folder, part, target, values.dtype)
  included = [name for name in ("model.gin", "tokenizer.gin") if (target / name).exists()]
  arguments = ["--gin_file=YOUR_RUN.gin", *(f"--gin_file={target / name}" for name in included)]
  train = " ".join([f"python -m {environment.PACKAGE}.train", *map(flags.quoted, arguments)])
  _print_done(
    f"Imported {_described(source.config_json.values)}",
    report,
    {
      "parameters": f"{target / 'state'}" + (f", as {values.dtype}" if values.dtype else ""),
      "model": f"{target / 'model.gin'} sets MODEL, VOCAB_SIZE and INITIAL_CHECKPOINT_PATH",
      "tokenizer": f"{target / model_gin.KEPT_FOLDER}: {', '.join(names) or 'there was none'}",
      "report": f"{target / 'conversion.txt'}",
      "train on": train,
    },
  )


def _write_imported(
  source: Any, folder: Path, part: Path, target: Path, dtype: str | None
) -> tuple[Sequence[Any], Sequence[str]]:
  """Writes all that an import consists of to `part`, which becomes `target`.

  Returns:
    The report on tensors, and the names of the tokenizer's files.
  """
  from t5x_style.interop.huggingface import checkpoint_import, tokenizer_export
  from t5x_style.trained.huggingface_folders import MODEL_FILE

  from .conversion import model_gin

  report = checkpoint_import.import_folder(source, part, dtype)
  kept = part / model_gin.KEPT_FOLDER
  kept.mkdir()
  shutil.copyfile(folder / "config.json", kept / "config.json")
  checkpoint_import.keep_unused(source, kept, dtype)
  names = tokenizer_export.copy(folder, kept)
  config = source.correspondence.config
  (part / MODEL_FILE).write_text(json.dumps(dataclasses.asdict(config), indent=1) + "\n")
  (part / "model.gin").write_text(model_gin.imported_model_text(config, folder, target))
  text = model_gin.imported_tokenizer_text(kept, target / kept.name, names)
  if text:
    (part / "tokenizer.gin").write_text(text)
  _write_report(part / "conversion.txt", report)
  return report, names


def _export(values: Any, source: Path, target: Path) -> None:
  """Writes a checkpoint as a Hugging Face folder."""
  from t5x_style.interop.huggingface import checkpoint_export, config_export
  from t5x_style.interop.huggingface.config_json import ConfigJson
  from t5x_style.interop.huggingface.families import bert

  from .conversion import model_gin

  limit = _bytes(values.max_shard_size)
  output_folder.check_new("--to", target)
  step = model_gin.step_to_convert(source)
  if step.name.isdigit() and step.resolve().parent in target.resolve().parents:
    raise ConfigurationError(
      f"--to {target} is among the checkpoints of {source}, where training deletes old ones. "
      "Choose a folder elsewhere."
    )
  gin = model_gin.values_of_run(source, step, values)
  config = model_gin.transformer_config(gin)
  labels, without = model_gin.label_names(step), None
  if labels:  # The head for masked tokens is no part of transformers' ...ForSequenceClassification.
    without = "head/"
    config = dataclasses.replace(config, head_transform=False, head_bias=False, tie_embeddings=True)
  origin = model_gin.imported_folder(step, gin)
  origin_json = ConfigJson.read(origin) if origin else None
  correspondence, config_json = config_export.choose_family(config, origin_json, values.family)
  unused = _unused_of(origin, origin_json, correspondence)
  if values.dry_run:
    _print_report(checkpoint_export.check_step(step, correspondence, values.dtype, without))
    return
  with output_folder.all_or_nothing("--to", target) as part:
    report = checkpoint_export.export_step(
      step,
      part,
      correspondence,
      dtype=values.dtype,
      max_shard_size=limit,
      unused=unused,
      without=without,
    )
    tokenizer, ids = _write_tokenizer(part, gin, origin, config.architecture)
    named = bert.named_labels(labels) if labels else {}
    checkpoint_export.write_config_json(part, config_json | ids | named, report)
    _write_report(part / "conversion.txt", report)
  name = config_json["architectures"][0]
  _print_done(
    f"Exported {step} as {_described(config_json)}",
    report,
    {
      "model": f"{target}: config.json and {len(list(target.glob('*.safetensors')))} safetensors",
      "tokenizer": tokenizer,
      "report": f"{target / 'conversion.txt'}",
      "try it": f"transformers.{name}.from_pretrained({str(target)!r})",
    },
  )
  if values.push_to_hub:
    print(f"  {'pushed to':11} {hub.push(target, values.push_to_hub, values.private)}")


def _unused_of(origin: Path | None, origin_json: Any, correspondence: Any) -> dict[str, Any]:
  """Returns the imported model's tensors that are no parameters, for exports of its family."""
  from t5x_style.interop.huggingface import family_registry, model_folder

  if not origin or family_registry.family_of(origin_json) is not correspondence.family:
    return {}
  return model_folder.read_unused(origin, correspondence)


def _write_tokenizer(
  target: Path, gin: Any, origin: Path | None, architecture: str
) -> tuple[str, dict[str, int]]:
  """Writes the tokenizer; returns what to print about it, and special ids for config.json."""
  from t5x_style.interop.huggingface import tokenizer_export

  from .conversion import model_gin

  vocabulary = model_gin.vocabulary_of_run(gin)
  if vocabulary is None:
    published = model_gin.tokenizer_of_run(gin)
    folder = Path(published.file.parent) if published else origin
    names = tokenizer_export.copy(folder, target) if folder else []
    if published and published.converted:
      names = sorted({*names, *tokenizer_export.write_published(published, target)})
    return f"{', '.join(names)}, of {folder}" if names else "none: the run names no tokenizer", {}
  try:
    return "tokenizer.json, of the run's vocabulary", tokenizer_export.write(
      target, vocabulary, architecture
    )
  except UserError as error:
    return f"none could be made: {error}", {}


def _bytes(text: str) -> int:
  """Returns the bytes of a size: "500MB" is 500_000_000."""
  found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]?)B", text.strip(), re.IGNORECASE)
  size = int(float(found[1]) * 1000 ** " KMG".index(found[2].upper() or " ")) if found else 0
  if size < 1:
    raise ConfigurationError(f"--max_shard_size={text} is no size; write it as 500MB or 5GB.")
  return size


def _described(config_json: Mapping[str, Any]) -> str:
  """Returns a text such as "bert (BertForMaskedLM)"."""
  classes = config_json.get("architectures") or ["no class"]
  return f"{config_json['model_type']} ({', '.join(classes)})"


def _lines(report: Sequence[Any]) -> list[str]:
  width = max(len(line.name) for line in report)
  return [
    f"{line.name:{width}}  {line.dtype:8}  {'x'.join(map(str, line.shape or ())):>16}  {line.where}"
    for line in report
  ]


def _write_report(path: Path, report: Sequence[Any]) -> None:
  title = "# Every tensor of the Hugging Face model, its dtype and shape, and its parameters.\n"
  path.write_text(title + "\n".join(_lines(report)) + "\n")


def _print_report(report: Sequence[Any]) -> None:
  print("\n".join(_lines(report)))
  print("\nAll of it fits. This was a dry run: nothing was written.")


def _print_done(title: str, report: Sequence[Any], facts: Mapping[str, str]) -> None:
  written = [line for line in report if line.shape is not None]
  numbers = sum(line.size for line in written)
  dtypes = ", ".join(sorted({line.dtype for line in written}))
  print(f"{title}: {numbers:,} parameters in {len(written)} tensors, {dtypes}.")
  left_out = [line for line in report if line.shape is None]
  if left_out:
    facts = {**facts, "left out": f"{len(left_out)} tensors of the file; the report says why"}
  for name, text in facts.items():
    # A path may hold bytes that are not UTF-8.
    print(f"  {name:11} {text.encode(errors='backslashreplace').decode()}")


if __name__ == "__main__":
  command.run(main)
