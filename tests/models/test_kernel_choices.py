"""The kernels that a model will use, and those that are refused, before anything is compiled."""

import jax
import jax.numpy as jnp
import pytest

from t5x_style.models import Transformer, TransformerConfig
from t5x_style.models.kernel_choices import attention_choices, format_choices
from t5x_style.partitioning import Partitioner, active_mesh, make_mesh

T5 = TransformerConfig(
  vocab_size=64,
  emb_dim=32,
  num_heads=4,
  head_dim=8,
  mlp_dim=48,
  num_encoder_layers=2,
  num_decoder_layers=2,
)


def choices(**changes):
  model = Transformer(T5.__class__(**{**T5.__dict__, **changes}))
  names = [f"{side}_input_tokens" for side in ("encoder", "decoder")]
  batch = {name: jax.ShapeDtypeStruct((2, 16), jnp.int32) for name in names}
  params = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
  partitioner = Partitioner(make_mesh({}, jax.devices()[:1]))
  return attention_choices(model, params, batch, partitioner)


@pytest.fixture
def on_tpu(monkeypatch):
  monkeypatch.setattr(active_mesh, "current_platform", lambda: "tpu")


def test_one_kernel_for_all():
  assert format_choices(choices()) == "xla (the fastest on CPUs for rows so short or few)"


def test_every_attention_has_its_own(on_tpu):
  assert format_choices(choices()) == "short (the fastest on TPUs)"
  assert format_choices(choices(attention_soft_cap=30.0)) == (
    "xla for encoder self-attention, decoder self-attention (the kernel for short rows has no soft "
    "cap); splash for decoder cross-attention (the kernel for short rows has no soft cap)"
  )


def test_dropout_of_attention_weights_decides(on_tpu):
  found = choices(attention_dropout_rate=0.1)
  assert {choice.name for choice in found.values()} == {"xla"}
  with pytest.raises(ValueError, match="has no dropout of attention weights"):
    choices(attention_dropout_rate=0.1, attention="short")


def test_windows_are_named(on_tpu):
  found = choices(positions="rotary", attention_windows=(None, 4))
  assert sorted(found) == [
    "decoder cross-attention",
    "decoder self-attention",
    "decoder self-attention within 4 tokens",
    "encoder self-attention",
    "encoder self-attention within 4 tokens",
  ]


def test_refused_before_anything_is_compiled(on_tpu):
  with pytest.raises(ValueError, match="ATTENTION = 'splash' cannot compute the encoder's self-at"):
    choices(attention="splash")
