"""Models with random parameters and the shipped vocabulary, for tests of how they are used."""

import dataclasses
import functools

import jax
import numpy as np

from t5x_style.codecs import sentencepiece_models
from t5x_style.codecs.sentencepiece_codec import SentencePieceCodec
from t5x_style.models import Transformer, TransformerConfig
from t5x_style.partitioning import Partitioner, make_mesh
from t5x_style.shipped_vocabulary import DEFAULT_VOCABULARY_FILE, VOCABULARY_FOLDER
from t5x_style.trained.model import TrainedModel
from tests.tiny import FAMILIES


@functools.cache
def shipped_codec():
  """The shipped vocabulary with 128 sentinels."""
  content = (VOCABULARY_FOLDER / DEFAULT_VOCABULARY_FILE).read_bytes()
  model = sentencepiece_models.load(content, 128)
  return SentencePieceCodec(model, DEFAULT_VOCABULARY_FILE, 128)


def trained(architecture, *objectives, codec=None, seed=0, **changes):
  """Returns a model that says it was trained for `objectives`, names or dictionaries of fields."""
  codec = codec or shipped_codec()
  sizes = {"emb_dim": 32, "num_heads": 2, "head_dim": 16, "mlp_dim": 64}
  config = {"vocab_size": codec.vocab_size, **sizes, **FAMILIES[architecture], **changes}
  model = Transformer(TransformerConfig(**config))
  params = _parameters(model, seed)
  known = [{"objective": x} if isinstance(x, str) else x for x in objectives]
  partitioner = Partitioner(make_mesh(None, jax.devices()[:1]))
  return TrainedModel(model, params, codec, partitioner, "random", objectives=tuple(known))


@functools.cache
def _parameters(model, seed):
  sides = {"encoder_only": ("encoder",), "decoder_only": ("decoder",)}
  names = sides.get(model.config.architecture, ("encoder", "decoder"))
  batch = {f"{side}_input_tokens": np.ones((1, 4), np.int32) for side in names}
  boxed = jax.jit(model.init)(jax.random.key(seed), batch)["params"]
  return jax.tree.map(lambda x: x.value, boxed, is_leaf=lambda x: hasattr(x, "names"))


def favouring(model, **bias):
  """Returns a model with a head_bias that writes some ids more often: favouring(model, _5=3.0)."""
  ids = np.array([int(name[1:]) for name in bias])
  params = jax.tree.map(lambda x: x, model.params)
  params["head"]["bias"] = params["head"]["bias"].at[ids].set(np.array(list(bias.values())))
  return dataclasses.replace(model, params=params)


def log_probabilities(model, **features):
  """Returns the log-probabilities [L, V] of one row, as training computes them."""
  side = "encoder" if model.config.architecture == "encoder_only" else "decoder"
  count = len(features[f"{side}_input_tokens"])
  length = min(32, model.config.max_length)  # One program for rows of different lengths.
  batch = {
    name: np.array([[*row, *[0] * (length - len(row))]], np.int32) for name, row in features.items()
  }
  return np.array(_log_probabilities(model.model, model.params, batch)[0, :count])


@functools.partial(jax.jit, static_argnames="model")
def _log_probabilities(model, params, batch):
  return jax.nn.log_softmax(model.apply({"params": params}, batch).logits())
