"""Examples of a token cache are those that the stream makes of the same text."""

import numpy as np
import pytest

from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.fill_in_middle import FillInMiddle
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.prefix_lm import PrefixLM
from t5x_style.data.objectives.sentence_order import SentenceOrder
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.objectives.text_infilling import TextInfilling

APART = [
  ("encoder_decoder", SpanCorruption(cross_documents=False)),
  ("decoder_only", PrefixLM(cross_documents=False)),
  ("decoder_only", FillInMiddle(cross_documents=False)),
  ("encoder_decoder", TextInfilling(cross_documents=False)),
]
JOINED = [
  ("encoder_decoder", SpanCorruption()),
  ("decoder_only", CausalLM()),
  ("encoder_only", MaskedLM(cross_documents=False)),
]


def rows_of(features):
  """Examples as sortable values; `features` are {name: [n, ...]}."""
  names = sorted(features)
  count = len(features[names[0]])
  return [tuple(features[name][i].tobytes() for name in names) for i in range(count)]


@pytest.mark.parametrize("architecture, objective", APART)
@pytest.mark.parametrize("epoch", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_windows_of_each_document(load, examples, architecture, objective, epoch):
  stream = examples(objective, architecture, {"inputs": 64}, seed=5, epoch=epoch)
  made = load(architecture, objective, seed=5, pack=False).rows.components[0].examples
  units = np.arange(made.count)
  ours = made.pieces.examples(units, np.full_like(units, epoch))
  assert ours.keys() >= stream.keys()
  assert rows_of({name: ours[name] for name in stream}) == rows_of(stream)


@pytest.mark.parametrize("architecture, objective", JOINED)
def test_joined_windows(load, corpus, examples, architecture, objective):
  """The stream reads the circle of documents from where it is cut in this epoch."""
  made = load(architecture, objective, seed=5).rows.components[0].examples
  units = np.arange(made.count)
  epochs = np.full_like(units, 2)
  starts, lengths = made.pieces.units.ranges(units, epochs)
  split = corpus.opened.split("train")
  text = np.roll(split.tokens_between(0, split.joined_length)[0], -starts[0])
  stream = examples(objective, architecture, {"inputs": 64}, docs=[text], seed=5, epoch=2)
  full = int((lengths == made.pieces.units.length).sum())
  ours = made.pieces.examples(units[:full], epochs[:full])
  names = stream.keys() - {"counts"}
  assert rows_of({name: ours[name] for name in names}) == rows_of(
    {name: stream[name][:full] for name in names}
  )


def test_pairs_of_short_documents(load, cached, examples, documents):
  """A document that is one chunk gives the pair of the stream."""
  short = [document[:60] for document in documents if len(document) > 60]
  corpus = cached(short)
  stream = examples(SentenceOrder(), "encoder_only", {"inputs": 64}, docs=short, seed=5)
  made = load("encoder_only", SentenceOrder(), seed=5, corpus=corpus).rows.components[0].examples
  units = np.arange(made.count)
  ours = made.pieces.examples(units, np.zeros_like(units))
  names = stream.keys() - {"counts"}
  assert rows_of({name: ours[name] for name in names}) == rows_of(
    {name: stream[name] for name in names}
  )


def test_members_are_the_documents_of_a_row(load, corpus):
  """The tokens of the members and an EOS after each document are the text of the row."""
  rows = load("decoder_only", CausalLM()).rows
  split = corpus.opened.split("train")
  for place in rows.places(np.arange(40)):
    made = rows.components[0].examples
    ((text, _),) = made.texts(place.unit, place.epoch)
    parts = []
    for member in rows.members(place):
      tokens = split.tokens(member.document)
      parts += tokens[member.start : member.end].tolist()
    assert parts == [token for token in text.tolist() if token != 1]
