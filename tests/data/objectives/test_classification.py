"""Classification: framed texts, numbered labels, and mistakes in them."""

import json

import numpy as np
import pytest

from t5x_style.data import corpora, loader
from t5x_style.data.objectives.classification import Classification
from t5x_style.data.tokenizers import special_tokens
from t5x_style.errors import UserError

COLOURS = [("red apples", "red"), ("the green grass", "green"), ("a very red and long text", "red")]


@pytest.fixture
def open_data(tmp_path, vocabulary, monkeypatch):
  """Opens the data of a run on (text, label) pairs."""
  monkeypatch.setenv("T5X_STYLE_CACHE", str(tmp_path / "cache"))

  def run(train, validation=None, objective=None, architecture="encoder_only", length=6):
    for name, pairs in (("train", train), ("validation", validation or train)):
      lines = [json.dumps({"text": text, "label": label}) for text, label in pairs]
      (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    corpus = corpora.Jsonl(
      f"{tmp_path}/train.jsonl",
      target_field="label",
      validation_pattern=f"{tmp_path}/validation.jsonl",
    )
    return loader.load(
      architecture,
      len(train),
      0,
      corpus=corpus,
      vocabulary=vocabulary,
      objective=objective or Classification(),
      feature_lengths={"inputs": length, "targets": length},
      shuffle_buffer_size=1,
    )

  return run


@pytest.mark.filterwarnings("ignore:.*are cut at the end")
def test_rows_hold_the_text_and_the_number_of_its_label(open_data, vocabulary):
  data = open_data(COLOURS)
  assert data.label_names == ("green", "red")
  assert data.identity()["components"][0]["labels"] == ["green", "red"]
  (batch,) = data.evaluation(2)
  cls, sep = (special_tokens.special_id(vocabulary, piece) for piece in ("[CLS]", "[SEP]"))
  rows = {}
  for text, label in COLOURS:
    tokens = [cls, *vocabulary.encode(text)[:4], sep]
    rows[tuple(tokens + [0] * (6 - len(tokens)))] = label
  found = {
    tuple(row): data.label_names[label]
    for row, label in zip(batch["encoder_input_tokens"].tolist(), batch["pair_labels"], strict=True)
  }
  assert found == rows
  assert batch["encoder_loss_weights"].tolist() == [[1, 0, 0, 0, 0, 0]] * 3


def test_labels_may_be_numbers_and_have_an_order(open_data):
  pairs = [("one", 1), ("zero", 0), ("ten", 10), ("yes", True)]
  assert open_data(pairs).label_names == ("0", "1", "10", "true")
  ordered = open_data(pairs[:3], objective=Classification(labels=("10", "1", "0")))
  assert ordered.label_names == ("10", "1", "0")
  (batch,) = ordered.evaluation(1)
  assert sorted(batch["pair_labels"]) == [0, 1, 2]


def test_texts_that_are_cut_are_reported(open_data):
  with pytest.warns(UserWarning, match="67% of the first 3 texts of the 'train' split have more"):
    open_data(COLOURS, length=6)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"train": [("a", "red"), ("b", "red")]}, "all texts have the label 'red'"),
    (
      {"train": COLOURS, "validation": [("a", "blue"), ("b", "red")]},
      "the 'validation' split has 1 texts with unknown labels: 'blue'; the 'train' split has",
    ),
    (
      {"train": COLOURS, "objective": Classification(labels=("red", "blue"))},
      "the 'train' split has 1 texts with unknown labels: 'green'; LABELS names 'red', 'blue'",
    ),
    ({"train": COLOURS, "objective": Classification(labels=("red", "red"))}, "names a label twice"),
    ({"train": [(f"{i}", f"{i}") for i in range(1200)]}, "more than 1,000 different labels"),
    (
      {"train": COLOURS, "architecture": "decoder_only"},
      "'classification' feeds encoder_only models, but MODEL is decoder_only",
    ),
  ],
)
def test_mistakes_in_labels_are_refused(arguments, message, open_data):
  with pytest.raises(UserError, match=message):
    open_data(**arguments)


def test_a_corpus_without_labels_is_refused(load):
  with pytest.raises(UserError, match="CORPUS 'small' says nothing: .* set TARGET_FIELD"):
    load("encoder_only", Classification())


def test_it_cannot_be_mixed(open_data):
  from t5x_style.data.objectives.masked_lm import MaskedLM
  from t5x_style.data.objectives.mixture import Mixture

  both = Mixture([Classification(labels=("green", "red")), MaskedLM()], rates=[1, 1])
  with pytest.raises(UserError, match="'classification' cannot be mixed"):
    open_data(COLOURS, objective=both)


def test_padded_rows_have_no_label(open_data):
  """The last batch of an evaluation is filled up with rows of zeros, which count nothing."""
  data = open_data(COLOURS, validation=COLOURS[:2], length=12)
  (batch,) = data.evaluation(1)
  assert np.asarray(batch["encoder_loss_weights"]).sum() == 2
