"""Stacks: scanned, unrolled, shared and recomputed layers agree; where their parameters are."""

import dataclasses
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models import Transformer, TransformerConfig, layer_path


def unrolled_params(config, params):
  """Returns the same parameters in the layout of scan_layers = False."""
  unrolled = dataclasses.replace(config, scan_layers=False)

  def unroll(tree, num_layers):
    rest = {k: v for k, v in tree.items() if "layers" not in k}
    for i in range(num_layers):
      rest[layer_path(unrolled, num_layers, i)[0][0]] = layer_params(config, tree, num_layers, i)
    return rest

  sizes = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}
  return {k: unroll(v, sizes[k]) if k in sizes else v for k, v in nn.meta.unbox(params).items()}


def layer_params(config, tree, num_layers, layer):
  path, index = layer_path(config, num_layers, layer)
  tree = functools.reduce(lambda node, key: node[key], path, tree)
  return tree if index is None else jax.tree.map(lambda x: x[index], tree)


def test_scanned_and_unrolled_stacks_agree(family, build_family):
  model, params, batch = build_family(family)
  unrolled = Transformer(dataclasses.replace(model.config, scan_layers=False))
  shapes = jax.eval_shape(unrolled.init, jax.random.key(0), batch)["params"]
  split = unrolled_params(model.config, params)
  assert jax.tree.structure(split) == jax.tree.structure(nn.meta.unbox(shapes))
  expected = jax.jit(model.apply)({"params": params}, batch)
  got = jax.jit(unrolled.apply)({"params": split}, batch)
  np.testing.assert_allclose(got.hidden, expected.hidden, atol=1e-5)


def test_layers_of_one_kind_are_one_stack(build_family):
  """Without windows all layers are one stack; checkpoints have this layout."""
  _, params, _ = build_family("llama")
  assert set(params["decoder"]) == {"layers", "final_norm"}
  assert params["decoder"]["layers"]["mlp"]["wo"]["kernel"].value.shape == (2, 48, 32)
  _, params, _ = build_family("modernbert")
  assert set(params["encoder"]) == {"layers_0", "layers", "final_norm"}
  assert set(params["encoder"]["layers"]) == {"block_0", "block_1", "block_2"}


def test_paths_of_layers():
  """Layers of the same kind are stacked over cycles; those that fill no cycle come first."""

  def paths(num_layers, **changes):
    sizes = {"vocab_size": 8, "emb_dim": 8, "num_heads": 1, "head_dim": 8, "mlp_dim": 8}
    config = TransformerConfig(**sizes, num_decoder_layers=num_layers, **changes)
    found = [layer_path(config, num_layers, i) for i in range(num_layers)]
    return ["/".join(path) + ("" if index is None else f" {index}") for path, index in found]

  two = ["layers/block_0 0", "layers/block_1 0", "layers/block_0 1", "layers/block_1 1"]
  assert paths(2) == ["layers 0", "layers 1"]
  assert paths(2, scan_layers=False) == ["layers_0", "layers_1"]
  assert paths(2, first_attention_norm=False) == ["layers_0", "layers 0"]
  assert paths(4, attention_windows=(None, 4)) == two
  assert paths(5, attention_windows=(None, 4)) == ["layers_0", *two]
  assert paths(4, attention_windows=(None, 4), first_attention_norm=False) == [
    "layers_0",
    "layers_1",
    *two[:2],
  ]
  assert paths(2, share_layers=True) == ["shared_layers"] * 2
  assert paths(2, share_layers=True, scan_layers=False) == ["shared_layers"] * 2


def test_shared_layers_are_one_layer_applied_repeatedly(build_family):
  model, params, batch = build_family("albert")
  separate, _, _ = build_family("albert", share_layers=False, scan_layers=False)
  params = nn.meta.unbox(params)
  assert set(params["encoder"]) == {"shared_layers"}
  copies = {f"layers_{i}": params["encoder"]["shared_layers"] for i in range(3)}
  got = jax.jit(separate.apply)({"params": {**params, "encoder": copies}}, batch)
  expected = jax.jit(model.apply)({"params": params}, batch)
  np.testing.assert_allclose(got.hidden, expected.hidden, atol=1e-5)


def test_the_first_norm_can_be_absent(build_family):
  _, params, _ = build_family("modernbert")
  stack = params["encoder"]
  assert set(stack["layers_0"]) == {"self_attention", "mlp", "mlp_norm"}
  assert "self_attention_norm" in stack["layers"]["block_0"]


def gradients(model, params, batch):
  loss = lambda params: jnp.square(model.apply({"params": params}, batch).hidden).sum()
  return jax.jit(jax.grad(loss))(params)


def assert_near(found, expected):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), found, expected)


@pytest.mark.parametrize(
  ("family", "remat"),
  [
    ("t5", "dots"),
    pytest.param("t5", "full", marks=pytest.mark.slow),
    pytest.param("modernbert", "full", marks=pytest.mark.slow),
    pytest.param("mixtral", "dots", marks=pytest.mark.slow),
    pytest.param("mixtral", "full", marks=pytest.mark.slow),
  ],
)
def test_remat_changes_no_gradient(build_family, family, remat):
  model, params, batch = build_family(family)
  again, _, _ = build_family(family, remat=remat)
  assert_near(gradients(again, params, batch), gradients(model, params, batch))


@pytest.mark.parametrize(
  ("family", "changes"),
  [
    ("bert", {}),
    pytest.param("bert", {"scan_layers": False, "remat": "full"}, marks=pytest.mark.slow),
    pytest.param("t5", {"scan_layers": False, "remat": "dots"}, marks=pytest.mark.slow),
  ],
)
def test_the_forms_for_gpus_change_no_gradient(build_family, on_platform, family, changes):
  model, params, batch = build_family(family, **changes)
  expected = gradients(model, params, batch)
  on_platform("gpu")
  assert_near(gradients(model, params, batch), expected)


@pytest.mark.parametrize(
  ("family", "changes", "barriers"),
  [
    ("modernbert", {}, [True] * 2 + [False] * 6),  # One layer unrolled, three in the scan.
    ("modernbert", {"scan_layers": False}, [True] * 8),
    ("albert", {}, [False] * 2 + [True]),  # The last one is the head's.
    ("albert", {"scan_layers": False}, [True] * 3),  # Its scan is unrolled.
  ],
)
def test_barriers_of_recomputation_are_outside_of_scans_only(
  build_family, on_platform, family, changes, barriers
):
  """In a scan the compiler cannot merge the two forward passes, and a barrier only costs time."""
  model, params, batch = build_family(family, remat="full", **changes)
  on_platform("gpu")
  program = str(jax.make_jaxpr(model.apply)({"params": nn.meta.unbox(params)}, batch))
  found = sorted(re.findall(r"prevent_cse=(\w+)", program))
  assert found == sorted(str(barrier) for barrier in barriers)
