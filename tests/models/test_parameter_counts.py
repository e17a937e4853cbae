"""The models in gin_configs/models have exactly the published numbers of parameters."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from launch.configuration import reader
from t5x_style.models import Transformer, TransformerConfig

FOLDER = Path(__file__).parents[2] / "gin_configs" / "models"

# Checked against models that transformers builds from the configurations on the Hugging Face hub.
# transformers 5 counts the head of T5 1.1, mT5, ByT5 and UL2 as tied, but the published models have
# a separate one: vocabulary x width more parameters here. BART's final_logits_bias is a constant
# zero, not a parameter. Encoders have the masked-LM head (BertForMaskedLM and so on), which is tied
# to the embeddings.
PUBLISHED = {
  "t5/small": 60_506_624,
  "t5/base": 222_903_552,
  "t5/large": 737_668_096,
  "t5/3b": 2_851_598_336,
  "t5/11b": 11_307_321_344,
  "t5_1_1/small": 76_961_152,
  "t5_1_1/base": 247_577_856,
  "t5_1_1/large": 783_150_080,
  "t5_1_1/xl": 2_849_757_184,
  "t5_1_1/xxl": 11_135_332_352,
  "mt5/small": 300_176_768,
  "mt5/base": 582_401_280,
  "mt5/large": 1_229_581_312,
  "mt5/xl": 3_742_619_648,
  "mt5/xxl": 12_921_057_280,
  "byt5/small": 299_637_760,
  "byt5/base": 581_653_248,
  "byt5/large": 1_228_183_552,
  "byt5/xl": 3_737_801_728,
  "byt5/xxl": 12_906_899_328,
  "ul2/20b": 19_591_209_984,
  "bart/base": 139_420_416,
  "bart/large": 406_291_456,
  "bert/base": 109_514_298,
  "bert/large": 335_174_458,
  "roberta/base": 124_697_433,
  "roberta/large": 355_412_057,
  "albert/base": 11_221_680,
  "modernbert/base": 149_655_232,
  "modernbert/large": 395_881_664,
  "gpt2/small": 124_439_808,
  "gpt2/medium": 354_823_168,
  "gpt2/large": 774_030_080,
  "gpt2/xl": 1_557_611_200,
  "llama3/1b": 1_235_814_400,
  "llama3/8b": 8_030_261_248,
  "llama3/70b": 70_553_706_496,
  "qwen3/0_6b": 596_049_920,
  "qwen3/1_7b": 1_720_574_976,
  "qwen3/4b": 4_022_468_096,
  "qwen3/8b": 8_190_735_360,
  "switch/base_8": 619_339_008,
  "switch/base_128": 7_415_217_408,
  # Zoph et al. 2022 round to 4.1 and 269 billion; these are the sums of the layers of their table.
  "st_moe/large": 4_091_291_648,
  "st_moe/32b": 268_727_141_376,
  "mixtral/8x7b": 46_702_792_704,
  "mixtral/8x22b": 140_620_634_112,
  "qwen3_moe/30b_a3b": 30_532_122_624,
  "qwen3_moe/235b_a22b": 235_093_634_560,
}
# With the head for pairs of sentences: BertForPreTraining, AlbertForPreTraining.
WITH_PAIRS = {"bert/base": 110_106_428, "bert/large": 336_226_108, "albert/base": 11_813_810}


def num_parameters(name, *bindings):
  config = reader.read([f"models/{name}.gin"], bindings).build(TransformerConfig)
  tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
  sides = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}
  batch = {f"{side}_input_tokens": tokens for side, layers in sides.items() if layers}
  shapes = jax.eval_shape(Transformer(config).init, jax.random.key(0), batch)["params"]
  return sum(x.size for x in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name):
  assert num_parameters(name) == PUBLISHED[name]


@pytest.mark.parametrize("name", WITH_PAIRS)
def test_parameters_with_a_head_for_pairs(name):
  assert num_parameters(name, "config.TransformerConfig.pooled_classes = 2") == WITH_PAIRS[name]


def test_every_model_file_is_in_the_table():
  files = {f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.gin")}
  assert {name for name in files if not name.endswith("/family")} == set(PUBLISHED)
