"""The loss of a training step and all its gradients against those of PyTorch."""

import jax
import numpy as np
import pytest

from t5x_style.interop.huggingface import model_folder
from t5x_style.models import Transformer
from t5x_style.training.loss import TrainingLoss

IGNORED = -100  # in the labels of transformers: no loss


def t5(inputs, weights):
  """Returns the batch of a T5, with loss on the decoder's tokens, and transformers' inputs."""
  tokens, decoder = inputs["tokens"], inputs["decoder"]
  targets = np.pad(decoder[:, 1:], ((0, 0), (0, 1)), constant_values=1)
  weights = weights[:, : targets.shape[1]]
  batch = {
    "encoder_input_tokens": tokens,
    "decoder_input_tokens": decoder,
    "decoder_target_tokens": targets,
    "decoder_loss_weights": weights,
  }
  given = {
    "input_ids": tokens,
    "attention_mask": inputs["mask"],
    "decoder_input_ids": decoder,
    "labels": np.where(weights > 0, targets, IGNORED),
  }
  return batch, given


def bert(inputs, weights):
  """Returns the batch of a BERT, at most five masked tokens a row and pairs, and its inputs."""
  tokens = inputs["tokens"]
  targets = (tokens + 7) % 90 + 2
  weights = weights * inputs["mask"] * (np.arange(13) % 3 == 1)
  pairs = np.array([1, 0])
  batch = {
    "encoder_input_tokens": tokens,
    "encoder_token_types": inputs["types"],
    "encoder_target_tokens": targets,
    "encoder_loss_weights": weights,
    "pair_labels": pairs,
  }
  given = {
    "input_ids": tokens,
    "attention_mask": inputs["mask"],
    "token_type_ids": inputs["types"],
    "labels": np.where(weights > 0, targets, IGNORED),
    "next_sentence_label": pairs,
  }
  return batch, given


def gpt2(inputs, weights):
  """Returns the batch of a GPT-2, and its inputs: transformers shifts the labels itself."""
  tokens = inputs["tokens"]
  weights = weights[:, 1:] * inputs["mask"][:, 1:]
  batch = {
    "decoder_input_tokens": tokens[:, :-1],
    "decoder_target_tokens": tokens[:, 1:],
    "decoder_loss_weights": weights,
  }
  labels = np.pad(np.where(weights > 0, tokens[:, 1:], IGNORED), ((0, 0), (1, 0)))
  return batch, {"input_ids": tokens, "attention_mask": inputs["mask"], "labels": labels}


@pytest.mark.parametrize(
  ("name", "task", "max_targets"),
  [
    pytest.param("t5", t5, None, marks=pytest.mark.slow),
    ("t5_1_1", t5, None),
    ("bert", bert, 5),
    ("gpt2", gpt2, None),
  ],
)
def test_loss_and_gradients_of_a_training_step(
  name, task, max_targets, pretrained, read_parameters, draw_inputs, as_tree
):
  model, path = pretrained(name)
  folder = model_folder.open_folder(path)
  there = folder.correspondence
  weights = np.ones((2, 13), np.float32)
  weights[0, 6:8] = 0
  batch, given = task(draw_inputs(there.config), weights)

  loss = TrainingLoss(Transformer(there.config), max_targets=max_targets)
  params = as_tree(read_parameters(folder))
  step = jax.jit(jax.value_and_grad(lambda p: loss(p, batch, loss.scales(batch))[0]))
  found, gradients = step(params)

  expected, wanted_gradients = torch_step(model, given)
  assert float(found) == pytest.approx(expected, rel=1e-5)
  for keys, parts in there.places.items():
    views = [rule.view(wanted_gradients[rule.tensor], there.sizes) for _, rule in parts]
    wanted = np.stack(views) if parts[0][0].index else views[0]
    got = gradients
    for key in keys:
      got = got[key]
    # Adding a number to all keys changes no softmax: what stands there is rounding.
    largest = max(np.abs(wanted).max(), 1e-3)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=5e-5 * largest, err_msg="/".join(keys))


def torch_step(model, given):
  """Returns the loss and {name: gradient} of every parameter of a model of transformers."""
  import torch

  model.zero_grad()
  loss = model(**{key: torch.tensor(x) for key, x in given.items()}).loss
  loss.backward()
  gradients = {
    key: x.grad.numpy() for key, x in model.state_dict(keep_vars=True).items() if x.grad is not None
  }
  return loss.item(), gradients
