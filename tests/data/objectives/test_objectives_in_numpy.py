"""Every objective makes the same examples with NumPy as with TensorFlow, id by id."""

import dataclasses

import numpy as np
import pytest

from t5x_style.data import converters, noise, windows
from t5x_style.data.objectives.base import Objective
from t5x_style.data.objectives.classification import Classification
from t5x_style.data.objectives.fill_in_middle import FillInMiddle
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.next_sentence import NextSentence
from t5x_style.data.objectives.prefix_lm import PrefixLM
from t5x_style.data.objectives.sentence_order import SentenceOrder
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.objectives.text_infilling import TextInfilling
from t5x_style.data.objectives.text_to_text import TextToText
from t5x_style.data.objectives.ul2 import UL2, UL2Short
from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.tokenizers import token_ids
from t5x_style.data.tokenizers.base import codec_of
from tests import shipped

LENGTH = 96
SEED = np.array([5, 3])  # of a run, and an epoch
# A mixture has no examples of its own.
SINGLE = [one for one in shipped.objectives() if one.components is Objective.components]
ON_WINDOWS = [
  *(one() for one in SINGLE if not one.reads_documents),  # with their defaults, and
  PrefixLM(suffix_share=0.25, mode="[S]"),
  SpanCorruption(mean_span=1, mean_span_to=9, t5_mask=True, mode="[R]"),
  SpanCorruption(noise_density=0.5, span_lengths="normal"),
  SpanCorruption(noise_density=0.3, span_lengths="uniform"),
  TextInfilling(mean_span=1.5, permute_sentences=True),
  FillInMiddle(spm_share=0.3),
  MaskedLM(mask_rate=0.3, whole_word=True),
  *(part for _, part, _ in (*UL2().components(), *UL2Short().components())),
]
ON_DOCUMENTS = [NextSentence(), SentenceOrder(mask_rate=0.3, whole_word=True), TextToText()]
ON_DOCUMENTS += [Classification(labels=("short", "long"))]


def cases(objectives):
  for objective in objectives:
    apart = [True, False] if objective.how_apart in ("segments", "examples") else [True]
    for architecture in objective.architectures:
      for cross in apart:
        one = dataclasses.replace(objective, cross_documents=cross)
        name = f"{objective.name}-{architecture}-{'joined' if cross else 'apart'}"
        yield pytest.param(one, architecture, id=name)


@pytest.fixture(scope="module")
def texts(vocabulary):
  """Tokens of texts with words, sentences, markup, other scripts and bytes, of 2 to 900 tokens."""
  text = "".join(
    f"Sentence {i}: he's said (x_{i})… «Тест». 中文。 naïve 👩‍💻 [MASK]!\n" for i in range(40)
  )
  codec = codec_of(vocabulary)
  texts = [str(np.__doc__), text, "a", "", "One. Two. Three!", *map(str.__doc__.__mul__, range(9))]
  texts += [
    (numpy_function.__doc__ or "") for numpy_function in (np.where, np.pad, np.unique, np.sum)
  ]
  return [np.array(codec.encode(x), np.int32) for x in texts]


def raw_windows(objective, texts, length, eos_id):
  """Returns the windows of the texts, cut by plain NumPy."""
  if objective.windows_are_joined:
    stream = np.concatenate([[*document, eos_id] for document in texts if len(document)])
    parts = [stream[i : i + length] for i in range(0, len(stream), length)]
  else:
    parts = []
    for document in texts:
      if len(document) > 1:
        cuts = zip(*windows.cuts_of_document(len(document), length), strict=True)
        parts += [document[start:end] for start, end in cuts]
  parts = [part for part in parts if len(part) > 1]
  tokens = np.zeros((len(parts), length), np.int32)
  for row, part in zip(tokens, parts, strict=True):
    row[: len(part)] = part
  salts = np.full(len(parts), noise.salt(SEED))
  lengths = np.array(list(map(len, parts)), np.int32)
  return {"tokens": tokens, "lengths": lengths, "seeds": noise.window_seeds(tokens, salts)}


def prepared(objective, architecture, vocabulary):
  """Returns its lengths, and the ids from which no TensorFlow is needed."""
  given = {"targets" if architecture == "decoder_only" else "inputs": LENGTH}
  if isinstance(objective, TextToText):
    given = {"inputs": LENGTH, "targets": 8}
  lengths, ids = objective.lengths(given, architecture), token_ids.of_codec(codec_of(vocabulary))
  objective.check(ids, lengths, architecture)
  return lengths, ids


def tensors(features):
  return {name: tf.constant(value) for name, value in features.items()}


def assert_same(found, wanted):
  assert found.keys() == wanted.keys()
  for name, value in found.items():
    other = np.asarray(wanted[name])
    assert (value.dtype, value.shape) == (other.dtype, other.shape), name
    np.testing.assert_array_equal(value, other, err_msg=name)


@pytest.mark.parametrize("objective, architecture", cases(ON_WINDOWS))
def test_windows(objective, architecture, vocabulary, texts):
  lengths, ids = prepared(objective, architecture, vocabulary)
  corrupt = objective.corrupt_window(ids, lengths, architecture)
  length = objective.window_length(lengths, architecture)
  window = raw_windows(objective, texts, length, ids.eos_id)
  assert len(window["tokens"]) > 30
  features = corrupt(window)
  assert_same(features, corrupt(tensors(window)))
  # One by one, too: examples do not depend on those beside them.
  alone = corrupt({name: value[3:4] for name, value in window.items()})
  assert_same(alone, {name: value[3:4] for name, value in features.items()})
  model = {k: v for k, v in features.items() if k not in ("hidden", "useful")}
  assert_same(
    converters.convert(model, architecture, lengths),
    converters.convert(tensors(model), architecture, lengths),
  )


@pytest.mark.slow
@pytest.mark.parametrize("objective, architecture", cases(ON_WINDOWS))
def test_windows_of_the_stream(objective, architecture, vocabulary, texts, examples):
  lengths, ids = prepared(objective, architecture, vocabulary)
  window = raw_windows(objective, texts, objective.window_length(lengths, architecture), ids.eos_id)
  features = dict(objective.corrupt_window(ids, lengths, architecture)(window))
  useful = features.pop("useful", np.ones(len(window["tokens"]), bool))
  features.pop("hidden", None)
  wanted = examples(objective, architecture, lengths, docs=texts, seed=SEED[0], epoch=SEED[1])
  assert_same({name: value[useful] for name, value in features.items()}, wanted)


def documents_with_others(texts):
  """Returns texts of four tokens or more, each with the one before; the first has none."""
  usable = [document for document in texts if len(document) >= 4]
  others = [np.zeros(0, np.int32), *usable[:-1]]
  return [
    {
      "targets": document,
      "noise_seed": SEED,
      "other_targets": other,
      "target": b"long" if len(document) > 50 else b"short",
      "target_tokens": document[: len(document) % 11],
    }
    for document, other in zip(usable, others, strict=True)
  ]


@pytest.mark.parametrize("objective, architecture", cases(ON_DOCUMENTS))
def test_documents(objective, architecture, vocabulary, texts):
  lengths, ids = prepared(objective, architecture, vocabulary)
  make = objective.examples_of_document(ids, lengths, architecture)
  assert objective.reads_documents
  for document in documents_with_others(texts):
    found = make(document)
    assert_same(found, make(tensors(document)))
    if isinstance(objective, NextSentence | SentenceOrder):
      expected = objective.examples_in(np.array([len(document["targets"])]), lengths)
      assert [len(found["inputs"])] == expected.tolist()


def test_all_objectives_are_compared():
  compared = {one.name for one in (*ON_WINDOWS, *ON_DOCUMENTS)}
  assert compared == {one.name for one in SINGLE}, "add the new one to ON_DOCUMENTS"
