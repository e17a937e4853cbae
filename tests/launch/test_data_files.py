"""The gin files of data/: each kind of text is chosen in gin alone, down to batches."""

import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from launch import tokenizer
from launch.configuration import gin_files, reader
from launch.process.errors import ConfigurationError
from t5x_style.data import corpora, loader

LENGTHS = 'TASK_FEATURE_LENGTHS = {"inputs": 32}'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("T5X_STYLE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def texts(tmp_path):
  for i in range(30):
    (tmp_path / f"{i}.txt").write_text(f"file {i}\n" * 40)
  lines = (json.dumps({"body": f"document {i} " * 30}) for i in range(100))
  (tmp_path / "a.jsonl").write_text("\n".join(lines))
  table = pyarrow.table({"body": [f"document {i} " * 30 for i in range(100)]})
  parquet.write_table(table, tmp_path / "a.parquet")
  return tmp_path


def read(name, *bindings):
  files = ["data/loading.gin", f"data/{name}.gin", "objectives/span_corruption.gin"]
  return reader.read(files, [LENGTHS, "SHUFFLE_BUFFER_SIZE = 1", *bindings])


def corpus_of(config):
  return tokenizer._corpus(config)


@pytest.mark.parametrize(
  ("name", "bindings"),
  [
    ("text_files", ["CORPUS_FILES = '{}/*.txt'"]),
    ("text_files", ["CORPUS_FILES = '{}/*.txt'", "CORPUS_DOCUMENTS = 'line'"]),
    ("text_files", ["CORPUS_FILES = '{}/*.txt'", "VALIDATION_FILES = '{}/1*.txt'"]),
    ("jsonl", ["CORPUS_FILES = '{}/*.jsonl'", "JSON_FIELD = 'body'", "VALIDATION_FRACTION = 0.2"]),
    ("records", ["CORPUS_FILES = '{}/*.parquet'", "TEXT_FIELD = 'body'"]),
    ("python_stdlib", []),
  ],
)
def test_from_gin_to_batches(texts, name, bindings):
  config = read(name, *(binding.format(texts) for binding in bindings))
  dataset = config.configured(loader.load)("encoder_decoder", 2, 0)
  batch = next(dataset.train())
  assert batch["encoder_input_tokens"].shape == (2, 32)
  assert dataset.evaluation(1)
  assert dataset.vocab_size == 8320
  assert dataset.identity()["corpus"]["fingerprint"] == corpus_of(config).fingerprint()


def test_every_macro_arrives(texts):
  lengths = ("MIN_CHARACTERS = 3", "MAX_CHARACTERS = 9")
  corpus = corpus_of(
    read(
      "jsonl",
      "CORPUS_FILES = ['a', 'b']",
      "JSON_FIELD = 'body'",
      "VALIDATION_FILES = 'c'",
      "VALIDATION_FRACTION = 0.5",
      "TARGET_FIELD = 'label'",
      "CORPUS_COPY = True",
      *lengths,
    )
  )
  chosen = {"min_characters": 3, "max_characters": 9}
  assert corpus == corpora.Jsonl(
    ["a", "b"], "body", "c", 0.5, target_field="label", copy=True, **chosen
  )
  given = ("CORPUS_FILES = 'a'", "TEXT_FIELD = 'b'", "TARGET_FIELD = 'c'", *lengths)
  corpus = corpus_of(read("records", *given, "VALIDATION_FILES = 'd'", "VALIDATION_FRACTION = 0.5"))
  assert corpus == corpora.Records("a", "b", "c", 3, 9, "d", 0.5)
  corpus = corpus_of(read("text_files", "CORPUS_FILES = 'a'", *lengths))
  assert corpus == corpora.TextFiles("a", **chosen)
  names = ("NAME = 'x:1.0.0'", "FIELD = 'y'", "TRAIN_SPLIT = 'a'", "VALIDATION_SPLIT = None")
  corpus = corpus_of(read("tfds", f"TFDS_{names[0]}", f"TFDS_{names[1]}", *names[2:]))
  assert corpus == corpora.Tfds("x:1.0.0", None, "y", "a", None)


def test_c4_is_named_as_in_t5x():
  files = ["data/loading.gin", "data/c4.gin"]
  overrides = {"t5x_style.data.corpora.Tfds.data_dir": "/datasets"}
  config = reader.read(files, overrides=overrides)
  assert corpus_of(config) == corpora.Tfds("c4/en:3.0.1", "/datasets")
  assert config.macro("VOCABULARY_FILE").startswith("gs://t5-data/vocabs/cc_all.32000")
  assert config.macro("EXTRA_IDS") == 100


@pytest.mark.parametrize(
  ("name", "macro"),
  [
    ("text_files", "CORPUS_FILES"),
    ("jsonl", "CORPUS_FILES"),
    ("records", "CORPUS_FILES"),
    ("tfds", "TFDS_NAME"),
  ],
)
def test_what_has_to_be_set_is_asked_for(name, macro):
  with pytest.raises(ConfigurationError, match=f"{macro} is not set.*--gin.{macro}"):
    read(name)


def test_the_first_line_says_how_to_use_the_file():
  for path in Path(gin_files.SHIPPED, "data").glob("*.gin"):
    assert path.read_text().startswith("# "), path
