"""Datasets of TFDS: splits and versions, C4 by its gin file, and what is refused."""

import os

import pytest

from launch.configuration import reader
from launch.configuration.data_parameters import TFDS_DATA_DIR
from t5x_style.data import corpora, loader
from t5x_style.errors import UserError


def test_c4_from_its_gin_file_to_batches(write_tfds, tmp_path):
  write_tfds(tmp_path)
  files = ["data/loading.gin", "data/c4.gin", "objectives/span_corruption.gin"]
  config = reader.read(
    files,
    # The vocabulary that the file names is in a cloud bucket.
    ["TASK_FEATURE_LENGTHS = {'inputs': 16}", "VOCABULARY_FILE = 'python_stdlib.model'"],
    overrides={TFDS_DATA_DIR: str(tmp_path)},
  )
  dataset = config.configured(loader.load)("encoder_decoder", 2, 0)
  assert dataset.identity()["corpus"]["name"] == "c4_en:3.0.1"
  assert dataset.vocab_size == 8192 + 100
  text = dataset.decode(next(dataset.train())["decoder_target_tokens"][0])
  assert text.startswith("<extra_id_0>") and text.endswith("</s>")
  assert dataset.evaluation(2)


def test_parts_of_a_tfds_split(read_documents, write_tfds, tmp_path):
  write_tfds(tmp_path, "body", name="mine", train=100)
  corpus = corpora.Tfds("mine/en", str(tmp_path), "body", "train[10%:]", "train[:10%]")
  source = corpus.source()  # the version is looked up
  train, validation = (read_documents(source, split) for split in ("train", "validation"))
  assert (len(train), len(validation)) == (90, 10)
  assert not set(train) & set(validation)
  without_validation = corpora.Tfds("mine/en:3.0.1", str(tmp_path), "body", validation_split=None)
  assert set(without_validation.source().splits) == {"train"}
  assert without_validation.fingerprint() != corpus.fingerprint()


def test_a_dataset_that_changes_while_a_run_reads_it(write_tfds, tmp_path):
  write_tfds(tmp_path)
  source = corpora.Tfds("c4/en:3.0.1", str(tmp_path), train_split="train[10%:]").source()
  source.record_files.check_all()
  (train,) = tmp_path.glob("c4/en/*/*train*")
  os.utime(train)
  source.record_files.check_all()  # The size is the same; TensorFlow checks every record it reads.
  os.truncate(train, 500)
  with pytest.raises(UserError, match="train.* has changed since the run started: it has 500 byte"):
    source.record_files.check_all()


def test_mistakes_with_tfds(write_tfds, tmp_path):
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
