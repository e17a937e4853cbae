"""t5x_style.load: a trained model from a MODEL_DIR, a step, an average, an import, or hf:FOLDER."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from etils import epath

from t5x_style.checkpoints import reading, step_folders
from t5x_style.checkpoints.arrays import check_path
from t5x_style.errors import UserError
from t5x_style.interop.huggingface.path_prefix import PREFIX
from t5x_style.models import Transformer, TransformerConfig
from t5x_style.partitioning import Partitioner, make_mesh
from t5x_style.trained import (
  checkpoint_folders,
  huggingface_folders,
  run_vocabularies,
  unrolled_layers,
)
from t5x_style.trained.model import TrainedModel

_DTYPES = ("float32", "bfloat16")


def load(
  path: str | epath.PathLike,
  *,
  step: int | None = None,
  mesh_shape: Mapping[str, int] | None = None,
  dtype: str | None = None,
  vocabulary: str | None = None,
) -> TrainedModel:
  """Loads a trained model.

  No gin file and no TensorFlow is needed, and the model may have been trained on any machines.
  Every number that is read is compared with the digests that were saved with it. Nothing in the
  folder is changed.

      model = t5x_style.load("model_dirs/quickstart")
      model = t5x_style.load("hf:my_models/t5-small")

  Args:
    path: a MODEL_DIR or its checkpoints folder (the newest checkpoint that is not damaged is used),
      MODEL_DIR/best (the best by BEST_METRIC), one checkpoint in it, a folder written by
      `launch.checkpoint average` or `launch.convert --to FOLDER`, or "hf:FOLDER", a Hugging Face
      model on disk. All but the last two may be gs://.
    step: the step to load from a MODEL_DIR.
    mesh_shape: how the parameters and the work are spread over all devices of this process, as
      MESH_SHAPE in training: {"data": 2, "tensor": 4}. None uses the first device only.
    dtype: "float32" or "bfloat16", of the parameters and of what is computed. None is the dtypes of
      the training, and those of config.json for Hugging Face models.
    vocabulary: a MODEL_DIR/vocabulary folder, a SentencePiece .model or a tokenizer.json, for a
      MODEL_DIR without the folder `vocabulary`. It has to be the one of the training.

  Returns:
    The model; its docstring lists its methods.

  Raises:
    UserError: there is no such folder, it holds no model, the model is damaged or of a kind that is
      not supported, or its vocabulary is missing; the message says what to write instead.
  """
  if dtype not in (None, *_DTYPES):
    raise UserError(f"dtype={dtype!r} is not supported; write {' or '.join(map(repr, _DTYPES))}.")
  partitioner = _partitioner(mesh_shape)
  text = str(path)
  if text.startswith(PREFIX):
    if step is not None:
      raise UserError(f"step={step}: {text!r} is a Hugging Face model, which has no steps.")
    return _load_huggingface(text, partitioner, dtype, vocabulary)
  check_path(text)
  folder = epath.Path(text).expanduser()
  if folder.name == step_folders.BEST and not folder.exists():
    folder = step_folders.find_step(folder, repr(text)) or folder
  _check_folder(folder, text)
  found = checkpoint_folders.candidates(folder, step)
  if (found[0] / huggingface_folders.KEPT_FOLDER / "config.json").exists():
    return _load_import(found[0], text, partitioner, dtype, vocabulary)

  def read(checkpoint: epath.Path) -> TrainedModel:
    return _read_checkpoint(checkpoint, text, partitioner, dtype, vocabulary)

  return checkpoint_folders.newest_good(found, read)


def _partitioner(mesh_shape: Mapping[str, int] | None) -> Partitioner:
  devices = jax.devices() if mesh_shape else jax.devices()[:1]
  return Partitioner(make_mesh(mesh_shape, devices))


def _check_folder(folder: epath.Path, text: str) -> None:
  """Raises UserError unless there may be checkpoints in a folder."""
  if folder.is_dir():
    is_checkpoint = (folder / "state").is_dir() or (folder / "checkpoints").is_dir()
    if not is_checkpoint and (folder / "config.json").exists():
      raise UserError(f"{text!r} is a Hugging Face folder; write {PREFIX + text!r}.")
    return
  what = "is a file" if folder.exists() else "does not exist"
  raise UserError(
    f"{text!r} {what}; give the MODEL_DIR of a run, one of its checkpoints, or {PREFIX}FOLDER for "
    "a Hugging Face model."
  )


def _read_checkpoint(
  folder: epath.Path,
  text: str,
  partitioner: Partitioner,
  dtype: str | None,
  vocabulary: str | None,
) -> TrainedModel:
  """Reads one checkpoint of a run, or an average; raises DamagedError if it is damaged."""
  facts = checkpoint_folders.facts(folder)
  if facts is None:
    raise UserError(
      f"{str(folder)!r} does not say what model it holds: it was not written by this package's "
      "launch.train, launch.checkpoint or launch.convert, or it is an average of a run that is "
      "gone (average again)."
    )
  config = _with_dtype(facts.config, dtype)
  places = [folder, folder.parent.parent, folder.parent]
  codec = run_vocabularies.find(places, vocabulary, facts.data.get("vocabulary"))
  abstract = checkpoint_folders.abstract_params(config, partitioner)
  config, params = unrolled_layers.unroll(config, reading.read_params(folder, abstract))
  return TrainedModel(
    model=Transformer(config),
    params=params,
    codec=codec,
    partitioner=partitioner,
    path=str(folder),
    step=facts.step,
    objectives=tuple(facts.data.get("components", ())),
    row_lengths=dict(facts.data.get("feature_lengths", {})),
  )


def _load_import(
  folder: epath.Path,
  text: str,
  partitioner: Partitioner,
  dtype: str | None,
  vocabulary: str | None,
) -> TrainedModel:
  """Reads a folder that launch.convert imported."""
  kept = folder / huggingface_folders.KEPT_FOLDER
  codec, template = huggingface_folders.codec_of_folder(_tokenizer(kept, vocabulary), text)
  config = _with_dtype(huggingface_folders.config_of_import(folder), dtype)
  abstract = checkpoint_folders.abstract_params(config, partitioner)
  params = checkpoint_folders.newest_good([folder], lambda x: reading.read_params(x, abstract))
  config, params = unrolled_layers.unroll(config, params)
  return TrainedModel(
    Transformer(config),
    params,
    codec,
    partitioner,
    text,
    template=template,
    objectives=huggingface_folders.objectives(kept, config),
  )


def _load_huggingface(
  text: str, partitioner: Partitioner, dtype: str | None, vocabulary: str | None
) -> TrainedModel:
  """Reads "hf:FOLDER"."""
  folder = Path(text.removeprefix(PREFIX)).expanduser()
  config = _with_dtype(huggingface_folders.config_of_folder(folder), dtype)
  if unrolled_layers.pays(config):
    config = dataclasses.replace(config, scan_layers=False)
  tokenizer = _tokenizer(epath.Path(folder), vocabulary)
  codec, template = huggingface_folders.codec_of_folder(tokenizer, text)
  abstract = checkpoint_folders.abstract_params(config, partitioner)
  params = huggingface_folders.read_params(f"{PREFIX}{folder}", config, abstract)
  return TrainedModel(
    Transformer(config),
    params,
    codec,
    partitioner,
    text,
    template=template,
    objectives=huggingface_folders.objectives(epath.Path(folder), config),
  )


def _tokenizer(folder: epath.Path, vocabulary: str | None) -> epath.Path:
  """Returns the folder of a Hugging Face tokenizer: the model's, or the one that is given."""
  if vocabulary is None:
    return folder
  given = epath.Path(vocabulary).expanduser()
  if not given.exists():
    raise UserError(f"vocabulary={vocabulary!r} does not exist.")
  return given if given.is_dir() else given.parent


def _with_dtype(config: TransformerConfig, dtype: Any) -> TransformerConfig:
  if dtype is None:
    return config
  fp8 = config.fp8 and dtype == "bfloat16"
  return dataclasses.replace(config, dtype=dtype, param_dtype=dtype, fp8=fp8)
