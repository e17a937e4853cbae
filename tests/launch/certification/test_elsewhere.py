"""Recipes whose text is not at hand."""

import jax
import pytest

from launch.certification import catalogue, elsewhere, recipes
from launch.certification.certificate import Line
from launch.configuration import reader
from t5x_style.models.parameter_shapes import abstract_parameters
from t5x_style.training import train_config


def test_the_catalogue_names_every_recipe():
  assert tuple(recipes.RECIPES) == tuple(catalogue.ABOUT)


@pytest.mark.parametrize(
  ("name", "published", "parameters", "tokens"),
  [
    ("t5_1_1_base_c4", 1.942, 247.6e6, 65_536 * 128 * 512),
    ("gpt2_fineweb", 3.28, 124.5e6, 19_560 * 524_288),
    ("llama_15m_tinystories", 1.072, 15.19e6, 100_000 * 131_072),
  ],
)
def test_the_gin_file_is_of_the_published_model(name, published, parameters, tokens):
  needed = ["CORPUS_FILES = 'a'", "VOCABULARY_FILE = 'b'"] if "c4" not in name else []
  recipe = recipes.RECIPES[name]
  config = reader.read([f"certificate/{name}.gin"], needed).build(train_config.TrainConfig)
  count = sum(x.size for x in jax.tree.leaves(abstract_parameters(config.model)))
  assert count == pytest.approx(parameters, rel=0.002)
  lengths = reader.read([f"certificate/{name}.gin"], needed).macro("TASK_FEATURE_LENGTHS")
  assert config.train_steps * config.batch_size * next(iter(lengths.values())) == tokens
  assert recipe.missing(None).startswith("needs ")
  assert str(published) in catalogue.ABOUT[name]


def test_lines_of_these_have_the_published_figure():
  line = elsewhere.line(recipes.RECIPES["gpt2_fineweb"], "needs FineWeb")
  assert line == Line("gpt2_fineweb", line.claim, "not run", 3.28, reason="needs FineWeb")
