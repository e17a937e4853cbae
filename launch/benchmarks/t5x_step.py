"""The peer of a training step: T5X's own network, with the same weights, batches and optimizer.

Its source is not a part of this package: load_network reads two files of T5X's minimal example,
t5x/examples/t5/network.py and layers.py, from a folder.
"""

import functools
import importlib.util
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from t5x_style.interop.t5x import reader
from t5x_style.models import TransformerConfig
from t5x_style.training import setup

from ..process.errors import ConfigurationError
from . import huggingface_models

_PACKAGE = "t5x.examples.t5"  # The files import each other under this name.
_FILES = ("layers", "network")
_PLACES = ("t5x/examples/t5", ".")  # in a clone, or in the folder itself
_CONSTANTS = (1e-6, 32, 128)  # of its norms and its relative positions
_WEIGHT_DECAY = 0.1  # As in optimizers.adamw, with which the comparison trains.
_BATCH = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")


def load_network(source: str | None) -> types.ModuleType:
  """Imports T5X's network from its source, without the rest of T5X.

  Args:
    source: a clone of T5X, or a folder with network.py and layers.py.

  Raises:
    ConfigurationError: the two files are not there.
  """
  places = [] if source is None else [Path(source).expanduser() / x for x in _PLACES]
  found = [x for x in places if all((x / f"{name}.py").is_file() for name in _FILES)]
  if not found:
    missing = "is not given" if source is None else f"= {source!r} has no network.py and layers.py"
    raise ConfigurationError(
      f"--against=t5x: --t5x_source {missing}. Write --t5x_source=CLONE after: git clone --depth=1 "
      "https://github.com/google-research/t5x CLONE"
    )
  names = _PACKAGE.split(".")
  for depth in range(1, len(names) + 1):
    package = types.ModuleType(".".join(names[:depth]))
    package.__path__ = []
    sys.modules[package.__name__] = package
  for name in _FILES:
    spec = importlib.util.spec_from_file_location(f"{_PACKAGE}.{name}", found[0] / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    setattr(sys.modules[_PACKAGE], name, module)
  return module


def peers(
  network: types.ModuleType,
  prepared: setup.Prepared,
  params: Any,
  batches: Sequence[dict[str, np.ndarray]],
  learning_rate: float,
) -> list["T5xStep"]:
  """Returns the one peer.

  Args:
    network: as load_network returns it.

  Raises:
    ConfigurationError: the model is no T5 as T5X's example has it.
  """
  config = prepared.config.model
  if huggingface_models.family(config) != "t5":
    raise ConfigurationError("--against=t5x trains T5 only; add --case=T5, or a T5's --gin_file.")
  constants = (config.norm_epsilon, config.relative_buckets, config.relative_max_distance)
  if constants != _CONSTANTS:
    raise ConfigurationError(
      "--against=t5x: T5X's example has norm_epsilon 1e-6, 32 relative buckets and a distance of "
      "128; this model has others."
    )
  return [T5xStep(network, prepared, params, batches, learning_rate)]


class T5xStep:
  """T5X's network with AdamW: `step` trains on one batch. See step.Contestant."""

  label = "T5X's network"

  def __init__(
    self,
    network: types.ModuleType,
    prepared: setup.Prepared,
    params: Any,
    batches: Sequence[dict[str, np.ndarray]],
    learning_rate: float,
  ):
    self._model = network.Transformer(_config(network, prepared.config.model))
    self._batches = [{k: jnp.asarray(v) for k, v in batch.items()} for batch in batches]
    shapes = jax.eval_shape(
      functools.partial(self._model.init, enable_dropout=False),
      jax.random.key(0),
      *(self._batches[0][name] for name in _BATCH),
    )["params"]
    self._params = to_t5x(params, shapes)
    clip = prepared.config.clip_gradient_norm
    adamw = optax.adamw(
      learning_rate, b1=0.9, b2=0.95, eps=1e-8, weight_decay=_WEIGHT_DECAY, mask=_decays
    )
    clipping = [] if clip is None else [optax.clip_by_global_norm(clip)]
    self._optimizer = optax.chain(*clipping, adamw)
    self._moments = self._optimizer.init(self._params)
    self._train = jax.jit(self._one_step, donate_argnums=(0, 1))

  def step(self, number: int) -> Any:
    """Starts training on batch `number`, without waiting; returns the loss on the device."""
    batch = self._batches[number % len(self._batches)]
    self._params, self._moments, loss = self._train(self._params, self._moments, batch)
    return loss

  def loss(self, loss: Any) -> float:
    """Waits for a step and returns its loss in nats per target token."""
    return float(loss)

  def rest(self) -> None:
    """Does nothing: JAX keeps its memory between its turns."""

  def _one_step(self, params, moments, batch):
    def mean_loss(params):
      logits = self._model.apply(
        {"params": params}, *(batch[name] for name in _BATCH), enable_dropout=False
      )
      losses = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), batch["decoder_target_tokens"]
      )
      weights = batch["decoder_loss_weights"]
      return (losses * weights).sum() / weights.sum()

    loss, gradients = jax.value_and_grad(mean_loss)(params)
    updates, moments = self._optimizer.update(gradients, moments, params)
    return optax.apply_updates(params, updates), moments, loss


def _config(network: types.ModuleType, config: TransformerConfig) -> Any:
  return network.T5Config(
    vocab_size=config.vocab_size,
    dtype=jnp.dtype(config.dtype),
    emb_dim=config.emb_dim,
    num_heads=config.num_heads,
    num_encoder_layers=config.num_encoder_layers,
    num_decoder_layers=config.num_decoder_layers,
    head_dim=config.head_dim,
    mlp_dim=config.mlp_dim,
    mlp_activations=config.mlp_activations,
    dropout_rate=0.0,
    logits_via_embedding=config.tie_embeddings,
  )


def to_t5x(params: Any, shapes: Any) -> Any:
  """Returns this package's parameters, of unrolled layers, as those of T5X's network.

  Args:
    shapes: T5X's parameters, abstract.

  Raises:
    KeyError: a parameter of T5X is not among the given ones.
  """
  own = {"/".join(path): leaf for path, leaf in traverse_util.flatten_dict(params).items()}
  wanted = traverse_util.flatten_dict(shapes, sep="/")
  made = {
    name: jnp.array(own[str(reader.own_name(name))]).reshape(x.shape) for name, x in wanted.items()
  }
  return traverse_util.unflatten_dict(made, sep="/")


def _decays(params: Any) -> Any:
  """Returns which parameters decay: kernels and embeddings, as in optimizers.adamw."""
  return traverse_util.path_aware_map(lambda path, _: path[-1] in ("kernel", "embedding"), params)
