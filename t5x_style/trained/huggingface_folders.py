"""Reads Hugging Face models, from their own folders and from those that launch.convert imported."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etils import epath

from t5x_style.checkpoints.warm_start import initial_params
from t5x_style.codecs import published_tokenizers, sentencepiece_models
from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.codecs.sentencepiece_codec import SentencePieceCodec
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.codecs.tokenizer_json_codec import TokenizerJsonCodec
from t5x_style.errors import UserError
from t5x_style.interop.huggingface import model_folder, reader, tokenizer_export
from t5x_style.interop.huggingface.config_json import ConfigJson
from t5x_style.models import TransformerConfig
from t5x_style.models.config import config_of_json
from t5x_style.trained.framing import Template, template_of

KEPT_FOLDER = "huggingface"  # in an import: config.json and the tokenizer's files
MODEL_FILE = "model.json"  # in an import: the fields of the TransformerConfig
_BYT5_SENTINELS = 125  # of transformers' ByT5Tokenizer
_DTYPES = ("float32", "bfloat16")


def config_of_folder(folder: Path) -> TransformerConfig:
  """Returns the model of a Hugging Face folder.

  Raises:
    UserError: as model_folder.open_folder: its family is not supported, a file is missing ...
  """
  source = model_folder.open_folder(folder)
  dtype = _dtype(source.config_json)
  return model_folder.open_folder(folder, dtype=dtype, param_dtype=dtype).correspondence.config


def read_params(path: str, config: TransformerConfig, abstract: Any) -> Any:
  """Reads the parameters of "hf:FOLDER" into the shapes and shardings of `abstract`."""
  return initial_params(path, config, abstract, (reader.READER,))


def objectives(folder: epath.Path, config: TransformerConfig) -> tuple[Mapping[str, Any], ...]:
  """Returns what a model was fine-tuned for, as far as its config.json says it.

  It is () but for classifiers, whose labels are in id2label. One that was trained for several
  labels at once, or for a number, is not taken for a classifier.
  """
  if not config.pooled_classes or config.head_transform:
    return ()
  values = _json(folder / "config.json")
  if values.get("problem_type") not in (None, "single_label_classification"):
    return ()
  names = values.get("id2label") or {}
  count = config.pooled_classes
  labels = [str(names.get(str(i), f"LABEL_{i}")) for i in range(count)]
  return ({"objective": "classification", "labels": labels},) if count > 1 else ()


def config_of_import(folder: epath.Path) -> TransformerConfig:
  """Returns the model of a folder that launch.convert imported.

  Raises:
    UserError: the folder does not say it.
  """
  values = _json(folder / MODEL_FILE)
  if not values:
    raise UserError(
      f"{str(folder)!r} was imported by an earlier version, and has no {MODEL_FILE}; import it "
      "again with launch.convert, or load the Hugging Face model itself: hf:FOLDER."
    )
  config = config_of_json(values, str(folder))
  dtype = _dtype(ConfigJson.read(Path(folder / KEPT_FOLDER)))
  return dataclasses.replace(config, dtype=dtype, param_dtype=dtype)


def _dtype(config_json: ConfigJson) -> Any:
  """Returns the dtype of the model's parameters by config.json; float32 where it is float16."""
  dtype = config_json.values.get("dtype") or config_json.values.get("torch_dtype")
  return dtype if dtype in _DTYPES else "float32"


def codec_of_folder(folder: epath.Path, name: str) -> tuple[TextCodec, Template]:
  """Returns the codec of the tokenizer in a Hugging Face folder, and what it puts around a text.

  Args:
    name: of the model, for messages.

  Raises:
    UserError: there is no tokenizer that can be used, or the package tokenizers is not installed.
  """
  if any((folder / name).exists() for name in published_tokenizers.NAMES):
    found = published_tokenizers.read(folder)
    tokens = {**_from_config(folder), **found.tokens}
    codec = TokenizerJsonCodec(found.content, str(found.file), tokens)
    return codec, _template(folder, codec, tokens)
  if (file := folder / "spiece.model").exists():  # T5's
    content = file.read_bytes()
    sentencepiece_models.check(str(file), content)
    appended = tokenizer_export.appended_sentinels(Path(folder))
    extra = appended or sentencepiece_models.own_sentinels(content)
    model = sentencepiece_models.load(content, appended)
    sentencepiece = SentencePieceCodec(model, str(file), extra)
    return sentencepiece, Template(after=(sentencepiece.eos_id,))
  settings = _json(folder / "tokenizer_config.json")
  if settings.get("tokenizer_class") == "ByT5Tokenizer":
    bytes_ = ByteCodec(int(settings.get("extra_ids") or _BYT5_SENTINELS))
    bytes_.extra_ids = bytes_.extra_ids[::-1]  # There <extra_id_0> is the first one.
    return bytes_, Template(after=(bytes_.eos_id,))
  raise UserError(
    f"{name!r} holds no {', '.join(published_tokenizers.NAMES)} or spiece.model, so its text "
    "cannot be read. Save its "
    "tokenizer in the folder with transformers: AutoTokenizer.from_pretrained(FOLDER)"
    ".save_pretrained(FOLDER)."
  )


def _template(
  folder: epath.Path, codec: TokenizerJsonCodec, tokens: Mapping[str, str | int]
) -> Template:
  """Returns what transformers' tokenizer puts around one text.

  That is what the post-processor of tokenizer.json says, unless tokenizer_config.json has
  add_bos_token or add_eos_token (TokenizersBackend.update_post_processor of transformers 5).
  """
  settings = _json(folder / "tokenizer_config.json")
  if settings.get("tokenizer_class") in ("T5Tokenizer", "T5TokenizerFast"):
    return Template(after=(codec.eos_id,))
  if not {"add_bos_token", "add_eos_token"} & settings.keys():
    return template_of(codec.tokenizer)
  start = settings.get("bos_token")
  start = start.get("content") if isinstance(start, dict) else start
  before = codec.tokenizer.token_to_id(start) if start and settings.get("add_bos_token") else None
  after = codec.eos_id if "eos" in tokens and settings.get("add_eos_token") else None
  return Template(() if before is None else (before,), () if after is None else (after,))


def _from_config(folder: epath.Path) -> dict[str, str | int]:
  """Returns the special ids of config.json, for tokenizers that do not declare these tokens."""
  values = _json(folder / "config.json")
  ids = {role: values.get(f"{role}_token_id") for role in ("eos", "pad")}
  return {k: v for k, v in ids.items() if isinstance(v, int) and not isinstance(v, bool) and v >= 0}


def _json(file: epath.Path) -> dict[str, Any]:
  """Returns the content of a JSON file; {} if there is none."""
  try:
    return json.loads(file.read_text()) if file.exists() else {}
  except ValueError as error:
    raise UserError(f"{str(file)!r} is not a JSON file of settings ({error}).") from error
