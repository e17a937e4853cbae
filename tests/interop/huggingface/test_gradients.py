"""One training step's loss and gradients, ours and theirs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.interop import huggingface
from t5x_style.models import Transformer

PAIRS = np.array([0, 1])


def cross_entropy(logits, labels):
  """The mean over the labels that are not -100."""
  scores = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(labels, 0)[..., None], -1)
  return -(scores[..., 0] * (labels >= 0)).sum() / (labels >= 0).sum()


def batches(config):
  """The batch for ours, the one for theirs, and the labels."""
  draw = np.random.default_rng(3)
  tokens = draw.integers(2, config.vocab_size, (2, 13))
  mask = np.ones_like(tokens)
  mask[1, 9:] = 0
  tokens *= mask
  given = {"input_ids": tokens, "attention_mask": mask}
  if config.architecture == "decoder_only":
    labels = np.where(mask > 0, tokens, -100)
    return {"decoder_input_tokens": tokens}, given | {"labels": labels}, labels
  batch = {"encoder_input_tokens": tokens, "encoder_segment_ids": mask}
  if config.architecture == "encoder_only":
    labels = np.where(draw.random(tokens.shape) < 0.4, tokens, -100)
    labels[mask == 0] = -100
    types = draw.integers(0, 2, tokens.shape)
    given |= {"token_type_ids": types, "labels": labels, "next_sentence_label": PAIRS}
    return batch | {"encoder_token_types": types}, given, labels
  labels = draw.integers(2, config.vocab_size, (2, 9))
  labels[0, 6:] = -100
  inputs = np.pad(np.maximum(labels, 0)[:, :-1], ((0, 0), (1, 0)))
  batch |= {"decoder_input_tokens": inputs, "decoder_segment_ids": np.ones_like(inputs)}
  return batch, given | {"decoder_input_ids": inputs, "labels": labels}, labels


@pytest.mark.parametrize("name", ["t5_1_1", "bert", "gpt2"])
def test_loss_and_gradients_of_a_step(name, pretrained, read_parameters, as_tree):
  import torch

  model, path = pretrained(name)
  folder = huggingface.open_folder(path)
  config = folder.correspondence.config
  batch, given, labels = batches(config)

  def loss(params):
    out = Transformer(config).apply({"params": params}, batch)
    logits = out.logits()
    if config.architecture == "decoder_only":  # Theirs shifts the labels itself.
      return cross_entropy(logits[:, :-1], labels[:, 1:])
    total = cross_entropy(logits, labels)
    return total if out.pooled_logits is None else total + cross_entropy(out.pooled_logits, PAIRS)

  found, gradients = jax.jit(jax.value_and_grad(loss))(as_tree(read_parameters(folder)))
  model.zero_grad()
  wanted = model(**{key: torch.tensor(x) for key, x in given.items()}).loss
  wanted.backward()
  np.testing.assert_allclose(found, wanted.item(), rtol=1e-5)
  theirs = {key: x.grad.numpy() for key, x in model.named_parameters() if x.grad is not None}
  sizes = folder.correspondence.sizes
  for keys, parts in folder.correspondence.places.items():
    gradient = gradients
    for key in keys:
      gradient = gradient[key]
    for place, rule in parts:
      ours = np.asarray(gradient if place.index is None else gradient[place.index])
      other = rule.view(theirs[rule.theirs], sizes)
      assert np.abs(other).max() > 0, rule.theirs
      np.testing.assert_allclose(ours, other, rtol=1e-4, atol=2e-5, err_msg=rule.theirs)
