"""Every model of gin_configs/models, shrunk, exported and read by transformers: the same logits."""

import dataclasses
from pathlib import Path

import pytest

from launch.configuration.gin_values import GinValues
from launch.conversion import model_gin
from t5x_style.errors import UserError
from t5x_style.interop.huggingface import config_export
from t5x_style.models import RotaryScaling

FOLDER = Path(__file__).parents[3] / "gin_configs" / "models"
FILES = {
  str(path.relative_to(FOLDER)): path
  for path in sorted(FOLDER.rglob("*.gin"))
  if path.name != "family.gin" and path != FOLDER / "base.gin"
}
LACKING = {
  "encoder_decoder_tiny.gin": "transformers has no T5 with rotary positions",
  "encoder_only_tiny.gin": "transformers has no ModernBERT with unscaled attention",
  "decoder_only_tiny.gin": "transformers has no Llama with windows of 3 tokens",
  "decoder_only_experts_tiny.gin": "transformers has no Mixtral with windows of 3 tokens",
  "st_moe/large.gin": "transformers has no Switch with gates and two experts for a token",
  "st_moe/32b.gin": "transformers has no Switch with gates and two experts for a token",
}
# One of each kind; the other files differ from these in sizes.
KINDS = (
  *("t5/small.gin", "t5_1_1/small.gin", "ul2/20b.gin", "encoder_decoder_mini.gin"),
  *("bart/base.gin", "bert/base.gin", "roberta/base.gin", "albert/base.gin", "modernbert/base.gin"),
  *(
    "encoder_only_mini.gin",
    "gpt2/small.gin",
    "llama3/1b.gin",
    "llama3/8b.gin",
    "decoder_only_mini.gin",
    "qwen3/8b.gin",
    "mixtral/8x7b.gin",
    "qwen3_moe/30b_a3b.gin",
    "switch/base_8.gin",
  ),
)


def shrunk(config):
  """The same structure at sizes that run in a test."""
  heads, head_dim = 4, 8
  like = config.emb_dim == config.num_heads * config.head_dim
  layers = {
    name: min(getattr(config, name), most)
    # Not whole cycles of windows, and different numbers on both sides.
    for name, most in (("num_encoder_layers", 4), ("num_decoder_layers", 3))
  }
  experts = config.experts
  if experts and experts.every > 2:
    experts = dataclasses.replace(experts, every=2)
  windows = tuple(window and 2 for window in config.attention_windows)
  return dataclasses.replace(
    config,
    vocab_size=96,
    emb_dim=heads * head_dim if like else 24,
    num_heads=heads,
    head_dim=head_dim,
    num_kv_heads=config.num_kv_heads and 2,
    mlp_dim=40,
    max_length=24,
    factorized_dim=config.factorized_dim and 12,
    attention_windows=windows,
    experts=experts,
    rotary_scaling=config.rotary_scaling and RotaryScaling(factor=8.0, original_length=16),
    **layers,
  )


@pytest.mark.parametrize(
  "name", [name if name in KINDS else pytest.param(name, marks=pytest.mark.slow) for name in FILES]
)
def test_an_exported_model_computes_the_same(name, export_and_load, draw_parameters, compare):
  config = shrunk(model_gin.transformer_config(GinValues([str(FILES[name])])))
  if name in LACKING:
    with pytest.raises(UserError, match="transformers has no such model"):
      config_export.choose_family(config)
    return
  arrays = draw_parameters(config)
  if config.tie_embeddings and config.scale_logits:
    arrays["token_embed", "embedding"] *= 30  # The logits are small otherwise.
  loaded, info = export_and_load(config, arrays)
  assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
  compare(loaded, config, arrays)
