"""Models of the three architectures: who sees whom, positions, tables, the head, dropout."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models import Transformer
from t5x_style.models.attention import Attention

DECODERS = ("t5", "llama", "gpt2")


def embed_gradient(model, params, batch, side, position):
  """Returns how much hidden[0, position] depends on each token of a side: sums of gradients [L].

  Each position has its own row of the embedding table, so that their influences are separate.
  """
  tokens = batch[f"{side}_input_tokens"]
  length = tokens.shape[1]
  params = nn.meta.unbox(params)
  table = params["token_embed"]["embedding"]
  rows = table[tokens[0]]
  kernel = jax.random.normal(jax.random.key(7), (model.config.emb_dim,))
  spread = {**batch, f"{side}_input_tokens": jnp.arange(1, length + 1)[None] % table.shape[0]}
  spread = {k: v[:1] for k, v in spread.items()}

  def score(rows):
    changed = jax.tree.map(lambda x: x, params)
    changed["token_embed"] = {"embedding": table.at[1 : length + 1].set(rows)}
    out = model.apply({"params": changed}, spread)
    return out.hidden[0, position] @ kernel

  return np.abs(np.asarray(jax.jit(jax.grad(score))(rows))).sum(-1)


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_are_causal(build_family, name):
  model, params, batch = build_family(name)
  if name == "t5":  # The encoder's tokens share the table: they must differ from the decoder's.
    batch["encoder_input_tokens"] = jnp.full_like(batch["encoder_input_tokens"], 60)
  influence = embed_gradient(model, params, batch, "decoder", position=5)
  assert (influence[:6] > 0).all()
  assert (influence[6:] == 0).all()


def test_encoder_sees_both_ways(build_family):
  model, params, batch = build_family("bert")
  assert (embed_gradient(model, params, batch, "encoder", position=5) > 0).all()


@pytest.mark.parametrize("name", ("llama", "bert"))
def test_segments_do_not_see_each_other(build_family, name):
  model, params, batch = build_family(name)
  side = "encoder" if name == "bert" else "decoder"
  batch[f"{side}_segment_ids"] = jnp.array([[1] * 4 + [2] * 5 + [0] * 3] * 2)
  batch[f"{side}_positions"] = jnp.array([[*range(4), *range(5), 0, 0, 0]] * 2)
  influence = embed_gradient(model, params, batch, side, position=6)
  seen = [4, 5, 6] if side == "decoder" else [4, 5, 6, 7, 8]
  np.testing.assert_array_equal(np.nonzero(influence)[0], seen)


def test_packed_rows_equal_their_documents(build_family):
  """Two documents in one row give exactly what each gives in a row of its own."""
  model, params, batch = build_family("llama")
  a, b = batch["decoder_input_tokens"][:, :5], batch["decoder_input_tokens"][:, 5:]
  packed = {
    "decoder_input_tokens": jnp.concatenate([a, b], 1),
    "decoder_segment_ids": jnp.array([[1] * 5 + [2] * 7] * 2),
    "decoder_positions": jnp.array([[*range(5), *range(7)]] * 2),
  }
  apply = jax.jit(lambda batch: model.apply({"params": params}, batch).hidden)
  separate = [apply({"decoder_input_tokens": x}) for x in (a, b)]
  np.testing.assert_allclose(apply(packed), jnp.concatenate(separate, 1), atol=1e-5)


def test_encoder_decoder_packing_crosses_within_segments_only(build_family):
  model, params, batch = build_family("t5")
  segments = jnp.array([[1] * 6 + [2] * 6] * 2)
  batch |= {"encoder_segment_ids": segments, "decoder_segment_ids": segments}
  apply = jax.jit(lambda batch: model.apply({"params": params}, batch).hidden)
  changed = dict(batch)
  tokens = batch["encoder_input_tokens"]
  changed["encoder_input_tokens"] = tokens.at[:, 6:].set((tokens[:, 6:] + 3) % 60 + 2)
  before, after = apply(batch), apply(changed)
  np.testing.assert_array_equal(before[:, :6], after[:, :6])
  assert (np.abs(before[:, 6:] - after[:, 6:]).max(-1) > 0).all()


def test_padding_of_the_encoder_is_not_seen(build_family):
  model, params, batch = build_family("t5")
  apply = jax.jit(lambda batch: model.apply({"params": params}, batch).hidden)
  padded = {k: jnp.pad(v, ((0, 0), (0, 5))) for k, v in batch.items()}
  np.testing.assert_allclose(apply(padded)[:, :12], apply(batch), atol=1e-5)


@pytest.mark.parametrize(
  ("family", "reach"),
  [
    ("llama", {3, 4, 5}),
    pytest.param("modernbert", {3, 4, 5, 6, 7}, marks=pytest.mark.slow),
    pytest.param("t5", {3, 4, 5}, marks=pytest.mark.slow),
  ],
)
def test_windows_hide_what_is_far(build_family, family, reach):
  """A layer with a window of 2 sees two positions to either side, or two to the left if causal."""
  side = "encoder" if family == "modernbert" else "decoder"
  layers = {"num_encoder_layers": int(family != "llama"), f"num_{side}_layers": 1}
  model, params, batch = build_family(family, attention_windows=(2,), **layers)
  if family == "t5":
    batch["encoder_input_tokens"] = jnp.full_like(batch["encoder_input_tokens"], 60)
  influence = embed_gradient(model, params, batch, side, position=5)
  np.testing.assert_array_equal(np.nonzero(influence)[0], sorted(reach))


@pytest.mark.slow
def test_a_cycle_of_windows_has_its_global_layers(build_family):
  """Two local layers of 2 reach 4; the first and the fourth layer, without a window, reach all."""
  local = {"num_encoder_layers": 3, "attention_windows": (2, 2, None)}
  model, params, batch = build_family("modernbert", **local)
  assert (embed_gradient(model, params, batch, "encoder", position=0) > 0).all()
  model, params, batch = build_family("modernbert", **local | {"num_encoder_layers": 2})
  influence = embed_gradient(model, params, batch, "encoder", position=0)
  np.testing.assert_array_equal(np.nonzero(influence)[0], range(5))


def test_local_layers_have_a_rotary_base_of_their_own(build_family):
  model, params, batch = build_family("modernbert")
  expected = jax.jit(model.apply)({"params": params}, batch).hidden
  for name, differs in (("rotary_base", True), ("rotary_base_local", True), ("max_length", False)):
    other = Transformer(dataclasses.replace(model.config, **{name: 5}))
    found = jax.jit(other.apply)({"params": params}, batch).hidden
    assert (np.abs(found - expected).max() > 1e-3) == differs, name


def test_factorized_tables_and_the_tied_head_are_narrow(build_family):
  model, params, batch = build_family("albert")
  for table in ("token_embed", "position_embed"):
    assert params[table]["embedding"].value.shape[1] == 16
  out = jax.eval_shape(model.apply, {"params": params}, batch)
  assert out.hidden.shape == (2, 12, 16)
  assert out.kernel.shape == (16, 64)


def test_positions_begin_after_the_offset_in_each_stack(build_family):
  """BART's tables, one of each stack, leave their first two rows unused."""
  model, params, batch = build_family("bart", max_length=15)

  def loss(params):
    return jnp.square(model.apply({"params": params}, batch).logits()).sum()

  gradient = jax.jit(jax.grad(loss))(nn.meta.unbox(params))
  for table in ("position_embed", "decoder_position_embed"):
    used = np.abs(gradient[table]["embedding"]).sum(-1) > 0
    np.testing.assert_array_equal(used, [0] * 2 + [1] * 12 + [0] * 3)
  norms = [np.abs(gradient[name]["scale"]).max() for name in ("embed_norm", "decoder_embed_norm")]
  assert min(norms) > 0


def test_another_padding_id_is_hidden(build_family):
  model, params, batch = build_family("bart")
  apply = jax.jit(lambda batch: model.apply({"params": params}, batch).hidden)
  tokens = batch["encoder_input_tokens"]
  padded = jnp.pad(tokens, ((0, 0), (0, 3)), constant_values=1)
  as_zero = jnp.pad(tokens, ((0, 0), (0, 3)))
  expected = apply(batch)
  np.testing.assert_allclose(apply({**batch, "encoder_input_tokens": padded}), expected, atol=1e-5)
  seen = apply({**batch, "encoder_input_tokens": as_zero})
  assert np.abs(seen - expected).max() > 1e-4


def test_only_target_positions_reach_the_head(build_family):
  model, params, batch = build_family("bert")
  positions = jnp.array([[0, 3, 7], [11, 2, 2]])
  logits = jax.jit(lambda *args: model.apply({"params": params}, batch, *args).logits())
  full, chosen = logits(), logits(positions)
  expected = jnp.take_along_axis(full, positions[..., None], axis=1)
  np.testing.assert_allclose(chosen, expected, atol=1e-6)


def test_dropout_is_on_only_with_an_rng(build_family):
  model, params, batch = build_family("t5", dropout_rate=0.5)
  apply = jax.jit(lambda **kw: model.apply({"params": params}, batch, **kw).hidden)
  np.testing.assert_array_equal(apply(), apply())
  first, second = (apply(rngs={"dropout": jax.random.key(i)}) for i in (0, 1))
  assert np.abs(first - second).max() > 0.1


def test_dropout_of_attention_weights_is_another_in_each_layer(build_family):
  """The layers of a scan draw their own masks, the same ones for the same seed."""
  model, params, batch = build_family("gpt2", attention_dropout_rate=0.5, dropout_places="bert")
  keys = []

  def note(function, args, kwargs, context):
    if isinstance(context.module, Attention) and context.method_name == "__call__":
      keys.append(context.module.make_rng("dropout"))
    return function(*args, **kwargs)

  unrolled = Transformer(dataclasses.replace(model.config, scan_layers=False))
  loose = unrolled.init(jax.random.key(0), batch)
  with nn.intercept_methods(note):
    unrolled.apply(loose, batch, rngs={"dropout": jax.random.key(0)})
  assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 2

  apply = jax.jit(lambda **kw: model.apply({"params": params}, batch, **kw).hidden)
  first, again, other = (apply(rngs={"dropout": jax.random.key(i)}) for i in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  np.testing.assert_array_equal(apply(), apply())
  assert np.abs(first - other).max() > 1e-3 and np.abs(first - apply()).max() > 1e-3


def test_every_parameter_names_its_axes(family, build_family):
  _, params, _ = build_family(family)
  boxes = jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, nn.Partitioned))
  assert all(isinstance(box, nn.Partitioned) for box in boxes)
  assert all(len(box.names) == box.value.ndim for box in boxes)


def test_rows_longer_than_the_learned_positions_are_refused(build_family):
  with pytest.raises(ValueError, match="12 tokens is longer than the 8 learned"):
    build_family("gpt2", max_length=8)
