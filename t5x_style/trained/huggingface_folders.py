"""Reads Hugging Face models, from their own folders and from those that launch.convert imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from etils import epath

from t5x_style.checkpoints.arrays import orbax_arrays
from t5x_style.checkpoints.warm_start import initial_params
from t5x_style.codecs import sentencepiece_models, tokenizer_json
from t5x_style.codecs.sentencepiece_codec import SentencePieceCodec
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.codecs.tokenizer_json_codec import TokenizerJsonCodec
from t5x_style.errors import UserError
from t5x_style.interop.huggingface import family_registry, model_folder, reader, tokenizer_export
from t5x_style.interop.huggingface.config_json import ConfigJson
from t5x_style.interop.huggingface.correspondence import Correspondence
from t5x_style.models import TransformerConfig
from t5x_style.trained.framing import Template, template_of

KEPT_FOLDER = "huggingface"  # in an import: config.json and the tokenizer's files
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
  return initial_params(path, config, abstract, (reader.read,))


def config_of_import(folder: epath.Path) -> TransformerConfig:
  """Returns the model of a folder that launch.convert imported.

  config.json does not say which heads the files had; the names of the parameters do.

  Raises:
    UserError: its family is not supported, or the parameters cannot be listed.
  """
  config_json = ConfigJson.read(Path(folder / KEPT_FOLDER))
  family = family_registry.family_of(config_json)
  stored = orbax_arrays(folder / "state", "params", setting="The checkpoint")
  with_heads = TransformerConfig(**family.from_config_json(config_json, _Every()))
  tensors = {
    parts[0][1].tensor: None
    for keys, parts in Correspondence(with_heads, family).places.items()
    if "/".join(keys) in stored
  }
  dtype = _dtype(config_json)
  fields = family.from_config_json(config_json, tensors)
  return TransformerConfig(**fields | {"dtype": dtype, "param_dtype": dtype})


class _Every(dict):
  """The names of all tensors that a family may have."""

  def __contains__(self, name: object) -> bool:
    return True

  def __missing__(self, name: str) -> None:
    return None


def _dtype(config_json: ConfigJson) -> str:
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
  if (file := folder / "tokenizer.json").exists():
    tokens = _from_config(folder) | tokenizer_json.declared_beside(folder)
    codec = TokenizerJsonCodec(file.read_text(), str(file), tokens)
    return codec, template_of(codec.tokenizer)
  if (file := folder / "spiece.model").exists():  # T5's
    content = file.read_bytes()
    sentencepiece_models.check(str(file), content)
    appended = tokenizer_export.appended_sentinels(Path(folder))
    extra = appended or sentencepiece_models.own_sentinels(content)
    model = sentencepiece_models.load(content, appended)
    sentencepiece = SentencePieceCodec(model, str(file), extra)
    return sentencepiece, Template(after=(sentencepiece.eos_id,))
  raise UserError(
    f"{name!r} holds no tokenizer.json and no spiece.model, so its text cannot be read. Save its "
    "tokenizer in the folder with transformers: AutoTokenizer.from_pretrained(FOLDER)"
    ".save_pretrained(FOLDER)."
  )


def _from_config(folder: epath.Path) -> dict[str, str | int]:
  """Returns the special ids of config.json, for tokenizers that do not declare these tokens."""
  if not (folder / "config.json").exists():
    return {}
  values = json.loads((folder / "config.json").read_text())
  ids = {role: values.get(f"{role}_token_id") for role in ("eos", "pad")}
  return {k: v for k, v in ids.items() if isinstance(v, int) and not isinstance(v, bool) and v >= 0}
