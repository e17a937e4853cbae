"""Generates on eight devices and on one; prints whether both wrote the same. Run by a test."""

import sys

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.inference.choice import Choice
from t5x_style.inference.generation import generate
from t5x_style.models import Transformer
from t5x_style.partitioning import Partitioner, make_mesh
from t5x_style.trained import checkpoint_folders
from tests.inference.test_decoding import FAMILIES, INPUTS, PROMPTS, SIZES, TransformerConfig


def main(family):
  model = Transformer(TransformerConfig(**SIZES, **FAMILIES[family]))
  config = model.config
  inputs = INPUTS if config.num_encoder_layers else None
  batch = {"decoder_input_tokens": jnp.ones((1, 4), jnp.int32)}
  if inputs:
    batch["encoder_input_tokens"] = batch["decoder_input_tokens"]
  params = jax.jit(model.init)(jax.random.key(4), batch)["params"]
  params = jax.tree.map(
    lambda x: x.unbox() if hasattr(x, "unbox") else x,
    params,
    is_leaf=lambda x: hasattr(x, "unbox"),
  )
  for choice in (Choice(), Choice(beams=3), Choice(temperature=0.8, top_p=0.9)):
    options = {"encoder_inputs": inputs, "max_new_tokens": 7, "choice": choice}
    one = generate(model, params, PROMPTS, **options)
    partitioner = Partitioner(make_mesh({"data": 2, "fsdp": 2, "tensor": 2}, jax.devices()))
    abstract = checkpoint_folders.abstract_params(config, partitioner)
    spread = jax.tree.map(
      lambda x, like: jax.device_put(np.asarray(x), like.sharding), params, abstract
    )
    shards = {len({str(s.index) for s in x.addressable_shards}) for x in jax.tree.leaves(spread)}
    with partitioner.context():
      many = generate(model, spread, PROMPTS, **options)
    for a, b in zip(one, many, strict=True):
      near = np.allclose(a.log_probabilities, b.log_probabilities, atol=1e-4)
      print(a.tokens.tolist() == b.tokens.tolist(), near, max(shards))


if __name__ == "__main__":
  main(sys.argv[1])
