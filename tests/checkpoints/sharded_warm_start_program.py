"""Run by test_warm_start.py: a larger vocabulary and other layers over eight devices."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from t5x_style.checkpoints.adapted_start import adapted_params
from t5x_style.checkpoints.warm_start import initial_params
from t5x_style.models import TransformerConfig
from tests.checkpoints import test_warm_start


def main(folder: Path) -> None:
  mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"))
  model = test_warm_start.SIZES | test_warm_start.UNTIED | {"vocab_size": 104, "scan_layers": False}
  config = TransformerConfig(**model)
  replicated = NamedSharding(mesh, P())
  tree = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated),
    test_warm_start.abstract(config),
  )
  table = tree["token_embed"]["embedding"]
  sharded = NamedSharding(mesh, P("tensor", "fsdp"))
  tree["token_embed"]["embedding"] = table.update(sharding=sharded)
  params = initial_params(str(folder / "a"), config, tree)
  table = params["token_embed"]["embedding"]
  assert len(table.sharding.device_set) == len(jax.devices()) == 8
  print("shards of the embedding:", table.addressable_shards[0].data.shape)
  old = np.load(folder / "one.npz")["embedding"]
  np.testing.assert_array_equal(np.asarray(table)[:96], old)
  np.testing.assert_allclose(np.asarray(table)[96:], np.repeat(old.mean(0)[None], 8, 0), atol=1e-6)
  become_an_encoder_decoder(folder, mesh)


def become_an_encoder_decoder(folder: Path, mesh: jax.sharding.Mesh) -> None:
  """The same checkpoint of an encoder begins a decoder with another head, too."""
  changes = {"num_decoder_layers": 4, "qk_norm": True, "scan_layers": True}
  config = TransformerConfig(**(test_warm_start.SIZES | test_warm_start.UNTIED | changes))
  in_halves = NamedSharding(mesh, P(None, "fsdp"))
  replicated = NamedSharding(mesh, P())
  own = jax.tree.map(
    lambda x: jax.device_put(jnp.full(x.shape, 0.5), in_halves if x.ndim == 3 else replicated),
    test_warm_start.abstract(config),
  )
  params, _ = adapted_params(str(folder / "a"), config, own, "interpolate")
  kernel = params["decoder"]["layers"]["mlp"]["wo"]["kernel"]
  print("shards of the decoder:", kernel.addressable_shards[0].data.shape)
  saved = np.load(folder / "one.npz")["kernel"]
  np.testing.assert_array_equal(np.asarray(kernel), saved[[0, 0, 1, 1]])
  new = params["decoder"]["layers"]["self_attention"]["query_norm"]["scale"]
  np.testing.assert_array_equal(np.asarray(new), np.full((4, 8), 0.5))


if __name__ == "__main__":
  main(Path(sys.argv[1]))
