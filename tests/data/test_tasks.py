"""Tasks: any text is tokenised, each epoch has other noise, the registry and its errors."""

import dataclasses

import numpy as np
import pytest
import seqio
import tensorflow as tf

from t5x_style.data import iterator, tasks
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.mixture import Mixture
from t5x_style.data.objectives.prefix_lm import PrefixLM
from t5x_style.data.objectives.span_corruption import SpanCorruption

LENGTHS = {"inputs": 64}


def take(dataset, n):
  return list(iterator.with_options(dataset.take(n)).as_numpy_iterator())


def same(a, b):
  return all((x[k] == y[k]).all() for x, y in zip(a, b, strict=True) for k in x)


@pytest.mark.parametrize(
  "text", [b"", b"\xff\xfe\x00\xc3(", b"a\x00b", b"x" * 200_000, "ü€𝄞".encode()]
)
def test_tokenize_takes_any_bytes(text, vocabulary):
  dataset = tf.data.Dataset.from_tensors({"text": text})
  ((document,),) = [list(tasks.tokenize(dataset, vocabulary).as_numpy_iterator())]
  assert document["targets"].dtype == np.int32
  assert bool(len(document["targets"])) == bool(text)
  assert (document["targets"] > 0).all()


def test_a_task_is_seqios(corpus, vocabulary):
  task = tasks.register(corpus, vocabulary, SpanCorruption(), "encoder_decoder")
  assert seqio.get_mixture_or_task("small_span_corruption") is task
  rows = take(task.get_dataset({"inputs": 64}, shuffle=False), 5)
  assert rows[0]["inputs"].shape == (64,)
  features = seqio.EncDecFeatureConverter(pack=False)(
    task.get_dataset({"inputs": 64, "targets": 20}, shuffle=False), {"inputs": 64, "targets": 20}
  )
  assert take(features, 1)[0]["encoder_input_tokens"].tolist() == rows[0]["inputs"].tolist()


def test_every_epoch_has_noise_of_its_own(corpus, vocabulary):
  task = tasks.register(corpus, vocabulary, SpanCorruption(), "encoder_decoder")
  once = take(task.get_dataset(LENGTHS, shuffle=False, seed=3, num_epochs=1), -1)
  again = take(task.get_dataset(LENGTHS, shuffle=False, seed=3, num_epochs=1), -1)
  other = take(task.get_dataset(LENGTHS, shuffle=False, seed=4, num_epochs=1), -1)
  assert same(once, again)
  assert not any((a["inputs"] == b["inputs"]).all() for a, b in zip(once, other, strict=True))
  # The stream runs on: the windows of the second epoch are cut at other places.
  twice = take(task.get_dataset(LENGTHS, shuffle=False, seed=3, num_epochs=2), -1)
  assert same(once[:-1], twice[: len(once) - 1])
  assert abs(len(twice) - 2 * len(once)) <= 1


def test_shuffling_keeps_the_documents_of_an_epoch(corpus, vocabulary):
  task = tasks.register(corpus, vocabulary, CausalLM(), "decoder_only")
  plain = take(task.get_dataset({"targets": 64}, shuffle=False), -1)
  mixed = take(task.get_dataset({"targets": 64}, shuffle=True, seed=5), -1)
  other = take(task.get_dataset({"targets": 64}, shuffle=True, seed=6), -1)
  assert len(plain) == len(mixed)
  tokens = [np.sort(np.concatenate([row["targets"] for row in rows])) for rows in (plain, mixed)]
  assert (tokens[0] == tokens[1]).all()
  assert not same(mixed[:3], other[:3])


def test_shards_partition_the_documents(corpus, vocabulary):
  task = tasks.register(corpus, vocabulary, CausalLM(), "decoder_only")
  whole = take(task.get_dataset({"targets": 64}, shuffle=False), -1)
  parts = [
    take(task.get_dataset({"targets": 64}, shuffle=False, shard_info=seqio.ShardInfo(i, 3)), -1)
    for i in range(3)
  ]
  ends = [sum((row["targets"] == 1).sum() for row in rows) for rows in (whole, *parts)]
  assert ends[0] == sum(ends[1:]) == 36 and min(ends) > 0


def test_mixtures_are_registered_with_their_parts(corpus, vocabulary):
  objective = Mixture([SpanCorruption(), PrefixLM()], [3, 1])
  mixture = tasks.register(corpus, vocabulary, objective, "encoder_decoder")
  assert isinstance(mixture, seqio.Mixture)
  rates = {task.name: rate for task, rate in tasks.parts(mixture)}
  assert rates == {"small_mixture_span_corruption": 3, "small_mixture_prefix_lm": 1}


def test_lookup_names_what_there_is():
  seqio.TaskRegistry.add(
    "test_lookup_task",
    seqio.FunctionDataSource(lambda split, shuffle_files, seed=None: None, splits=["train"]),
    output_features={"targets": seqio.Feature(seqio.PassThroughVocabulary(10))},
    preprocessors=[],
  )
  with pytest.raises(ValueError, match="'test_lookup_tsak' is not registered.*: test_lookup_task"):
    tasks.lookup("test_lookup_tsak")
  with pytest.raises(ValueError, match="MIXTURE_OR_TASK_MODULE = 'no.such.module'"):
    tasks.lookup("test_lookup_task", "no.such.module")
  task = tasks.lookup("test_lookup_task", "t5x_style.data.objectives.causal_lm")
  assert task.name == "test_lookup_task"
  with pytest.raises(ValueError, match="no length for the feature 'targets'"):
    tasks.lengths(task, "decoder_only", {})
  with pytest.raises(ValueError, match="need 'inputs' and 'targets'"):
    tasks.lengths(task, "encoder_decoder", {"targets": 8})


def test_a_users_task_is_not_replaced(corpus, vocabulary):
  theirs = dataclasses.replace(corpus, name="theirs")
  seqio.TaskRegistry.add(
    "theirs_causal_lm",
    corpus.source(),
    output_features={"targets": seqio.Feature(vocabulary)},
    preprocessors=[],
  )
  with pytest.raises(ValueError, match="'theirs_causal_lm' is registered already"):
    tasks.register(theirs, vocabulary, CausalLM(), "decoder_only")
