"""A run may start from a Hugging Face folder as it is."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.checkpoints.warm_start import initial_params
from t5x_style.interop.huggingface import model_folder
from t5x_style.interop.huggingface import reader as hf_reader
from t5x_style.models import Transformer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
  """A model with random weights, and the folder it is saved in."""
  torch.manual_seed(0)
  config = transformers.BertConfig(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=24,
    max_position_embeddings=20,
    initializer_range=0.5,
  )
  model = transformers.BertForMaskedLM(config).eval()
  folder = tmp_path_factory.mktemp("bert")
  model.save_pretrained(folder)
  return model, folder


def read(folder, **changes):
  config = model_folder.open_folder(folder).correspondence.config
  config = type(config)(**(vars(config) | changes))
  batch = {"encoder_input_tokens": jax.ShapeDtypeStruct((1, 4), jnp.int32)}
  shapes = jax.eval_shape(Transformer(config).init, jax.random.key(0), batch)["params"]
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), nn.meta.unbox(shapes)
  )
  return config, initial_params(f"hf:{folder}", config, abstract, [hf_reader.read])


@pytest.mark.parametrize("scan_layers", [True, False])
def test_the_model_computes_what_it_did(bert, scan_layers):
  model, folder = bert
  config, params = read(folder, scan_layers=scan_layers)
  tokens = np.array([[3, 7, 49, 2, 11, 0, 0], [9, 1, 1, 8, 30, 31, 5]])
  apply = jax.jit(
    lambda p: Transformer(config).apply({"params": p}, {"encoder_input_tokens": tokens}).logits()
  )
  ours = np.asarray(apply(params))
  with torch.no_grad():
    mask = torch.tensor(tokens > 0).long()
    theirs = model(input_ids=torch.tensor(tokens), attention_mask=mask).logits.numpy()
  assert np.abs(theirs).max() > 1
  np.testing.assert_allclose(ours[tokens > 0], theirs[tokens > 0], rtol=1e-4, atol=1e-4)


def test_special_tokens_may_be_added(bert):
  model, folder = bert
  with pytest.warns(UserWarning, match="the 50 ids of hf:.* became 64"):
    _, params = read(folder, vocab_size=64)
  table = model.bert.embeddings.word_embeddings.weight.detach().numpy()
  np.testing.assert_array_equal(params["token_embed"]["embedding"][:50], table)
  np.testing.assert_allclose(params["token_embed"]["embedding"][60], table.mean(0), atol=1e-6)


def test_another_model_is_refused_with_what_differs(bert):
  with pytest.raises(ValueError, match="another model than the one configured") as error:
    read(bert[1], norm_epsilon=1e-5, num_encoder_layers=2)
  assert "norm_epsilon = 1e-05, not 1e-12" in str(error.value)
  assert "num_encoder_layers = 2, not 3" in str(error.value)


def test_other_paths_are_left_to_others(tmp_path):
  assert hf_reader.read(str(tmp_path), None, {}) is None
