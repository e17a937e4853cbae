"""What the tests of the data share: the vocabulary, documents of random tokens, a small corpus."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import seqio
import tensorflow as tf

from t5x_style.data import iterator, loader, map_options
from t5x_style.data.tokenizers import token_ids, token_text, vocabularies


@pytest.fixture(scope="session")
def vocabulary():
  return vocabularies.sentencepiece()


@pytest.fixture(scope="session")
def ordinary(vocabulary):
  """Returns the ids that stand for text."""
  return token_text.ordinary_ids(vocabulary)


@pytest.fixture(scope="session")
def documents(ordinary):
  """About 120,000 tokens in documents of 1 to 6,000."""
  random = np.random.default_rng(0)
  return [random.choice(ordinary, size) for size in random.integers(1, 6000, size=40)]


@pytest.fixture(scope="session")
def examples(vocabulary, documents):
  """Runs an objective over token documents: {feature: array [examples, ...]}."""
  shared = tf.ragged.constant(documents, tf.int32)

  @map_options.as_written
  def run(
    objective, architecture, feature_lengths, docs=documents, seed=0, epoch=0, keep_counts=False
  ):
    lengths = objective.lengths(feature_lengths, architecture)
    objective.check(token_ids.of(vocabulary), lengths, architecture)
    tokens = shared if docs is documents else tf.ragged.constant(docs, tf.int32)
    dataset = tf.data.Dataset.from_tensor_slices(tokens).map(
      lambda tokens: {"targets": tokens, "noise_seed": tf.constant([seed, epoch], tf.int64)}
    )
    rows = objective.preprocessor(vocabulary, lengths, architecture)(dataset)
    rows = list(iterator.with_options(rows.batch(512)).as_numpy_iterator())
    names = [name for name in rows[0] if keep_counts or name != "counts"] if rows else []
    return {name: np.concatenate([some[name] for some in rows]) for name in names}

  return run


@pytest.fixture(scope="session")
def cut(vocabulary, documents):
  """Returns the raw windows, computed without TensorFlow; the last one is shorter."""

  def run(length, docs=documents):
    joined = [[*doc, vocabulary.eos_id] for doc in docs if len(doc)]
    stream = np.concatenate(joined)
    return [stream[i : i + length] for i in range(0, len(stream), length)]

  return run


@dataclasses.dataclass(frozen=True)
class SmallCorpus:
  """Text files of one document a record, like the corpora of the package."""

  folder: str
  name: str = "small"

  def source(self):
    patterns = {split: f"{self.folder}/{split}-*" for split in ("train", "validation")}
    return seqio.TFExampleDataSource(patterns, {"text": tf.io.FixedLenFeature([], tf.string)})

  def fingerprint(self):
    return "1"


def write_corpus(folder: Path, train: list[bytes], validation: list[bytes], shards: int = 2):
  for split, texts in (("train", train), ("validation", validation)):
    for shard in range(shards):
      with tf.io.TFRecordWriter(str(folder / f"{split}-{shard}")) as writer:
        for text in texts[shard::shards]:
          value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))
          record = tf.train.Example(features=tf.train.Features(feature={"text": value}))
          writer.write(record.SerializeToString())
  return SmallCorpus(str(folder))


@pytest.fixture(scope="session")
def new_corpus():
  return write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
  """Forty documents of this Python's own text, four of them for validation."""
  files = sorted(Path(dataclasses.__file__).parent.glob("*.py"))[:40]
  texts = [file.read_bytes()[:8000] for file in files]
  return write_corpus(tmp_path_factory.mktemp("corpus"), texts[4:], texts[:4])


@pytest.fixture(scope="session")
def load(corpus, vocabulary):
  """Opens the data of a run: an objective on the small corpus, in rows of 64 tokens."""

  def run(architecture, objective, batch_size=4, seed=0, *process, **kwargs):
    settings = {
      "corpus": corpus,
      "vocabulary": vocabulary,
      "objective": objective,
      "feature_lengths": {"inputs": 64},
      "shuffle_buffer_size": 32,
    }
    return loader.load(architecture, batch_size, seed, *process, **{**settings, **kwargs})

  return run
