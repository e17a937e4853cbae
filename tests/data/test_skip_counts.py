"""Skipped and repaired documents are counted, also when shuffled, mixed and resumed."""

import numpy as np
import pytest

from t5x_style.data import loader, skip_counts
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.mixture import Mixture
from t5x_style.data.objectives.next_sentence import NextSentence
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.tokenizers import special_tokens

LONG = b"def f(x):\n  return x + 1\n" * 40
# Of nine documents for training three hold no token and two are not UTF-8.
TEXTS = [LONG, b"", LONG, b"\xff\xfe caf\xe9 " + LONG, b"", LONG, LONG, b"", b"\xe9 " + LONG]


@pytest.fixture
def texts(tmp_path, new_corpus):
  return new_corpus(tmp_path, TEXTS, [LONG])


def load(texts, vocabulary, objective, architecture="encoder_decoder", **kwargs):
  return loader.load(
    architecture,
    4,
    0,
    corpus=texts,
    vocabulary=vocabulary,
    objective=objective,
    feature_lengths={"inputs": 64},
    shuffle_buffer_size=8,
    **kwargs,
  )


def test_counts_are_cumulative_and_exact(texts, vocabulary):
  dataset = load(texts, vocabulary, SpanCorruption())
  batches = dataset.pipeline.batches("train", 1, 0, training=False)
  examples = dataset.pipeline.examples(0, "train", 0, training=False)
  counts = np.array([e["counts"] for e in examples.as_numpy_iterator()])
  # A window knows of the documents read when its last token was; the tail reads to the end, but
  # an empty document after the last one with text is in no window.
  newest = skip_counts.total(counts.max(axis=0))
  assert newest["repaired"] == 2
  assert newest["documents"] - newest["short"] == 6
  assert newest["windows"] == 0
  assert len(list(batches)) == len(counts)


@pytest.mark.parametrize("streams", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_training_reports_what_it_skipped(texts, vocabulary, streams):
  batches = load(texts, vocabulary, SpanCorruption(), streams=streams).train()
  assert "counts" not in next(batches)
  for _ in range(30):  # some epochs
    next(batches)
  text = batches.skipped()
  assert "with too little text were skipped" in text
  assert "were not UTF-8; their wrong bytes became U+FFFD" in text
  documents, short = (int(text.split()[i].replace(",", "")) for i in (1, 4))
  assert short == pytest.approx(documents / 3, rel=0.3)


def test_nothing_is_reported_of_clean_text(corpus, vocabulary):
  batches = load(corpus, vocabulary, SpanCorruption()).train()
  next(batches)
  assert batches.skipped() == ""


def test_components_of_a_mixture_are_added_up(texts, vocabulary):
  both = Mixture(objectives=[SpanCorruption(), SpanCorruption(mean_span=8.0)])
  batches = load(texts, vocabulary, both).train()
  for _ in range(30):
    next(batches)
  counts = batches._counts()[0]
  assert counts.shape == (2, len(skip_counts.KINDS))
  assert (counts[:, 1] > 0).all() and (counts[:, 2] > 0).all()
  total = skip_counts.total(counts)
  assert total["short"] == counts[:, 1].sum()
  assert f"{total['short']:,} with too little text" in batches.skipped()


def test_counts_resume_after_a_restart(texts, vocabulary):
  dataset = load(texts, vocabulary, SpanCorruption())
  whole = dataset.train()
  for _ in range(12):
    next(whole)
  state = whole.get_state()
  again = dataset.train()
  again.set_state(state)
  for _ in range(8):
    np.testing.assert_equal(next(again), next(whole))
  assert again.skipped() == whole.skipped() != ""


def test_documents_too_short_for_a_pair_are_counted(tmp_path, new_corpus, vocabulary):
  texts = new_corpus(tmp_path, [LONG, b"x", LONG[9:], b"y z", LONG, LONG[9:]], [LONG])
  batches = load(texts, vocabulary, NextSentence(), "encoder_only").train()
  for _ in range(20):
    next(batches)
  assert "with too little text were skipped" in batches.skipped()


def test_windows_with_nothing_to_predict_are_counted(examples, vocabulary):
  """Some windows have only special tokens."""
  empty = [np.array([special_tokens.special_id(vocabulary, "[SEP]")])] * 200 + [
    np.arange(300, 500)
  ] * 3
  rows = examples(MaskedLM(), "encoder_only", {"inputs": 10}, docs=empty, keep_counts=True)
  counts = rows["counts"]
  assert (rows["loss_weights"].sum(axis=1) > 0).all()
  assert (np.diff(counts, axis=0) >= 0).all()
  assert counts[-1, 3] == 400 // 8  # those of the first 200 documents: [SEP] and EOS


def test_counts_of_nothing():
  assert skip_counts.summary([]) == ""
  assert skip_counts.summary([np.array([5, 0, 0, 0])]) == ""
  assert (
    skip_counts.summary([np.array([[5, 1, 0, 0], [7, 0, 2, 3]])])
    == "of 12 documents read 1 with too little text were skipped, 2 were not UTF-8; their wrong "
    "bytes became U+FFFD; 3 windows with nothing to predict were skipped"
  )
