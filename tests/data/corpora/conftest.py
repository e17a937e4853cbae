"""What the tests of the corpora share: a folder for caches, files, the documents of a source."""

import gzip
import json
import random
import warnings

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from t5x_style.data import corpora, iterator
from t5x_style.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """The folder of the text caches."""
  monkeypatch.setenv("T5X_STYLE_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


@pytest.fixture
def write(tmp_path):
  """Writes files below tmp_path: {name: text or bytes}."""

  def write(files, folder=tmp_path):
    for name, text in files.items():
      path = folder / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder

  return write


@pytest.fixture
def many(tmp_path, write):
  """A folder of 200 text files in seven folders."""
  files = {f"{i % 7}/{i:03d}.txt": f"text {i}\nmore" for i in range(200)}
  return write(files, tmp_path / "many")


@pytest.fixture
def write_lines(tmp_path):
  """Writes a file of JSON lines (or of bytes as they are) and returns its path."""

  def write_lines(*lines, name="a.jsonl"):
    content = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    data = b"\n".join(content) + b"\n"
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(tmp_path / name)

  return write_lines


@pytest.fixture
def write_tfds():
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

  return write_tfds


@pytest.fixture
def read_documents():
  """Returns the documents of a split of a source, in the fixed order."""

  def read_documents(source, split="train", **options):
    dataset = source.get_dataset(split, **{"shuffle": False, **options})
    assert dataset.element_spec["text"] == tf.TensorSpec([], tf.string)
    assert dataset.element_spec.keys() <= {"text", "document"}
    return [example["text"] for example in iterator.arrays(dataset)]

  return read_documents


@pytest.fixture
def read_quietly(read_documents):
  """Returns the documents of text files; any warning is an error."""

  def read_quietly(pattern, kind="line", **options):
    options.setdefault("validation_fraction", 0)
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      return read_documents(corpora.TextFiles(str(pattern), kind, **options).source())

  return read_quietly


@pytest.fixture
def error_of(read_quietly):
  """Returns the message with which text files are refused."""

  def error_of(pattern, kind="line", **options):
    with pytest.raises(UserError) as raised:
      read_quietly(pattern, kind, **options)
    return str(raised.value)

  return error_of


def _packed(lines):
  return gzip.compress("".join(f"{line}\n" for line in lines).encode())


def _numbered(count, bits=400):
  draw = random.Random(0)
  return [f"line {i} {draw.getrandbits(bits):x}" for i in range(count)]


@pytest.fixture
def compressed():
  """Returns lines as gzip data."""
  return _packed


@pytest.fixture
def numbered():
  """Returns this many lines that do not compress well."""
  return _numbered
