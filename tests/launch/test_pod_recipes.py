"""What the runs of gin_configs/pods train: objective, rows, vocabulary, optimizer, rates, streams.

Expected values are those of each model's paper. Nothing is compiled and no data is read.
"""

import math
from typing import NamedTuple

import pytest

from launch import precompile
from launch.configuration import reader
from t5x_style.data.objectives import causal_lm, masked_lm, span_corruption, ul2
from t5x_style.planning import topologies
from t5x_style.span_lengths import lengths_for_inputs
from t5x_style.training import train_config
from tests.launch.test_pods import PODS


class Recipe(NamedTuple):
  """What a paper says about a training.

  Attributes:
    rates: {steps taken: learning rate}.
    optimizer: hyperparameters.
    rows, length: of a batch; tokens of a row of the encoder, or of a model without one.
    vocabulary: the function that gin binds, its pieces without sentinels, and its sentinels.
  """

  source: str
  objective: type
  architecture: str
  length: int
  rows: int
  steps: int
  rates: dict[int, float]
  optimizer: dict[str, float]
  clipping: float | None
  z_loss: float
  vocabulary: tuple[str, int, int]


ADAFACTOR = {"decay_rate": 0.8, "clipping_threshold": 1.0, "multiply_by_parameter_scale": True}
T5 = Recipe(
  source="Raffel et al. 2019, 3.1.2 (rates) and 3.7 (batch, steps); z-loss of Mesh TensorFlow",
  objective=span_corruption.SpanCorruption,
  architecture="encoder_decoder",
  length=512,
  rows=2048,
  steps=1_000_000,
  rates={0: 0.01, 10_000: 0.01, 40_000: 0.005, 1_000_000: 0.001},
  optimizer=ADAFACTOR,
  clipping=None,
  z_loss=1e-4,
  vocabulary=("sentencepiece", 32_000, 100),
)
UL2 = T5._replace(
  source="Tay et al. 2022: 1T tokens of C4; sentinels as gin_configs/pods/ul2_20b_v5p_4x4x8.gin",
  objective=ul2.UL2,
  rows=1024,
  steps=2_000_000,
  vocabulary=("sentencepiece", 32_000, 256),
)
BERT = Recipe(
  source="Devlin et al. 2018, appendix A.2; google-research/bert, optimization.py",
  objective=masked_lm.MaskedLM,
  architecture="encoder_only",
  length=512,
  rows=256,
  steps=1_000_000,
  rates={5_000: 5e-5, 10_000: 1e-4, 505_000: 5e-5, 1_000_000: 0.0},
  optimizer={"b1": 0.9, "b2": 0.999, "eps": 1e-6, "weight_decay": 0.01},
  clipping=1.0,
  z_loss=0.0,
  vocabulary=("hf_tokenizer", 30_522, 0),
)
LLAMA_8B = Recipe(
  source="Dubey et al. 2024, table 3 and 3.4.1 (peak, warm-up, cosine to a hundredth); AdamW as "
  "Touvron et al. 2023, 2.2. Batch and steps are this package's.",
  objective=causal_lm.CausalLM,
  architecture="decoder_only",
  length=4096,
  rows=256,
  steps=100_000,
  rates={4_000: 1.5e-4, 8_000: 3e-4, 54_000: 3e-4 * (1 + 0.01) / 2, 100_000: 3e-6},
  optimizer={"b1": 0.9, "b2": 0.95, "weight_decay": 0.1},
  clipping=1.0,
  z_loss=0.0,
  vocabulary=("hf_tokenizer", 128_256, 0),
)
LLAMA_70B = LLAMA_8B._replace(
  length=8192,
  rows=512,
  rates={steps: rate / 2 for steps, rate in LLAMA_8B.rates.items()},
)
LLAMA_8B_128K = LLAMA_8B._replace(
  source="this package's; the rows of Dubey et al. 2024, 3.4.2, which has no rates",
  length=131_072,
  rows=32,
  steps=1_000,
  rates={50: 1.5e-5, 100: 3e-5, 550: 3e-5 * (1 + 0.1) / 2, 1_000: 3e-6},
)
MIXTRAL = LLAMA_8B._replace(
  source="this package's; the vocabulary of Jiang et al. 2024",
  rows=512,
  rates={5_000: 1.5e-4, 10_000: 3e-4, 100_000: 3e-5},
  z_loss=1e-4,
  vocabulary=("hf_tokenizer", 32_000, 0),
)
RECIPES = {
  "t5_1_1_base_v5e_4x4": T5,
  "t5_1_1_large_v5e_8x8": T5,
  "t5_1_1_xxl_v5p_4x4x4": T5,
  "ul2_20b_v5p_4x4x8": UL2,
  "bert_large_v4_2x2x4": BERT,
  "llama_8b_v6e_8x8": LLAMA_8B,
  "llama_70b_v5p_8x8x8": LLAMA_70B,
  "llama_8b_128k_v5p_4x4x4": LLAMA_8B_128K,
  "mixtral_8x7b_v5p_4x4x8": MIXTRAL,
}


@pytest.fixture(scope="module")
def pods():
  """Returns {name: (settings, configuration, objective)} of every pod."""
  found = {}
  for name in PODS:
    settings = reader.read([f"pods/{name}.gin"], (), (), precompile.DATA_OVERRIDES)
    objective = settings.argument("t5x_style.data.loader.load.objective")
    found[name] = settings, settings.build(train_config.TrainConfig), objective
  return found


def test_every_pod_has_a_recipe():
  assert RECIPES.keys() == PODS.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_objective_and_rows(name, pods):
  settings, config, objective = pods[name]
  recipe = RECIPES[name]
  assert type(objective) is recipe.objective
  assert config.model.architecture == recipe.architecture
  assert recipe.architecture in objective.architectures
  given = settings.macro("TASK_FEATURE_LENGTHS")
  lengths = objective.lengths(given, recipe.architecture)
  key = "targets" if recipe.architecture == "decoder_only" else "inputs"
  assert lengths[key] == recipe.length
  if config.model.positions == "learned":
    assert recipe.length <= config.model.max_length
  assert (config.batch_size, config.train_steps) == (recipe.rows, recipe.steps)


@pytest.mark.parametrize("name", RECIPES)
def test_optimizer_rates_and_loss(name, pods):
  (settings, config, _), recipe = pods[name], RECIPES[name]
  settings.use()  # gin has the bindings of the pod that was read last.
  for steps, rate in recipe.rates.items():
    assert float(config.schedule(steps)) == pytest.approx(rate, rel=1e-3, abs=1e-9), steps
  used = config.optimizer(config.schedule).hyperparameters
  assert {key: used.get(key) for key in recipe.optimizer} == recipe.optimizer
  assert config.clip_gradient_norm == recipe.clipping
  assert config.loss.z_loss == recipe.z_loss


@pytest.mark.parametrize("name", RECIPES)
def test_vocabulary_is_the_family_s(name, pods):
  """The model has a row for every piece and sentinel, and less than 128 rows more."""
  function, pieces, sentinels = RECIPES[name].vocabulary
  settings = reader.read([f"pods/{name}.gin"])
  assert str(settings.written("VOCABULARY").value.target).endswith(f".{function}")
  assert settings.macro("EXTRA_IDS") == sentinels
  file = settings.macro("VOCABULARY_FILE")
  assert file.endswith("sentencepiece.model") == (function == "sentencepiece")
  assert 0 <= pods[name][1].model.vocab_size - pieces - sentinels < 128


def test_ul2_20b_announces_its_denoisers_as_published(pods):
  """google/ul2: [NLU] before R-denoising, [S2S] before S, [NLG] before X; a sentinel per span."""
  settings, _, objective = pods["ul2_20b_v5p_4x4x8"]
  modes = {name[0]: part.mode for name, part, _ in objective.components()}
  assert modes == {"R": "[NLU]", "S": "[S2S]", "X": "[NLG]"}
  written = reader.read(["pods/ul2_20b_v5p_4x4x8.gin"])
  vocabulary = "t5x_style.data.tokenizers.vocabularies.sentencepiece"
  borrowed = written.argument(f"{vocabulary}.specials_from_extra_ids")
  assert set(borrowed) == set(modes.values())
  spans = lengths_for_inputs(511, 0.5, 3).spans  # one token of 512 is the mode's
  assert spans > 100
  assert spans + len(borrowed) <= settings.macro("EXTRA_IDS")


def test_only_llama_rows_of_131072_tokens_have_scaled_rotary_positions(pods):
  """Llama 3.1's scaling comes with such rows (Dubey et al. 2024, 3.4.2); its config.json has 8."""
  for name in ("llama_8b_v6e_8x8", "llama_70b_v5p_8x8x8"):
    model = pods[name][1].model
    assert (model.rotary_base, model.rotary_scaling) == (500_000.0, None)
  scaling = pods["llama_8b_128k_v5p_4x4x4"][1].model.rotary_scaling
  assert (scaling.factor, scaling.original_length) == (8.0, 8192)


@pytest.mark.parametrize("name", PODS)
def test_every_host_prepares_its_own_rows_only(name, pods):
  """The data streams are a multiple of the hosts, so that no host makes rows that it drops."""
  settings, config, _ = pods[name]
  # A host has 4 chips in every slice of several hosts.
  hosts = topologies.parse(PODS[name]).chips // 4
  streams = settings.macro("DATA_STREAMS")
  assert streams >= hosts and streams % hosts == 0, (streams, hosts)
  assert config.batch_size % streams == 0


@pytest.mark.parametrize("name", PODS)
def test_the_mesh_takes_all_chips_and_every_microbatch_divides_over_it(name, pods):
  config = pods[name][1]
  assert math.prod(config.mesh_shape.values()) == topologies.parse(PODS[name]).chips
  parts = math.prod(config.mesh_shape.get(axis, 1) for axis in ("data", "fsdp"))
  assert config.batch_size % (parts * config.num_microbatches) == 0
  assert config.model.dtype == "bfloat16"
