"""Filled holes: candidates and probabilities are what one run of the model on each text says."""

import json
import math

import numpy as np
import pytest

import t5x_style
from t5x_style.errors import UserError
from t5x_style.inference.choice import Choice
from tests.trained.random_models import favouring, log_probabilities, trained


def probability(logs, tokens):
  """The probability of tokens, the first of which the first row of `logs` predicts."""
  return math.exp(sum(logs[place, token] for place, token in enumerate(tokens)))


@pytest.fixture(scope="module")
def spans():
  """A T5 that often ends a span, with EOS or with the next sentinel."""
  model = trained("encoder_decoder", "span_corruption", head_bias=True)
  ends = {f"_{i}": 3.0 for i in (1, *model.codec.sentinel_ids[1:3].tolist())}
  return favouring(model, **ends)


@pytest.mark.parametrize(
  "choice",
  [
    None,
    pytest.param(Choice(), marks=pytest.mark.slow),
    pytest.param(Choice(temperature=1.0), marks=pytest.mark.slow),
  ],
)
def test_spans_have_the_probability_that_the_decoder_writes_and_ends_them(spans, choice):
  (filled,) = spans.fill("import [MASK] path", candidates=3, choice=choice, max_new_tokens=12)
  codec = spans.codec
  first, *others = codec.sentinel_ids.tolist()
  inputs = [*codec.encode("import"), first, *codec.encode(" path"), 1]
  (candidates,) = filled.holes
  assert len(candidates) == (1 if choice == Choice() else 3)
  for candidate in candidates:
    read = [0, first, *candidate.tokens]
    logs = log_probabilities(spans, encoder_input_tokens=inputs, decoder_input_tokens=read)[1:]
    ends = [[1], *([i] for i in others)]
    if len(candidate.tokens) == 12:
      ends = [[]]
    expected = [probability(logs, [*candidate.tokens, *end]) for end in ends]
    assert any(math.isclose(candidate.probability, p, rel_tol=1e-3) for p in expected)
  assert filled.text == f"import{candidates[0].text} path"
  if choice is None:
    found = [c.probability for c in candidates]
    assert found == sorted(found, reverse=True)


@pytest.mark.slow
def test_all_holes_are_filled_in_texts_of_different_lengths(spans):
  texts = [
    "a [MASK] b",
    "def f(<extra_id_0>):\n  return <mask> + " + "x " * 30,
    "[MASK][MASK][MASK]",
  ]
  found = spans.fill(texts, candidates=2, max_new_tokens=5, batch_size=2)
  for text, filled, count in zip(texts, found, (1, 2, 3), strict=True):
    assert len(filled.holes) == count and all(filled.holes)
    alone = spans.fill(text, candidates=2, max_new_tokens=5)[0]
    assert alone.text == filled.text
    for hole, same in zip(filled.holes, alone.holes, strict=True):
      assert [c.tokens for c in hole] == [c.tokens for c in same]
  assert found[0].text.startswith("a") and found[0].text.endswith(" b")


@pytest.mark.slow
def test_a_sentinel_that_the_decoder_leaves_out_is_given_to_it(spans):
  """What it writes into the second hole then follows what it wrote into the first one."""
  only_eos = favouring(spans, _1=30.0)
  codec = only_eos.codec
  s0, s1 = codec.sentinel_ids[:2].tolist()
  (filled,) = only_eos.fill("a [MASK] b [MASK] c", candidates=1, max_new_tokens=4)
  inputs = [*codec.encode("a"), s0, *codec.encode(" b"), s1, *codec.encode(" c"), 1]
  for hole, read in zip(filled.holes, ([0, s0], [0, s0, s1]), strict=True):
    logs = log_probabilities(only_eos, encoder_input_tokens=inputs, decoder_input_tokens=read)
    assert hole[0].tokens == () and hole[0].text == ""
    assert math.isclose(hole[0].probability, math.exp(logs[-1, 1]), rel_tol=1e-3)
  assert filled.text == "a b c"


@pytest.mark.slow
def test_holes_after_the_last_position_stay_empty():
  model = trained(
    "encoder_decoder", "span_corruption", positions="learned", max_length=12, head_bias=True
  )
  (filled,) = favouring(model, _5=30.0).fill("a [MASK] b [MASK]", candidates=1)
  assert len(filled.holes[0][0].tokens) == 11 and filled.holes[1] == ()


@pytest.mark.slow
def test_a_decoder_that_reads_both_ways_fills_spans():
  model = trained("decoder_only", {"objective": "span_corruption", "mode": "[R]"}, head_bias=True)
  first = int(model.codec.sentinel_ids[0])
  model = favouring(model, _1=2.0, **{f"_{first}": 4.0})
  (filled,) = model.fill("a [MASK] b", candidates=2, max_new_tokens=4)
  assert filled.holes[0] and filled.text.startswith("a") and filled.text.endswith(" b")


@pytest.mark.slow
def test_the_text_is_rewritten_around_holes():
  model = trained("encoder_decoder", "text_infilling", head_bias=True)
  model = favouring(model, _1=3.0)
  (filled,) = model.fill("import [MASK]", candidates=2, max_new_tokens=6)
  codec = model.codec
  inputs = [*codec.encode("import"), codec.special_id("[MASK]"), 1]
  best = filled.holes[0][0]
  logs = log_probabilities(
    model,
    encoder_input_tokens=inputs,
    decoder_input_tokens=[0, *codec.encode("import"), *best.tokens],
  )[len(codec.encode("import")) :]
  assert math.isclose(best.probability, probability(logs, [*best.tokens, 1]), rel_tol=1e-3)
  assert filled.text == f"import{best.text}"
  (other,) = model.fill("import [MASK] path", candidates=2, max_new_tokens=6)
  assert other.holes == ((),) and other.text.startswith("import")  # It wrote another text.


@pytest.mark.slow
def test_the_middle_is_what_comes_before_eos():
  model = favouring(trained("decoder_only", "fill_in_middle", head_bias=True), _1=3.0)
  (filled,) = model.fill("def f([MASK]):", candidates=3, max_new_tokens=5)
  codec = model.codec
  pre, suf, mid = (codec.special_id(x) for x in ("[PRE]", "[SUF]", "[MID]"))
  read = [0, pre, *codec.encode("def f("), suf, *codec.encode("):"), mid]
  for candidate in filled.holes[0]:
    logs = log_probabilities(model, decoder_input_tokens=[*read, *candidate.tokens])
    end = [] if len(candidate.tokens) == 5 else [1]
    expected = probability(logs[len(read) - 1 :], [*candidate.tokens, *end])
    assert math.isclose(candidate.probability, expected, rel_tol=1e-3)
  assert filled.text == f"def f({filled.holes[0][0].text}):"


@pytest.mark.slow
def test_masks_are_filled_step_by_step_by_masked_diffusion():
  model = trained("encoder_only", "masked_diffusion")
  (filled,) = model.fill("a [MASK] b [MASK]", steps=2)
  ids = [*model.codec.encode("a"), None, *model.codec.encode(" b"), None]
  written = [hole[0] for hole in filled.holes]
  assert filled.text == f"a{written[0].text} b{written[1].text}"
  # The surer one was written first, when the other one was a mask still.
  mask = model.codec.special_id("[MASK]")
  row = [mask if i is None else i for i in ids]
  logs = log_probabilities(model, encoder_input_tokens=row)
  places = [place for place, i in enumerate(row) if i == mask]
  first = max(
    range(2),
    key=lambda k: math.isclose(
      written[k].probability, math.exp(logs[places[k], written[k].tokens[0]]), rel_tol=1e-3
    ),
  )
  row[places[first]] = written[first].tokens[0]
  logs = log_probabilities(model, encoder_input_tokens=row)
  other = written[1 - first]
  expected = math.exp(logs[places[1 - first], other.tokens[0]])
  assert math.isclose(other.probability, expected, rel_tol=1e-3)


@pytest.mark.slow
def test_masks_have_the_probabilities_of_transformers(tmp_path):
  """A model of Hugging Face with random weights, saved in a folder, and its own tokenizer."""
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  tokenizer_files = pytest.importorskip("tests.tokenizer_files")
  tokenizer_files.wordpiece(tmp_path)
  settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
  (tmp_path / "tokenizer_config.json").write_text(
    json.dumps({**settings, "tokenizer_class": "BertTokenizerFast"})
  )
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_file=str(tmp_path / "tokenizer.json"), **settings
  )
  torch.manual_seed(0)
  sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
  config = transformers.BertConfig(
    vocab_size=len(tokenizer), intermediate_size=48, max_position_embeddings=32, **sizes
  )
  theirs = transformers.BertForMaskedLM(config).eval()
  for parameter in theirs.parameters():  # The initial ones are too small to tell tokens apart.
    parameter.data.normal_(0, 0.3)
  theirs.save_pretrained(tmp_path)
  model = t5x_style.load(f"hf:{tmp_path}")
  texts = ["the [MASK] fox jumps over [MASK] lazy dog!", "[MASK] f(x):"]
  for text, filled in zip(texts, model.fill(texts, candidates=4), strict=True):
    ids = tokenizer(text, return_tensors="pt", truncation=False)
    with torch.no_grad():
      logits = theirs(ids.input_ids).logits[0]
    shares = torch.softmax(logits.double(), -1)[ids.input_ids[0] == tokenizer.mask_token_id]
    assert len(filled.holes) == len(shares) == text.count("[MASK]")
    for hole, share in zip(filled.holes, shares, strict=True):
      values, likeliest = share.topk(4)
      assert [c.tokens for c in hole] == [(i,) for i in likeliest.tolist()]
      np.testing.assert_allclose([c.probability for c in hole], values.numpy(), rtol=2e-3)
      words = [tokenizer.decode([i]).replace("##", "") for i in likeliest.tolist()]
      assert [c.text.strip() for c in hole] == words


def test_mistakes(spans):
  masks = trained("encoder_only", "masked_lm")
  for call, message in (
    (lambda: spans.fill("no hole"), r"The text has no hole to fill: write \[MASK\]"),
    (lambda: spans.fill(["a [MASK]", "b"]), r"texts\[1\]: The text has no hole"),
    (lambda: spans.fill("a [MASK]", candidates=0), "candidates = 0 must be 1 or more"),
    (lambda: spans.fill("a [MASK]", mode="[R]"), "it has none"),
    (lambda: spans.fill("a [MASK]", steps=3), "steps = 3 is for models of masked diffusion"),
    (lambda: masks.fill("a [MASK]", choice=Choice(beams=2)), "one token, and returns the like"),
    (lambda: trained("decoder_only", "causal_lm").fill("a [MASK]"), "it cannot fill the holes"),
  ):
    with pytest.raises(UserError, match=message):
      call()
