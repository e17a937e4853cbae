"""T5X's network as a peer: it gets this package's weights, and its source is found or asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from launch.benchmarks import step, t5x_step
from launch.process.errors import ConfigurationError
from t5x_style.models import Transformer
from tests.interop.t5x import conftest as t5x
from tests.interop.t5x.test_reader import DECODER_INPUTS, INPUTS, SIZES
from tests.launch.benchmarks.tiny_cases import prepared_case


@pytest.mark.parametrize("tied", [False, True])
def test_t5x_computes_the_same_with_the_converted_parameters(tied):
  """T5X's forward pass in NumPy is the independent side."""
  changes = {"tie_embeddings": tied, "mlp_activations": ("relu",) if tied else ("gelu", "linear")}
  model = Transformer(t5x_config(**changes))
  batch = {
    "encoder_input_tokens": jnp.asarray([INPUTS]),
    "decoder_input_tokens": jnp.asarray([DECODER_INPUTS]),
  }
  params = nn.meta.unbox(model.init(jax.random.key(0), batch)["params"])
  there = t5x.t5x_parameters(gated=not tied, tied=tied)
  shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in there.items()}
  made = t5x_step.to_t5x(params, traverse_util.unflatten_dict(shapes, sep="/"))
  flat = {k: np.asarray(v) for k, v in traverse_util.flatten_dict(made, sep="/").items()}
  assert {name: x.shape for name, x in flat.items()} == {k: x.shape for k, x in there.items()}
  expected = t5x.t5x_logits(flat, INPUTS, DECODER_INPUTS)
  found = jax.jit(lambda p, b: model.apply({"params": p}, b).logits())(params, batch)
  np.testing.assert_allclose(np.asarray(found)[0], expected, rtol=2e-5, atol=2e-5)


def t5x_config(**changes):
  return t5x_step.TransformerConfig(**{**SIZES, "scale_logits": True, **changes}, scan_layers=False)


NETWORK = "from t5x.examples.t5 import layers\nT5Config, Transformer = layers.A, layers.B\n"


@pytest.mark.parametrize("place", [".", "t5x/examples/t5"])
def test_the_source_is_read_from_a_folder_or_a_clone(tmp_path, place):
  folder = tmp_path / place
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "layers.py").write_text(f"A, B = {place!r}, 2\n")
  (folder / "network.py").write_text(NETWORK)
  network = t5x_step.load_network(str(tmp_path))
  assert (network.T5Config, network.Transformer) == (place, 2)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"against": "t5x"}, "--t5x_source is not given. Write --t5x_source=CLONE"),
    ({"against": "t5x", "t5x_source": "nowhere"}, "= 'nowhere' has no network.py and layers.py"),
    ({"against": "hf", "t5x_source": "x"}, "--t5x_source belongs to --against=t5x"),
  ],
)
def test_mistakes(arguments, message):
  with pytest.raises(ConfigurationError, match=message):
    next(step.measure(tiny=True, **arguments))


@pytest.mark.parametrize(
  ("family", "changes", "message"),
  [
    ("bert", {}, "trains T5 only"),
    ("t5", {"relative_buckets": 16}, "32 relative buckets"),
  ],
)
def test_other_models_are_refused(family, changes, message):
  prepared, batches = prepared_case(family, scan_layers=False, **changes)
  with pytest.raises(ConfigurationError, match=message):
    t5x_step.peers(None, prepared, None, batches, 1e-4)
