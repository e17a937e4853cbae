"""TrainedModel.classify: a classifier is trained on two kinds of texts, loaded and used."""

import functools
import json

import numpy as np
import pytest
from etils import epath

import t5x_style
from t5x_style.data import loader
from t5x_style.data.corpora.jsonl import Jsonl
from t5x_style.data.objectives.classification import Classification
from t5x_style.data.tokenizers import vocabularies
from t5x_style.errors import UserError
from t5x_style.training import setup
from tests import tiny

ANIMALS, PLANTS = ("cat", "dog", "cow", "hen"), ("oak", "fir", "elm", "ivy")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
  """A MODEL_DIR, the last record of its validation, and the held-out texts with labels."""
  folder = tmp_path_factory.mktemp("classifier")
  lines = [
    {"text": f"{start} {word}", "label": label}
    for label, words in (("plant", PLANTS), ("animal", ANIMALS))
    for word in words
    for start in ("a", "the", "my", "his", "her", "one", "this", "that")
  ]
  texts = "\n".join(map(json.dumps, lines))
  for name in ("train", "held_out"):
    (folder / f"{name}.jsonl").write_text(texts)
  vocabulary = vocabularies.byte_vocabulary(21, ("[CLS]", "[SEP]", "[MASK]"))
  dataset = functools.partial(
    loader.load,
    corpus=Jsonl(
      f"{folder}/train.jsonl",
      target_field="label",
      validation_pattern=f"{folder}/held_out.jsonl",
      cache_dir=f"{folder}/cache",
    ),
    vocabulary=vocabulary,
    objective=Classification(),
    feature_lengths={"inputs": 16},
  )
  run = folder / "run"
  config = tiny.config(
    "encoder_only",
    run,
    dataset=dataset,
    model={"vocab_size": vocabulary.vocab_size, "pooled_classes": 2},
    train_steps=40,
    batch_size=16,
    eval_period=20,
    save_period=20,
    eval_batches=9,
    best_metric="accuracy",
  )
  prepared = setup.prepare(config)
  run.mkdir(exist_ok=True)
  prepared.dataset.store_vocabulary(epath.Path(run))
  tiny.train(config)
  return run, tiny.records(run, "validation"), lines


def test_labels_are_those_of_the_evaluation(classifier):
  run, records, lines = classifier
  model = t5x_style.load(run)
  found = model.classify([line["text"] for line in lines], batch_size=7)
  right = [x.label == line["label"] for x, line in zip(found, lines, strict=True)]
  assert np.mean(right) == records[-1]["accuracy"] > 0.9
  truth = [x.probabilities[line["label"]] for x, line in zip(found, lines, strict=True)]
  assert -np.log(truth).mean() == pytest.approx(records[-1]["loss"], rel=1e-3)
  for one in found[:3]:
    assert sum(one.probabilities.values()) == pytest.approx(1)
    assert one.probability == max(one.probabilities.values()) == one.probabilities[one.label]
    assert set(one.probabilities) == {"animal", "plant"}


def test_the_best_checkpoint_has_a_name(classifier):
  run, records, _ = classifier
  best = max(records, key=lambda x: (x["accuracy"], x["step"]))
  assert t5x_style.load(run / "best").step == best["step"]


def test_long_texts_are_cut_as_in_training(classifier):
  model = t5x_style.load(classifier[0])
  text = "one oak and a tree"
  with pytest.warns(UserWarning, match="a text has 4 tokens more than the rows of 16"):
    long = model.classify(text)[0]
  assert long == model.classify(text[:14])[0]


def test_what_cannot_be_classified(classifier, finished_run):
  model = t5x_style.load(classifier[0])
  with pytest.raises(UserError, match=r"texts\[1\]: The text is empty: it has no label"):
    model.classify(["a", ""])
  with pytest.raises(UserError, match="trained with classification: it cannot fill the holes"):
    model.fill("a [MASK]")
  with pytest.raises(UserError, match="trained with masked_lm: it cannot tell which label"):
    t5x_style.load(finished_run("encoder_only")).classify("a")
