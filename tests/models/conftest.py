"""Small models of the known families."""

import jax
import jax.numpy as jnp
import pytest

from t5x_style.models import Experts, Transformer, TransformerConfig

SIZES = {"vocab_size": 64, "emb_dim": 32, "num_heads": 4, "head_dim": 8, "mlp_dim": 48}
FAMILIES = {
  "t5": {"num_encoder_layers": 2, "num_decoder_layers": 2, "scale_attention": False},
  "llama": {
    "num_decoder_layers": 2,
    "positions": "rotary",
    "num_kv_heads": 2,
    "qk_norm": True,
    "mlp_activations": ("silu", "linear"),
    "tie_embeddings": False,
  },
  "mixtral": {
    "num_decoder_layers": 5,  # One, and two cycles of a dense layer and one with experts.
    "positions": "rotary",
    "mlp_activations": ("silu", "linear"),
    "experts": Experts(num_experts=4, experts_per_token=2, every=2, normalize=True),
  },
  "gpt2": {
    "num_decoder_layers": 2,
    "positions": "learned",
    "norm": "layer",
    "use_bias": True,
    "mlp_activations": ("gelu",),
    "scale_logits": False,
    "embedding_init_std": 0.02,
  },
  "modernbert": {
    "num_encoder_layers": 4,  # One, and a cycle of three.
    "positions": "rotary",
    "rotary_base": 160_000.0,
    "rotary_base_local": 100.0,
    "attention_windows": (None, 2, 2),
    "norm": "layer",
    "first_attention_norm": False,
    "embedding_norm": True,
  },
  "bart": {
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "positions": "learned",
    "position_offset": 2,
    "padding_id": 1,
    "norm": "layer",
    "norm_position": "post",
    "use_bias": True,
    "mlp_activations": ("gelu_exact",),
    "embedding_norm": True,
    "scale_logits": False,
    "embedding_init_std": 0.02,
  },
  "albert": {
    "num_encoder_layers": 3,
    "share_layers": True,
    "factorized_dim": 16,
    "positions": "learned",
    "norm": "layer",
    "norm_position": "post",
    "use_bias": True,
    "mlp_activations": ("gelu",),
    "embedding_norm": True,
    "head_transform": True,
    "head_bias": True,
    "scale_logits": False,
  },
  "bert": {
    "num_encoder_layers": 2,
    "positions": "learned",
    "norm": "layer",
    "norm_position": "post",
    "use_bias": True,
    "mlp_activations": ("gelu_exact",),
    "num_token_types": 2,
    "embedding_norm": True,
    "head_transform": True,
    "head_bias": True,
    "pooled_classes": 2,
    "scale_logits": False,
    "embedding_init_std": 0.02,
  },
}


def make_batch(config, length=12, rows=2, seed=0):
  """Returns random tokens [rows, length] as the inputs of the architecture."""
  keys = jax.random.split(jax.random.key(seed), 2)
  tokens = [jax.random.randint(key, (rows, length), 2, config.vocab_size) for key in keys]
  batch = {}
  if config.num_encoder_layers:
    batch["encoder_input_tokens"] = tokens[0]
  if config.num_decoder_layers:
    batch["decoder_input_tokens"] = jnp.pad(tokens[1][:, 1:], ((0, 0), (1, 0)))
  return batch


@pytest.fixture(params=FAMILIES)
def family(request):
  return request.param


@pytest.fixture
def built(family):
  """Gives (model, params, batch) of each family."""
  return build(family)


def build(family, **changes):
  config = TransformerConfig(**{**SIZES, **FAMILIES[family], **changes})
  model, batch = Transformer(config), make_batch(config)
  return model, jax.jit(model.init)(jax.random.key(1), batch)["params"], batch


@pytest.fixture
def build_family():
  return build
