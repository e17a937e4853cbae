"""Every kind of corpus: its documents, its splits, its shards, its iterators' checkpoints."""

import gzip
import json

import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from launch.configuration import reader
from t5x_style.data import corpora, iterator, loader
from t5x_style.data.corpora import python_stdlib
from t5x_style.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("T5X_STYLE_CACHE", str(tmp_path / "cache"))


def write_tfds(folder, field="text", name="c4", config="en", version="3.0.1", train=60):
  """A prepared dataset of C4's name and fields, written by TFDS."""
  names = ["content-length", "content-type", "timestamp", "url", field]
  features = tfds.features.FeaturesDict(
    {key: tfds.features.Text() for key in names} | {"number": tf.int64}
  )

  class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version(version)
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)]  # noqa: RUF012
    code_path = None  # where TFDS would look for checksums of downloads

    def _info(self):
      return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, _):
      return {"train": self._generate_examples(train), "validation": self._generate_examples(8)}

    def _generate_examples(self, count):
      for i in range(count):
        yield i, dict.fromkeys(names, f"document {count}:{i}") | {"number": i}

  Builder.name = name
  Builder(data_dir=folder, config=config).download_and_prepare()


def text_files(folder, count=30):
  folder.mkdir()
  for i in range(count):
    (folder / f"{i:02d}.txt").write_text(f"file {i}\n\n  line two of {i} \r\nline three of {i}")
  with gzip.open(folder / "packed.txt.gz", "wt") as file:
    file.write("from a gzip\nfile")
  return str(folder / "*.txt*")


def json_lines(folder, field="text", count=90):
  folder.mkdir()
  for part in range(3):
    opener = gzip.open if part == 2 else open
    with opener(folder / f"{part}.jsonl{'.gz' if part == 2 else ''}", "wt") as file:
      for i in range(part, count, 3):
        file.write(json.dumps({field: f"document\n{i} é", "id": i}) + "\n")
  return str(folder / "*.jsonl*")


def make(kind, tmp_path):
  if kind == "files":
    return corpora.TextFiles(text_files(tmp_path / "texts"))
  if kind == "lines":
    return corpora.TextFiles(text_files(tmp_path / "texts"), documents="line")
  if kind == "jsonl":
    return corpora.Jsonl(json_lines(tmp_path / "json"))
  if kind == "tfds":
    write_tfds(tmp_path / "tfds")
    return corpora.Tfds("c4/en:3.0.1", str(tmp_path / "tfds"))
  return corpora.PythonStdlib()


KINDS = ("python_stdlib", "files", "lines", "jsonl", "tfds")


def documents(source, split, **options):
  dataset = source.get_dataset(split, **{"shuffle": False, **options})
  assert dataset.element_spec["text"] == tf.TensorSpec([], tf.string)
  assert dataset.element_spec.keys() <= {"text", "document"}
  return [example["text"] for example in iterator.with_options(dataset).as_numpy_iterator()]


@pytest.mark.parametrize("kind", KINDS)
def test_splits_are_disjoint_finite_and_in_the_same_order(kind, tmp_path):
  corpus = make(kind, tmp_path)
  train, validation = (documents(corpus.source(), split) for split in ("train", "validation"))
  assert train and validation
  if kind != "python_stdlib":  # it has files that are copies of each other
    assert not set(train) & set(validation)
  assert documents(corpus.source(), "train") == train
  assert documents(corpus.source(), "validation") == validation
  assert set(corpus.source().splits) == {"train", "validation"}
  if hasattr(corpus, "document_count"):
    assert corpus.document_count("train") == len(train)
    assert corpus.document_count("validation") == len(validation)


@pytest.mark.parametrize("kind", KINDS)
def test_iterators_can_be_checkpointed(kind, tmp_path):
  source = make(kind, tmp_path).source()

  def new():
    # As the training task reads it: the epoch is known, and decides on the order.
    def epoch(number):
      files = isinstance(source, seqio.FileDataSource)
      return source.get_dataset("train", shuffle=files, seed=number)

    epochs = tf.data.Dataset.range(1000).flat_map(epoch)
    return iter(iterator.with_options(epochs.shuffle(8, 0)))

  first = new()
  for _ in range(31):
    next(first)
  path = tf.train.Checkpoint(iterator=first).save(str(tmp_path / "state"))
  expected = [next(first)["text"].numpy() for _ in range(80)]
  second = new()
  tf.train.Checkpoint(iterator=second).restore(path).assert_consumed()
  assert [next(second)["text"].numpy() for _ in range(80)] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_shards_cover_the_split_once(kind, tmp_path):
  source = make(kind, tmp_path).source()
  assert len(source.list_shards("train")) >= (1 if kind == "tfds" else 3)
  count = min(3, len(source.list_shards("train")))
  shards = [documents(source, "train", shard_info=seqio.ShardInfo(i, count)) for i in range(count)]
  assert sorted(text for shard in shards for text in shard) == sorted(documents(source, "train"))


@pytest.mark.parametrize("kind", ("python_stdlib", "files", "lines", "jsonl"))
def test_shuffled_it_is_the_same_documents_in_an_order_of_the_seed(kind, tmp_path):
  source = make(kind, tmp_path).source()
  plain = documents(source, "train")
  orders = [documents(source, "train", shuffle=True, seed=seed) for seed in (1, 1, 2)]
  assert orders[0] == orders[1] != orders[2]
  assert all(sorted(order) == sorted(plain) for order in orders)
  assert orders[0] != plain


@pytest.mark.parametrize("kind", KINDS)
def test_names_fit_seqio_and_fingerprints_stay(kind, tmp_path):
  corpus = make(kind, tmp_path)
  feature = seqio.Feature(seqio.ByteVocabulary())
  seqio.Task(f"{corpus.name}_x", corpus.source(), {"text": feature})
  assert corpus.fingerprint() == corpus.fingerprint()
  assert len(corpus.fingerprint()) == 64


def test_the_standard_library(tmp_path):
  source = corpora.PythonStdlib(cache_dir=str(tmp_path / "own")).source()
  assert (tmp_path / "own").is_dir() and not (tmp_path / "cache").exists()
  train, validation = (documents(source, split) for split in ("train", "validation"))
  everything = {*train, *validation}
  base = python_stdlib.folder()
  for path in ("dataclasses.py", "json/__init__.py", "email/architecture.rst", "turtle.py"):
    assert (base / path).read_bytes() in everything
  assert len(train) + len(validation) > 500
  assert sum(map(len, train)) > 10e6
  assert 0.02 < len(validation) / len(train) < 0.1
  for text in train + validation:
    assert text.decode("utf-8").strip()
  assert len(source.list_shards("train")) == 32


def test_a_file_of_the_standard_library_stays_in_its_split():
  """On every machine and Python: these were computed once."""
  held_out = [i for i in range(150) if python_stdlib.split_of(f"test/test_{i}.py") == "validation"]
  assert held_out == [0, 1, 4, 21, 79, 102, 105, 116, 124]


def test_a_standard_library_without_sources(tmp_path, monkeypatch):
  monkeypatch.setattr(python_stdlib, "folder", lambda: tmp_path)
  with pytest.raises(UserError, match="no source files in .*text_files.gin"):
    corpora.PythonStdlib().source()


def test_c4_from_its_gin_file_to_batches(tmp_path):
  write_tfds(tmp_path)
  files = ["data/loading.gin", "data/c4.gin", "objectives/span_corruption.gin"]
  config = reader.read(
    files,
    # Its own vocabulary lies in the cloud.
    ["TASK_FEATURE_LENGTHS = {'inputs': 16}", "VOCABULARY_FILE = 'python_stdlib.model'"],
    overrides={"t5x_style.data.corpora.Tfds.data_dir": str(tmp_path)},
  )
  dataset = config.configured(loader.load)("encoder_decoder", 2, 0)
  assert dataset.identity()["corpus"]["name"] == "c4_en:3.0.1"
  assert dataset.vocab_size == 8192 + 100
  text = dataset.decode(next(dataset.train())["decoder_target_tokens"][0])
  assert text.startswith("<extra_id_0>") and text.endswith("</s>")
  assert dataset.evaluation(2)


def test_parts_of_a_tfds_split(tmp_path):
  write_tfds(tmp_path, "body", name="mine", train=100)
  corpus = corpora.Tfds("mine/en", str(tmp_path), "body", "train[10%:]", "train[:10%]")
  source = corpus.source()  # the version is looked up
  train, validation = (documents(source, split) for split in ("train", "validation"))
  assert (len(train), len(validation)) == (90, 10)
  assert not set(train) & set(validation)
  alone = corpora.Tfds("mine/en:3.0.1", str(tmp_path), "body", validation_split=None)
  assert set(alone.source().splits) == {"train"}
  assert alone.fingerprint() != corpus.fingerprint()


def test_mistakes_with_tfds(tmp_path):
  write_tfds(tmp_path / "here")
  here = str(tmp_path / "here")

  def error(*arguments, **options):
    with pytest.raises(ValueError) as raised:
      corpora.Tfds(*arguments, **options).source()
    return str(raised.value)

  for name, folder in (("c4/en:2.0.0", here), ("no_such_data", here), ("imdb_reviews:1.0.0", here)):
    message = error(name, folder)
    assert f"TFDS_NAME = {name!r} is not in {here}" in message
    assert "Prepared there: c4/en:3.0.1." in message and "--tfds_data_dir" in message
  assert "No dataset is prepared there" in error("c4/en:3.0.1", str(tmp_path / "nowhere"))
  message = error("c4/en:3.0.1", here, field="txt")
  assert "TFDS_FIELD = 'txt'" in message and "'text'" in message and "'url'" in message
  assert "no text" in error("c4/en:3.0.1", here, field="number")
  message = error("c4/en:3.0.1", here, validation_split="test")
  assert "no split 'test'" in message and "'validation'" in message and "train[:1%]" in message
  assert "no split 'trian'" in error("c4/en:3.0.1", here, train_split="trian")
