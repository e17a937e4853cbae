"""What each parameter begins as: whose name, in which form, and what no rule covers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.checkpoints.adaptation import adapt, rebucketing
from t5x_style.checkpoints.arrays import LazyArray
from t5x_style.errors import UserError
from t5x_style.models import TransformerConfig
from t5x_style.models.attention import RelativeBias
from t5x_style.models.parameter_shapes import abstract_parameters
from t5x_style.training.state import named_leaves

SIZES = {
  "vocab_size": 12,
  "emb_dim": 8,
  "num_heads": 4,
  "head_dim": 2,
  "mlp_dim": 6,
  "positions": "rotary",
  "scan_layers": False,
}
DECODER = {"num_decoder_layers": 2}
ENCODER = {"num_encoder_layers": 2}


def arrays(config):
  """Returns random parameters of a model."""
  random = np.random.default_rng(1)
  return {
    name: LazyArray.in_memory(random.normal(size=x.shape).astype(np.float32))
    for name, x in named_leaves(abstract_parameters(config)).items()
  }


def adapted(source, model, rule="interpolate", saved_config=None, **arguments):
  """Returns (the parameters of `source`, what `model` begins as)."""
  source, model = (TransformerConfig(**(SIZES | x)) for x in (source, model))
  saved = arrays(source)
  wanted = {name: x.shape for name, x in named_leaves(abstract_parameters(model)).items()}
  return saved, adapt(saved, wanted, rule, model, source)


def values(adaptation, name):
  return adaptation.origins[name].array.read()


def test_a_decoder_becomes_both_sides_of_an_encoder_decoder():
  saved, found = adapted(DECODER, DECODER | ENCODER)
  for side in ("encoder", "decoder"):
    for name in ("final_norm/scale", "layers_1/mlp/wo/kernel", "layers_0/mlp_norm/scale"):
      assert found.origins[f"{side}/{name}"].used == f"decoder/{name}"
  cross = found.origins["decoder/layers_1/cross_attention/key/kernel"]
  assert cross.used == "decoder/layers_1/self_attention/key/kernel"
  norm = found.origins["decoder/layers_1/cross_attention_norm/scale"]
  assert norm.used == "decoder/layers_1/self_attention_norm/scale"
  assert found.left_out == {}
  assert all(origin.array is not None for origin in found.origins.values())
  kernel = "decoder/layers_1/mlp/wo/kernel"
  np.testing.assert_array_equal(values(found, kernel), saved[kernel].read())


def test_each_side_of_an_encoder_decoder_keeps_its_own():
  _, found = adapted(DECODER | ENCODER, {"num_encoder_layers": 4, "num_decoder_layers": 1}, "stack")
  assert found.layers == {"encoder": ("encoder", [0, 1, 0, 1]), "decoder": ("decoder", [0])}
  assert found.origins["encoder/layers_3/mlp/wo/kernel"].used == "encoder/layers_1/mlp/wo/kernel"
  name = "decoder/layers_0/cross_attention/key/kernel"
  assert found.origins[name].used == name
  assert {name.split("/")[1] for name in found.left_out} == {"layers_1"}


def test_an_encoder_of_an_encoder_decoder_leaves_the_decoder_out():
  _, found = adapted(DECODER | ENCODER, ENCODER)
  assert found.left_out and all(name.startswith("decoder/") for name in found.left_out)
  assert found.origins["encoder/layers_1/mlp/wo/kernel"].used.startswith("encoder/")


def test_what_the_checkpoint_lacks_is_new_and_what_the_model_lacks_is_left_out():
  extra = {"use_bias": True, "norm": "layer", "qk_norm": True, "head_bias": True}
  _, found = adapted(DECODER, ENCODER | extra | {"positions": "relative"})
  new = {name for name, origin in found.origins.items() if origin.array is None}
  assert "head/bias" in new and "encoder/relative_bias/embedding" in new
  assert "encoder/layers_0/self_attention/query_norm/scale" in new
  assert "encoder/layers_0/mlp/wo/bias" in new and "encoder/layers_0/mlp/wo/kernel" not in new
  _, back = adapted(ENCODER | extra | {"positions": "relative"}, DECODER)
  assert all(origin.array is not None for origin in back.origins.values())
  assert {name.replace("encoder/", "") for name in back.left_out} == {
    name.replace("encoder/", "") for name in new
  }


def test_learned_positions_go_to_both_sides_and_keep_their_first_rows():
  learned = {"positions": "learned", "max_length": 5}
  saved, found = adapted(ENCODER | learned, ENCODER | DECODER | learned | {"max_length": 3})
  table = saved["position_embed/embedding"].read()
  for name in ("position_embed/embedding", "decoder_position_embed/embedding"):
    np.testing.assert_array_equal(values(found, name), table[:3])
  _, longer = adapted(ENCODER | learned, ENCODER | learned | {"max_length": 9})
  origin = longer.origins["position_embed/embedding"]
  np.testing.assert_array_equal(origin.array.read(), table)
  assert origin.text.endswith("rows from 5 on are new")
  both, alone = adapted(ENCODER | DECODER | learned, DECODER | learned)
  np.testing.assert_array_equal(
    values(alone, "position_embed/embedding"), both["decoder_position_embed/embedding"].read()
  )


@pytest.mark.parametrize(
  ("scaled", "base", "divisor"),
  [(True, None, 8**0.5), (False, None, 1), (True, 2, 8**0.5 * 2), (False, 2, 4)],
)
def test_a_head_of_its_own_computes_what_the_tied_table_did(scaled, base, divisor):
  tied = DECODER | {"tie_embeddings": True, "scale_logits": scaled, "base_emb_dim": base}
  saved, found = adapted(tied, DECODER | {"tie_embeddings": False})
  table = saved["token_embed/embedding"].read()
  hidden = np.random.default_rng(0).normal(size=8)
  logits = table @ hidden / divisor
  np.testing.assert_allclose(hidden @ values(found, "head/kernel"), logits, rtol=1e-5)


def test_key_heads_become_the_mean_of_their_group():
  saved, found = adapted(DECODER, DECODER | {"num_kv_heads": 2})
  name = "decoder/layers_0/self_attention/value/kernel"
  before = saved[name].read()
  wanted = np.stack([(before[:, 0] + before[:, 1]) / 2, (before[:, 2] + before[:, 3]) / 2], axis=1)
  np.testing.assert_allclose(values(found, name), wanted, rtol=1e-6)


def test_relative_positions_mean_the_same_distances():
  """Up to 8 tokens both sides have a bucket for each distance, so the biases are equal there."""
  relative = {"positions": "relative"}
  saved, found = adapted(DECODER | relative, ENCODER | relative)
  of = {"params": {"embedding": jnp.asarray(saved["decoder/relative_bias/embedding"].read())}}
  to = {"params": {"embedding": jnp.asarray(values(found, "encoder/relative_bias/embedding"))}}
  config = TransformerConfig(**(SIZES | DECODER | relative))
  distance = jnp.arange(8) - jnp.arange(8)[:, None]
  causal = RelativeBias(config, bidirectional=False).apply(of, distance)
  both = RelativeBias(config, bidirectional=True).apply(to, distance)
  left = np.tril(np.ones((8, 8), bool))
  np.testing.assert_allclose(both[..., left], causal[..., left], rtol=1e-6)
  # Keys on the right are as far as those on the left: the bias is symmetric.
  np.testing.assert_allclose(both, jnp.swapaxes(both, 1, 2), rtol=1e-6)


def test_the_same_buckets_do_not_change():
  kind = (True, 32, 128)
  same = [set(x.tolist()) for x in rebucketing(kind, kind)]
  assert [x for i, x in enumerate(same) if x != {i}] == [{0}]  # 16: distance 0 on the right
  # In a decoder the buckets from 16 on share distances; further ones get later buckets.
  means = [x.mean() for x in rebucketing((False, 32, 128), (True, 32, 128))[:16]]
  assert means[:8] == list(range(8)) and means[8:] == sorted(means[8:])


def test_a_head_of_other_classes_is_new():
  _, found = adapted(ENCODER | {"pooled_classes": 2}, ENCODER | {"pooled_classes": 3})
  assert found.origins["pooler/classes/kernel"].array is None
  assert found.origins["pooler/dense/kernel"].array is not None
  assert list(found.left_out) == ["pooler/classes/kernel"]


def test_more_ids_begin_as_the_mean():
  saved, found = adapted(DECODER, ENCODER | {"vocab_size": 14})
  table = values(found, "token_embed/embedding")
  before = saved["token_embed/embedding"].read()
  np.testing.assert_allclose(table[12:], np.stack([before.mean(0)] * 2), atol=1e-6)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"emb_dim": 16}, "no rule covers emb_dim = 16, in the checkpoint 8"),
    ({"head_dim": 4}, "head_dim = 4, in the checkpoint 2"),
    ({"num_heads": 2}, "num_heads = 2, in the checkpoint 4"),
    ({"mlp_dim": 7}, "mlp_dim = 7, in the checkpoint 6"),
    ({"mlp_activations": ("gelu",)}, "the number of mlp_activations = 1, in the checkpoint 2"),
    ({"vocab_size": 10}, "vocab_size = 10, in the checkpoint 12"),
  ],
)
def test_other_widths_are_refused_by_name(changes, message):
  with pytest.raises(UserError, match=message):
    adapted(DECODER, ENCODER | changes)


def test_layers_that_are_shared_stay_shared():
  shared = {"share_layers": True}
  _, found = adapted(ENCODER | shared, ENCODER | DECODER | shared | {"num_encoder_layers": 7})
  name = "layers_0/mlp/wo/kernel".replace("layers_0", "shared_layers")
  assert found.origins[f"decoder/{name}"].used == f"encoder/{name}"
  with pytest.raises(UserError, match="set share_layers"):
    adapted(ENCODER | shared, ENCODER)


def test_a_rule_that_does_not_cover_the_layers_is_named():
  with pytest.raises(UserError, match='"stack": the checkpoint has 2 layers and the encoder 3'):
    adapted(DECODER, {"num_encoder_layers": 3}, "stack")


def test_other_arrays_are_no_model():
  with pytest.raises(UserError, match="holds no layers"):
    adapt({"x": LazyArray.in_memory(jax.device_get(jnp.ones(2)))}, {}, "stack", None)
