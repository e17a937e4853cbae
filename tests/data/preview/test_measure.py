"""The preview's figures, on text and on masks whose figures are known."""

import io
import json

import numpy as np
import pytest
import sentencepiece
import seqio

from t5x_style.data import loader
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.fill_in_middle import FillInMiddle
from t5x_style.data.objectives.masked_diffusion import MaskedDiffusion
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.mixture import Mixture
from t5x_style.data.objectives.prefix_lm import PrefixLM
from t5x_style.data.objectives.sentence_order import SentenceOrder
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.objectives.text_infilling import TextInfilling
from t5x_style.data.preview import measure
from t5x_style.data.tokenizers import special_tokens, vocabularies

KEYS = {
  "objective",
  "input_tokens",
  "target_tokens",
  "signal_density",
  "corruption_rate",
  "mean_span_length",
  "packing_density",
  "examples",
  "tokens_per_second",
}


@pytest.fixture
def look(corpus, vocabulary):
  def run(objective, architecture="encoder_decoder", lengths=None, **kwargs):
    lengths = lengths or {"inputs": 128}
    dataset = loader.load(
      architecture,
      8,
      0,
      corpus=corpus,
      vocabulary=vocabulary,
      objective=objective,
      feature_lengths=lengths,
      shuffle_buffer_size=8,
    )
    return dataset, measure.preview(dataset, rows=256, seconds=20, **kwargs)

  return run


def test_span_corruption(look):
  _, shown = look(SpanCorruption(), lengths={"inputs": 512})
  values = shown.values()
  # Section 3.1.4 of the T5 paper: 568 tokens of text come with 512 and 114.
  assert (values["raw_tokens"], values["input_tokens"], values["target_tokens"]) == (568, 512, 114)
  assert values["signal_density"] == pytest.approx(114 / 568)
  assert values["corruption_rate"] == pytest.approx(85 / 568)
  assert values["mean_span_length"] == pytest.approx(85 / 28)
  assert values["packing_density"] == 1
  assert sum(values["span_lengths"].values()) == pytest.approx(1)
  assert values["tokens_per_second"] > 1000


def test_masked_lm_predicts_fifteen_percent(look, vocabulary):
  _, shown = look(MaskedLM(), "encoder_only", examples=16)
  values = shown.values()
  assert values["signal_density"] == pytest.approx(0.15, abs=0.005)
  assert values["corruption_rate"] == values["signal_density"]
  assert values["mean_span_length"] < 1.5
  kinds = [kind for e in shown.examples for kind in e.inputs.kinds]
  chosen = sum(w > 0 for e in shown.examples for w in e.inputs.weights)
  assert kinds.count("masked") / chosen == pytest.approx(0.8, abs=0.08)
  assert kinds.count("randomised") / chosen == pytest.approx(0.1, abs=0.06)
  for example in shown.examples:
    hidden = [k == "hidden" for k in example.raw.kinds]
    assert hidden == [w > 0 for w in example.inputs.weights[1:-1]]


def test_examples_are_the_first_rows_of_training(look):
  dataset, shown = look(SpanCorruption(), examples=3)
  batch = next(dataset.train())
  for row, example in enumerate(shown.examples):
    assert example.features.keys() == batch.keys()
    for name, value in batch.items():
      np.testing.assert_array_equal(example.features[name], value[row])


def test_inputs_and_targets_make_the_raw_text_again(look, vocabulary):
  _, shown = look(SpanCorruption(), examples=4)
  for example in shown.json()["examples"]:
    sentinels = set(special_tokens.sentinel_ids(vocabulary).tolist())
    spans, current = {}, None
    for token in example["targets"][:-1]:
      if token in sentinels:
        current = spans.setdefault(token, [])
      else:
        current.append(token)
    whole = [t for token in example["inputs"][:-1] for t in spans.get(token, [token])]
    assert whole == example["raw"]
    assert example["loss_weights"] == [1.0] * len(example["targets"])


def test_a_mixture_counts_its_parts_at_their_rates(look):
  parts = [SpanCorruption(), PrefixLM()]
  _, shown = look(Mixture(objectives=parts, rates=[3, 1]))
  first, second = sorted(shown.components, key=lambda part: -part.rate)
  assert (first.name, second.name) == ("span_corruption", "prefix_lm")
  assert (first.rate, second.rate) == (0.75, 0.25)
  for key in ("raw_tokens", "target_tokens", "input_tokens"):
    parts = 0.75 * first.values()[key] + 0.25 * second.values()[key]
    assert shown.values()[key] == pytest.approx(parts)
  means = [shown.values()[key] for key in ("target_tokens", "raw_tokens")]
  assert shown.values()["signal_density"] == pytest.approx(means[0] / means[1])
  value = json.loads(json.dumps(shown.json()))
  assert value.keys() >= KEYS
  assert {part["objective"] for part in value["components"]} == {"span_corruption", "prefix_lm"}
  assert all(part.keys() >= KEYS for part in value["components"])
  assert len(value["examples"]) == 4


@pytest.mark.parametrize(
  ("objective", "architecture", "lengths", "rate"),
  [
    (CausalLM(), "decoder_only", {"targets": 64}, 0.0),
    pytest.param(PrefixLM(), "decoder_only", {"targets": 64}, 0.5, marks=pytest.mark.slow),
    pytest.param(SpanCorruption(), "decoder_only", {"targets": 64}, 0.15, marks=pytest.mark.slow),
    (FillInMiddle(), "decoder_only", {"targets": 64}, None),
    pytest.param(TextInfilling(), "encoder_decoder", {"inputs": 64}, 0.3, marks=pytest.mark.slow),
    (TextInfilling(permute_sentences=True), "encoder_decoder", {"inputs": 64}, 0.3),
    (MaskedDiffusion(), "encoder_only", {"inputs": 64}, 0.5),
    (SentenceOrder(), "encoder_only", {"inputs": 64}, None),
  ],
)
def test_every_kind_of_objective(look, objective, architecture, lengths, rate):
  _, shown = look(objective, architecture, lengths)
  values = shown.values()
  assert 0 < values["target_tokens"] <= 64 + 2
  assert 0.3 < values["packing_density"] <= 1
  assert values["corruption_rate"] == pytest.approx(rate, abs=0.06) if rate is not None else True
  for example in shown.examples:
    assert len(example.inputs.ids) == len(example.inputs.kinds) == len(example.inputs.weights)
    assert any(w > 0 for w in example.targets.weights)
  if architecture == "decoder_only":
    assert shown.examples[0].inputs.ids[0] == 0  # shifted right
    assert shown.examples[0].inputs.ids[1:] == shown.examples[0].targets.ids[:-1]


def test_a_task_of_the_users_own(vocabulary, corpus):
  feature = seqio.Feature(vocabulary)

  def halves(dataset):
    return dataset.map(lambda e: {"inputs": e["targets"][:20], "targets": e["targets"][20:50]})

  seqio.TaskRegistry.add(
    "preview_own",
    source=corpus.source(),
    preprocessors=[
      lambda d: d.map(lambda e: {"targets": e["text"]}),
      seqio.preprocessors.tokenize,
      halves,
      seqio.preprocessors.append_eos,
    ],
    output_features={"inputs": feature, "targets": feature},
  )
  dataset = loader.load(
    "encoder_decoder",
    4,
    0,
    mixture_or_task_name="preview_own",
    feature_lengths={"inputs": 64, "targets": 64},
    shuffle_buffer_size=8,
  )
  shown = measure.preview(dataset, rows=32, seconds=20)
  assert shown.name == "preview_own"
  assert shown.examples[0].raw is None
  assert shown.json()["examples"][0]["raw"] is None
  assert "skipped" not in shown.values()
  assert 0.5 < shown.values()["packing_density"] < 1  # rows of two or three examples


def test_span_lengths():
  mask = np.array([[1, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1], [1] * 6, [0] * 6], bool)
  assert measure.span_lengths(mask).tolist() == [0, 2, 1, 0, 0, 0, 1]
  assert measure.span_lengths(np.zeros((2, 5), bool)).sum() == 0


def test_unknown_tokens_are_counted_in_the_rows(new_corpus, tmp_path):
  """Each document has one character that the vocabulary lacks."""
  content, text = io.BytesIO(), "some ordinary words of this small corpus"
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([text] * 99),
    model_writer=content,
    hard_vocab_limit=False,
    minloglevel=2,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    vocab_size=40,
  )
  (tmp_path / "english.model").write_bytes(content.getvalue())
  english = vocabularies.sentencepiece(str(tmp_path / "english.model"))
  document = f"{text} \u044f"
  tokens = len(english.encode(document)) + 1  # EOS
  folder = tmp_path / "texts"
  folder.mkdir()
  dataset = loader.load(
    *("decoder_only", 4, 0),
    corpus=new_corpus(folder, [document.encode()] * 40, [document.encode()]),
    vocabulary=english,
    objective=CausalLM(),
    feature_lengths={"targets": tokens},  # a document a row
    shuffle_buffer_size=1,
  )
  values = measure.preview(dataset, rows=16).values()
  assert values["unknown_tokens"] == pytest.approx(1 / tokens)
  assert values["unknown_text"] == pytest.approx(1 / len(document))
  assert values["dropped_text"] == 0
