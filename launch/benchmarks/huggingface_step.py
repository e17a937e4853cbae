"""The peer of a training step: the same model, weights and batches in PyTorch, by transformers."""

import importlib.util
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from t5x_style.architectures import predicted_side
from t5x_style.training import setup

from ..process.errors import ConfigurationError
from ..torch_peers import parameters, training
from . import huggingface_models

Batch = dict[str, np.ndarray]

EAGER, COMPILED, ALL_POSITIONS = "HF eager", "HF compiled", "HF eager, all positions"
LABELS = (EAGER, COMPILED, ALL_POSITIONS)

# As in optimizers.adamw, with which the comparison trains.
_ADAMW: dict[str, Any] = {"betas": (0.9, 0.95), "eps": 1e-8}
_WEIGHT_DECAY = 0.1


def check_installed() -> None:
  """Raises ConfigurationError if torch or transformers is not installed."""
  missing = [name for name in ("torch", "transformers") if not importlib.util.find_spec(name)]
  if missing:
    raise ConfigurationError(
      f"--against=hf needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
      f"not installed: pip install {' '.join(missing)} (on a machine without a GPU, torch from "
      "PyTorch's CPU index)."
    )


def peers(
  prepared: setup.Prepared, params: Any, batches: Sequence[Batch], learning_rate: float
) -> list["TorchStep"]:
  """Returns the kinds of PyTorch training to compare with: eager, and compiled if possible.

  For masked LM there is a third one, which projects all positions on the vocabulary.

  Raises:
    ConfigurationError: the mesh has several devices, or transformers has no such model.
  """
  import torch

  if prepared.partitioner.mesh.size > 1:
    raise ConfigurationError(
      f"--against=hf compares on one device; the mesh has {prepared.partitioner.mesh.size}. Hide "
      "the others, e.g. CUDA_VISIBLE_DEVICES=0."
    )
  torch.set_num_threads(os.cpu_count() or 1)
  # As in JAX, GPUs multiply float32 in TensorFloat-32.
  torch.set_float32_matmul_precision("high")
  kinds: dict[str, dict[str, Any]] = {EAGER: {}}
  if torch.cuda.is_available() or shutil.which("g++") or shutil.which("clang++"):
    kinds[COMPILED] = {"compiled": True}
  if prepared.loss.max_targets is not None:
    # As its own trainer does for masked LM: all positions are projected on the vocabulary.
    kinds[ALL_POSITIONS] = {"target_positions_only": False}
  config = prepared.config.model
  weights = parameters.tensors(config, params, huggingface_models.family(config))
  return [
    TorchStep(label, prepared, weights, batches, learning_rate, **kind)
    for label, kind in kinds.items()
  ]


class TorchStep:
  """A transformers model with AdamW: `step` trains on one batch. See step.Contestant."""

  def __init__(
    self,
    label: str,
    prepared: setup.Prepared,
    weights: dict[str, np.ndarray],
    batches: Sequence[Batch],
    learning_rate: float,
    compiled: bool = False,
    target_positions_only: bool = True,
  ):
    import torch

    self.label, self._torch = label, torch
    config = prepared.config.model
    self._device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    self._autocast = config.dtype == "bfloat16"
    self._clip = prepared.config.clip_gradient_norm
    max_targets = prepared.loss.max_targets if target_positions_only else None
    side = predicted_side(config.architecture)
    self._batches = [
      {
        name: torch.as_tensor(value, device=self._device)
        for name, value in _features(batch, side, max_targets).items()
      }
      for batch in batches
    ]
    length = max(x.shape[1] for x in self._batches[0].values())
    self._model = huggingface_models.build(config, length)
    parameters.load(self._model, weights)
    self._model.to(self._device).train()
    self._optimizer = torch.optim.AdamW(
      training.parameter_groups(self._model, _WEIGHT_DECAY), lr=learning_rate, fused=True, **_ADAMW
    )
    forward = _FORWARD[huggingface_models.family(config)]
    self._loss = lambda features: training.weighted_loss(
      forward(self._model, features), features["targets"], features["weights"]
    )
    if compiled:
      self._loss = torch.compile(self._loss)

  def step(self, number: int) -> Any:
    torch, features = self._torch, self._batches[number % len(self._batches)]
    self._optimizer.zero_grad(set_to_none=True)
    with torch.autocast(self._device, torch.bfloat16, enabled=self._autocast):
      loss = self._loss(features)
    loss.backward()
    if self._clip is not None:
      torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
    self._optimizer.step()
    return loss.detach()

  def loss(self, loss: Any) -> float:
    return float(loss)

  def rest(self) -> None:
    """Frees the GPU's memory, except for weights and moments, for the others."""
    if self._device == "cuda":
      self._optimizer.zero_grad(set_to_none=True)
      self._torch.cuda.empty_cache()


def _features(batch: Batch, side: str, max_targets: int | None) -> Batch:
  """Returns tokens of each side, targets and weights, and the positions with loss if they are few.

  Args:
    side: the one that predicts.
    max_targets: how many positions of a row have loss at most; None takes all positions.
  """
  features = {
    name: batch[f"{name}_input_tokens"].astype(np.int64)
    for name in ("encoder", "decoder")
    if f"{name}_input_tokens" in batch
  }
  features["targets"] = batch[f"{side}_target_tokens"].astype(np.int64)
  features["weights"] = batch[f"{side}_loss_weights"].astype(np.float32)
  if max_targets is not None:
    order = np.argsort(features["weights"] == 0, axis=1, kind="stable")[:, :max_targets]
    for name in ("targets", "weights"):
      features[name] = np.take_along_axis(features[name], order, axis=1)
    features["positions"] = order
  return features


def _t5(model, features):
  encoded = model.encoder(input_ids=features["encoder"])[0]
  hidden = model.decoder(
    input_ids=features["decoder"], encoder_hidden_states=encoded, use_cache=False
  )[0]
  if model.config.scale_decoder_outputs:
    hidden = hidden * model.model_dim**-0.5
  return model.lm_head(hidden)


def _bert(model, features):
  hidden = model.bert(features["encoder"])[0]
  if "positions" in features:
    index = features["positions"][..., None].expand(-1, -1, hidden.shape[-1])
    hidden = hidden.gather(1, index)
  return model.cls(hidden)


def _gpt2(model, features):
  return model.lm_head(model.transformer(features["decoder"], use_cache=False)[0])


def _llama(model, features):
  return model.lm_head(model.model(features["decoder"], use_cache=False)[0])


_FORWARD: dict[str, Callable[[Any, Any], Any]] = {
  "t5": _t5,
  "bert": _bert,
  "gpt2": _gpt2,
  "llama": _llama,
}
