"""nanoGPT's recipes: which predictions count, and the settings of its configuration file."""

import jax.numpy as jnp
import numpy as np
import pytest

from launch.certification import nanogpt
from launch.configuration import reader
from t5x_style.training import train_config


def test_what_is_predicted_from_nothing_does_not_count():
  batch = {"decoder_loss_weights": np.ones((2, 3), np.float32), "decoder_input_tokens": None}
  changed = nanogpt.without_first(batch)
  assert changed["decoder_loss_weights"].tolist() == [[0, 1, 1], [0, 1, 1]]
  assert batch["decoder_loss_weights"].all()  # The run's own batch stays as it is.


@pytest.mark.parametrize(
  ("name", "millions", "tokens", "steps"),
  [("nanogpt_cpu", 0.80, 12 * 64, 2000), ("nanogpt_gpu", 10.65, 64 * 256, 5000)],
)
def test_the_settings_are_those_of_nanogpt(name, millions, tokens, steps):
  """As in its config/train_shakespeare_char.py, and its README for a CPU."""
  text = ["CORPUS_FILES = 'a'", "VALIDATION_FILES = 'b'", "MODEL_DIR = 'c'"]
  config = reader.read([f"certificate/{name}.gin"], text).build(train_config.TrainConfig)
  model = config.model
  layers = model.num_decoder_layers * (4 + 8) * model.emb_dim**2
  assert 65 * model.emb_dim + layers == pytest.approx(millions * 1e6, rel=0.01)
  assert model.mlp_dim == 4 * model.emb_dim == 4 * model.num_heads * model.head_dim
  assert config.batch_size * (model.max_length - 1) == tokens and config.train_steps == steps
  rates = [float(config.schedule(jnp.int32(step))) for step in (100, steps)]
  assert rates == pytest.approx([1e-3, 1e-4]) and config.clip_gradient_norm == 1
  given = config.optimizer(config.schedule).hyperparameters
  assert given | {"b1": 0.9, "b2": 0.99, "eps": 1e-8, "weight_decay": 0.1} == given
