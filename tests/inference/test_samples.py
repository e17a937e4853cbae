"""The samples at the end of a run: probabilities are recomputed from whole rows."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.inference.samples import sample
from t5x_style.models import Transformer, TransformerConfig

SPECIAL_IDS = (0, 1, 0)
SIZES = {"vocab_size": 32, "emb_dim": 16, "num_heads": 1, "head_dim": 16, "mlp_dim": 16}
LAYERS = {
  "decoder_only": {"num_decoder_layers": 1},
  "encoder_decoder": {"num_encoder_layers": 1, "num_decoder_layers": 1},
  "encoder_only": {"num_encoder_layers": 1},
}
SENTINELS = (31, 30, 29)


NAMES = {token: f"<extra_id_{k}>" for k, token in enumerate(SENTINELS)}


def to_text(ids):
  """Writes ids as numbers, with sentinels: "5 <extra_id_0> 7"."""
  return " ".join(NAMES.get(int(i), str(i)) for i in ids if i)


def to_ids(text):
  """Reads what `to_text` writes."""
  names = {name: token for token, name in NAMES.items()}
  return [names.get(word) or int(word) for word in text.split()]


def build(architecture, **changes):
  """Returns a model and its parameters, which draw some tokens more often than others."""
  model = Transformer(TransformerConfig(**{**SIZES, **LAYERS[architecture], **changes}))
  sides = {"encoder_only": ["encoder"], "decoder_only": ["decoder"]}
  tokens = jnp.ones((1, 4), jnp.int32)
  names = [f"{side}_input_tokens" for side in sides.get(architecture, ["encoder", "decoder"])]
  return model, model.init(jax.random.key(0), dict.fromkeys(names, tokens))["params"]


def probabilities(model, params, row):
  """Returns float64 [L, V] of one row of features [L]."""
  batch = {name: jnp.asarray(value)[None] for name, value in row.items()}
  logits = model.apply({"params": params}, batch).logits(model.config.logit_soft_cap)[0]
  exps = np.exp(np.asarray(logits, np.float64))
  return exps / exps.sum(-1, keepdims=True)


def candidates(text):
  """Reads [(filling, probability)] of a sample."""
  line = next(line for line in text.splitlines() if line.startswith("model"))
  found = re.findall(r'"([^"]*)" ([\d.]+)%', line)
  return [(filling, float(percent) / 100) for filling, percent in found]


def decoder_batch(*targets):
  targets = np.array(targets, np.int32)
  read = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
  return {
    "decoder_input_tokens": read,
    "decoder_target_tokens": targets,
    "decoder_loss_weights": (targets > 0).astype(np.float32),
  }


@pytest.mark.slow
def test_candidates_of_a_hole_and_their_probabilities():
  model, params = build("encoder_decoder", logit_soft_cap=2.0, scale_logits=False)
  batch = decoder_batch([31, 7, 30, 8, 9, 29, 5, 1], [31, 4, 30, 6, 29, 9, 9, 1])
  inputs = np.array([[3, 31, 4, 5, 30, 6, 29, 7], [8, 31, 9, 30, 10, 29, 1, 0]], np.int32)
  texts = sample(model, params, batch | {"encoder_input_tokens": inputs}, to_text, SPECIAL_IDS)
  assert list(texts)[1:] == ["hole 1", "hole 2"]
  text = texts["hole 1"]
  assert text.splitlines()[:2] == ["3 [...] 4 5[?]6 [...] 7", 'truth   "8 9"']
  found = candidates(text)
  assert len(found) == 4
  assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
  for filling, probability in found:
    written = [*to_ids(filling), 29]
    row = {
      "encoder_input_tokens": inputs[0],
      "decoder_input_tokens": np.array([0, 31, 7, 30, *written[:-1]], np.int32),
    }
    each = probabilities(model, params, row)[range(3, 3 + len(written)), written]
    assert probability == pytest.approx(each.prod(), abs=5e-3)


@pytest.mark.slow
def test_a_text_continued_greedily_and_by_drawing():
  model, params = build("decoder_only", positions="rotary", embedding_init_std=0.2)
  row, other = [*range(3, 27)], [*range(26, 2, -1)]
  batch = decoder_batch(row, other)
  texts = list(sample(model, params, batch, to_text, SPECIAL_IDS).items())
  assert len(texts) == 8
  (title, given), (_, greedy), (_, drawn), (_, truth) = texts[:4]
  assert "[?]" in title
  assert (given, truth) == (to_text(row[:12]) + "[?]", to_text(row[12:]))
  read = [0, *row[:12]]
  for token in to_ids(greedy.removesuffix("..."))[:3]:
    each = probabilities(model, params, {"decoder_input_tokens": np.array(read)})[-1]
    assert token == 1 + each[1:].argmax()  # Padding is never written.
    read.append(token)
  assert len(to_ids(drawn.removesuffix("..."))) <= 12 and drawn != greedy


def test_candidates_of_a_mask_and_their_probabilities():
  model, params = build("encoder_only", positions="rotary", logit_soft_cap=2.0, scale_logits=False)
  batch = {
    "encoder_input_tokens": np.array([[3, 2, 5, 2, 7], [2, 4, 5, 6, 0], [3, 4, 5, 6, 7]]),
    "encoder_target_tokens": np.array([[3, 4, 5, 6, 7], [3, 4, 5, 6, 0], [3, 4, 5, 6, 7]]),
    "encoder_loss_weights": np.array([[0, 1, 0, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]),
  }
  texts = sample(model, params, batch, to_text, SPECIAL_IDS)
  assert list(texts)[1:] == ["token 1", "token 2"]  # The third row shows its token.
  assert texts["token 1"].splitlines()[:2] == ["3[?]5 2 7", 'truth   "4"']
  row = {"encoder_input_tokens": batch["encoder_input_tokens"][0]}
  expected = probabilities(model, params, row)[1]
  found = candidates(texts["token 1"])
  assert [to_ids(filling)[0] for filling, _ in found] == np.argsort(-expected)[:4].tolist()
  for filling, probability in found:
    assert probability == pytest.approx(expected[to_ids(filling)[0]], abs=5e-3)


def test_labels_of_pairs():
  model, params = build("encoder_only", num_token_types=2, pooled_classes=2)
  batch = {
    "encoder_input_tokens": np.array([[3, 2, 5]]),
    "encoder_target_tokens": np.array([[3, 4, 5]]),
    "encoder_loss_weights": np.array([[0, 1, 0]]),
    "encoder_token_types": np.array([[0, 0, 1]]),
    "pair_labels": np.array([1]),
  }
  text = sample(model, params, batch, to_text, SPECIAL_IDS)["token 1"]
  last = text.splitlines()[-1]
  assert re.fullmatch(r"pair    label 1; the model: [01] \d+%", last)


@pytest.mark.parametrize(
  "architecture",
  [
    "decoder_only",
    *(pytest.param(x, marks=pytest.mark.slow) for x in ("encoder_decoder", "encoder_only")),
  ],
)
def test_rows_as_long_as_the_learned_positions(architecture):
  """GPT-2's rows of 1,024 tokens leave no position for a continuation beyond them."""
  model, params = build(architecture, positions="learned", max_length=7)
  for length in (1, 2, 7):
    tokens = np.arange(3, 3 + length)[None]
    batch = decoder_batch(tokens[0]) | {
      "encoder_input_tokens": np.full_like(tokens, 2),
      "encoder_target_tokens": tokens,
      "encoder_loss_weights": np.ones_like(tokens, np.float32),
    }
    other = {"encoder_only": "decoder_", "decoder_only": "encoder_"}.get(architecture, "-")
    batch = {name: value for name, value in batch.items() if not name.startswith(other)}
    texts = sample(model, params, batch, to_text, SPECIAL_IDS)
    if architecture == "decoder_only" and length > 1:
      given, greedy, _, truth = texts.values()
      assert given == to_text(tokens[0, : length // 2]) + "[?]"
      assert truth == to_text(tokens[0, length // 2 :])
      assert len(greedy.removesuffix("...").split()) <= 7 - length // 2
    else:
      assert bool(texts) == (architecture == "encoder_only" or length > 1)
