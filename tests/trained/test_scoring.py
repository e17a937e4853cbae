"""score against transformers on saved models, and against the definitions of the methods."""

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest

import t5x_style
from t5x_style.errors import UserError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

LLAMA = pytest.param("llama", marks=pytest.mark.slow)
TEXTS = ["The quick brown fox jumps over the lazy dog!", "a!", "naïve cafés and 🙂."]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
  """pair(family) returns (model of transformers, its tokenizer, the loaded model)."""
  from tests import huggingface_folders

  torch.set_num_threads(1)

  @functools.cache
  def make(family):
    folder = tmp_path_factory.mktemp(family)
    return *huggingface_folders.save(family, folder), t5x_style.load(f"hf:{folder}")

  return make


def log_softmax(model, **inputs):
  """Returns the log-probabilities of transformers for one row, float64 [L, V]."""
  with torch.no_grad():
    given = {name: torch.tensor([ids]) for name, ids in inputs.items()}
    logits = model(**given, return_dict=True)["logits"][0]
  return logits.double().log_softmax(-1).numpy()


def assert_scores(score, wanted, ids):
  assert score.ids.tolist() == list(ids)
  assert score.log_probabilities.dtype == np.float32
  np.testing.assert_allclose(score.log_probabilities, wanted, rtol=0, atol=1e-4)
  assert score.total == pytest.approx(sum(wanted), abs=1e-4 * len(wanted))


def of_row(model, row, first):
  """Returns what a decoder gives the ids of a row from `first` on."""
  table = log_softmax(model, input_ids=row[:-1])
  return [table[i - 1, row[i]] for i in range(first, len(row))]


@pytest.mark.parametrize("family", ["gpt2", LLAMA])
def test_causal_texts(pair, family):
  """GPT-2's tokenizer puts nothing in front: the first token is read after <|endoftext|>."""
  model, tokenizer, loaded = pair(family)
  for text, score in zip(TEXTS, loaded.score(TEXTS), strict=True):
    ids = tokenizer(text, add_special_tokens=False).input_ids
    row = [tokenizer.bos_token_id, *ids]
    assert family == "gpt2" or tokenizer(text).input_ids == row
    assert_scores(score, of_row(model, row, 1), ids)
    assert score.method.name == "causal"
    assert score.bits_per_byte == pytest.approx(
      -score.total / math.log(2) / len(text.encode()), rel=1e-6
    )
    assert "".join(score.tokens) == text or "🙂" in text


@pytest.mark.parametrize("family", ["gpt2", LLAMA])
def test_causal_targets_after_a_context(pair, family):
  model, tokenizer, loaded = pair(family)
  contexts, targets = ["The quick", "a"], [" brown fox!", "!"]
  scores = loaded.score(contexts, targets, with_eos=True)
  for context, target, score in zip(contexts, targets, scores, strict=True):
    whole = [*tokenizer(context + target).input_ids, tokenizer.eos_token_id]
    first = len(tokenizer(context).input_ids)
    assert_scores(score, of_row(model, whole, first), whole[first:])


def test_a_token_of_text_and_target_is_of_the_target(pair):
  """GPT-2's tokens hold the space before a word, wherever the texts are divided."""
  _, tokenizer, loaded = pair("gpt2")
  before, after = loaded.score(["The quick ", "The quick"], ["brown fox!", " brown fox!"])
  assert before.ids.tolist() == after.ids.tolist() == tokenizer(" brown fox!").input_ids
  np.testing.assert_array_equal(before.log_probabilities, after.log_probabilities)


def test_t5_targets(pair):
  model, tokenizer, loaded = pair("t5")
  texts, targets = ["The quick brown", ""], ["fox jumps", "over the dog"]
  for text, target, score in zip(texts, targets, loaded.score(texts, targets), strict=True):
    labels = tokenizer(target).input_ids
    table = log_softmax(model, input_ids=tokenizer(text).input_ids, labels=labels)
    wanted = [table[i, label] for i, label in enumerate(labels)]
    assert_scores(score, wanted[:-1], labels[:-1])
    (ended,) = loaded.score([text], [target], with_eos=True)
    assert_scores(ended, wanted, labels)
    assert score.method.name == "encoder_decoder"


@pytest.mark.slow
def test_bart_targets(pair):
  """BART's labels begin with <s>, which is read, not scored."""
  model, tokenizer, loaded = pair("bart")
  (score,) = loaded.score(["The quick brown"], ["fox jumps"])
  labels = tokenizer("fox jumps").input_ids
  table = log_softmax(model, input_ids=tokenizer("The quick brown").input_ids, labels=labels)
  wanted = [table[i, label] for i, label in enumerate(labels)]
  assert_scores(score, wanted[1:-1], labels[1:-1])


def test_t5_texts_alone(pair):
  """<extra_id_0> hides one token, or all; the decoder writes <extra_id_0> and what is hidden."""
  model, tokenizer, loaded = pair("t5")
  ids = tokenizer(TEXTS[1], add_special_tokens=False).input_ids
  hidden = tokenizer.convert_tokens_to_ids("<extra_id_0>")
  (score,) = loaded.score(TEXTS[1:2])
  wanted = [
    log_softmax(
      model,
      input_ids=[*ids[:i], hidden, *ids[i + 1 :], tokenizer.eos_token_id],
      decoder_input_ids=[0, hidden],
    )[1, ids[i]]
    for i in range(len(ids))
  ]
  assert_scores(score, wanted, ids)
  assert (score.method.name, score.bits_per_byte) == ("enc_dec_mask", None)
  (score,) = loaded.score(TEXTS[1:2], method="enc_dec_prefix")
  table = log_softmax(
    model,
    input_ids=[hidden, tokenizer.eos_token_id],
    decoder_input_ids=[0, hidden, *ids[:-1]],
  )
  assert_scores(score, [table[i + 1, ids[i]] for i in range(len(ids))], ids)


@pytest.mark.slow
def test_bart_texts_alone(pair):
  """<mask> hides; the decoder writes the whole text, and so has read what is before."""
  model, tokenizer, loaded = pair("bart")
  ids = tokenizer(TEXTS[1], add_special_tokens=False).input_ids
  bos, eos, mask = (tokenizer.convert_tokens_to_ids(x) for x in ("<s>", "</s>", "<mask>"))
  for method in ("enc_dec_mask", "enc_dec_prefix"):
    wanted = []
    for i in range(len(ids)):
      inside = [*ids[:i], mask, *ids[i + 1 :]] if method == "enc_dec_mask" else [mask]
      table = log_softmax(
        model, input_ids=[bos, *inside, eos], decoder_input_ids=[eos, bos, *ids[:i]]
      )
      wanted.append(table[-1, ids[i]])
    (score,) = loaded.score(TEXTS[1:2], method=method)
    assert_scores(score, wanted, ids)


@pytest.mark.parametrize("in_words", [pytest.param(False, marks=pytest.mark.slow), True])
def test_pseudo_log_likelihood(pair, in_words):
  """By hand; the words are those of transformers' tokenizer."""
  model, tokenizer, loaded = pair("bert")
  method = "pseudo_log_likelihood" + "_in_words" * in_words
  text = "naïve jumpsover, quickfox!"
  encoded = tokenizer(text)
  row, words = encoded.input_ids, encoded.word_ids()
  assert len(set(words)) < len(words) - 1  # Some words have several tokens.
  wanted = []
  for i in range(1, len(row) - 1):
    masked = [
      tokenizer.mask_token_id if j == i or (in_words and j > i and words[j] == words[i]) else x
      for j, x in enumerate(row)
    ]
    wanted.append(log_softmax(model, input_ids=masked)[i, row[i]])
  (score,) = loaded.score([text], method=method)
  assert_scores(score, wanted, row[1:-1])
  assert score.bits_per_byte is None
  assert "same model" in score.method.comparable


def test_mistakes(pair):
  _, _, gpt2 = pair("gpt2")
  _, _, bert = pair("bert")
  _, _, t5 = pair("t5")
  long = "The quick brown fox jumps over the lazy dog! " * 4
  for call, message in (
    (lambda: gpt2.score(["a", ""]), r"texts\[1\] = '' has no token"),
    (lambda: gpt2.score(["a", 3]), r"texts\[1\] is not a text but of the type int"),
    (lambda: gpt2.score(["a"], [""]), r"targets\[0\] = '' has no token"),
    (lambda: gpt2.score(["a"], ["b", "c"]), "1 texts and 2 targets"),
    (lambda: gpt2.score(["a", long]), r"texts\[1\] needs a row of \d+ tokens.*for 40"),
    (lambda: bert.score(["a"], ["b"]), "no probability of a target after a text"),
    (lambda: bert.score(["a"], with_eos=True), "pseudo_log_likelihood has no end"),
    (lambda: gpt2.score(["a"], method="pll"), "'pll' is unknown; the methods are causal,"),
    (lambda: gpt2.score(["a"], method="enc_dec_mask"), "does not fit: hf:.*scores.*by causal"),
    (lambda: t5.score(["a"], ["b"], method="enc_dec_mask"), "targets after texts by encoder_dec"),
    (lambda: bert.score(["a"], method="diffusion_bound"), "does not fit"),
    (lambda: gpt2.score(["a"], samples=0), "samples=0"),
  ):
    with pytest.raises(UserError, match=message):
      call()
  assert gpt2.score([]) == []
  (one,), (same,) = gpt2.score("The", " fox"), gpt2.score(["The"], [" fox"])
  assert one.total == same.total


def test_the_bound_of_masked_diffusion(pair):
  """It is the mean, over all orders of the tokens, of the log-likelihood in that order."""
  model, tokenizer, bert = pair("bert")
  objectives = ({"objective": "masked_diffusion", "rate": 1.0},)
  loaded = dataclasses.replace(bert, objectives=objectives, template=None)
  text = "fox dog!"
  ids = loaded.codec.encode(text)
  assert 3 <= len(ids) <= 5
  orders = list(itertools.permutations(range(len(ids))))
  found = np.zeros(len(ids))
  known = {}
  for order in orders:
    row = [tokenizer.mask_token_id] * len(ids)
    for i in order:
      if tuple(row) not in known:
        known[tuple(row)] = log_softmax(model, input_ids=row)
      found[i] += known[tuple(row)][i, ids[i]] / len(orders)
      row[i] = ids[i]
  (exact,) = loaded.score([text])
  assert_scores(exact, found, ids)
  assert (exact.method.name, exact.standard_error) == ("diffusion_bound", 0.0)
  (drawn,) = loaded.score([text], samples=6)
  assert 0 < drawn.standard_error
  assert abs(drawn.total - exact.total) < 5 * drawn.standard_error
