"""Texts of corpora and tasks: how many, and which."""

import pytest
import seqio
import tensorflow as tf

from t5x_style.data import corpora, text_samples


def test_texts_of_a_source_stop_at_the_limit(tmp_path):
  for i in range(20):
    (tmp_path / f"{i}.txt").write_bytes(b"x" * 99 + b"\xff")
  source = corpora.TextFiles(f"{tmp_path}/*.txt", validation_fraction=0).source()
  texts = list(text_samples.of_source(source, "train", 500))
  assert texts == ["x" * 99 + "\ufffd"] * 5


def test_texts_of_a_task_are_those_before_its_tokenizer(tmp_path):
  (tmp_path / "pairs.tsv").write_text("one\tuno\ntwo\tdos\n")
  feature = seqio.Feature(seqio.ByteVocabulary())

  def split(dataset):
    def columns(line):
      parts = tf.strings.split(line, "\t")
      return {"inputs": parts[0], "targets": parts[1], "note": parts[0]}

    return dataset.map(columns)

  def make(name, preprocessors):
    return seqio.Task(
      name,
      source=seqio.TextLineDataSource({"train": str(tmp_path / "pairs.tsv")}),
      preprocessors=preprocessors,
      output_features={"inputs": feature, "targets": feature},
    )

  task = make("pairs_for_a_vocabulary", [split, seqio.preprocessors.tokenize])
  texts = list(text_samples.of_task(task, "train", 10**6))
  assert sorted(texts) == ["dos", "one", "two", "uno"]
  with pytest.raises(ValueError, match="raw_pairs has no step seqio.preprocessors.tokenize"):
    list(text_samples.of_task(make("raw_pairs", [split]), "train", 10**6))


def test_first_texts_of_tasks():
  """They are taken before they become tokens; a task without a tokeniser has none."""

  def register(name, *steps):
    def documents(split, shuffle_files, seed=None):
      return tf.data.Dataset.from_tensor_slices({"targets": ["some words"] * 50})

    return seqio.TaskRegistry.add(
      name,
      source=seqio.FunctionDataSource(documents, splits=("train",)),
      preprocessors=list(steps),
      output_features={"targets": seqio.Feature(seqio.ByteVocabulary(), add_eos=True)},
    )

  task = register("unknown_text_own", seqio.preprocessors.tokenize)
  assert text_samples.first_of_tasks([task]) == ["some words"] * 50
  assert text_samples.first_of_tasks([task, register("unknown_text_ids")]) is None
