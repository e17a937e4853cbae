"""Mistakes in the settings of a run on token caches are errors at its start."""

import dataclasses

import numpy as np
import pytest

from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.data import loader
from t5x_style.data.corpora import Mixture, PythonStdlib, TokenCache
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.mixture import Mixture as Objectives
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.tokenizers import vocabularies
from t5x_style.errors import UserError


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"objective": None}, "OBJECTIVE is not set"),
    ({"objective": MaskedLM()}, "OBJECTIVE 'masked_lm' feeds encoder_only"),
    ({"feature_lengths": {"targets": 1}}, "TASK_FEATURE_LENGTHS"),
    ({"batch_size": 5, "process_count": 2}, "BATCH_SIZE = 5 does not divide into 2 processes"),
    ({"corpus": TokenCache("/nowhere")}, "/nowhere"),
    ({"replay_corpus": PythonStdlib()}, "python_stdlib, which is no token cache"),
  ],
)
def test_mistakes(corpus, changes, message):
  settings = {"architecture": "decoder_only", "batch_size": 4, "seed": 0, "corpus": corpus}
  settings |= {"objective": CausalLM(), "feature_lengths": {"targets": 64}}
  with pytest.raises(UserError, match=message):
    loader.load(**settings | changes)


def test_another_vocabulary_is_refused(load):
  other = vocabularies.byte_vocabulary()
  with pytest.raises(UserError, match="VOCABULARY .bytes. is not the vocabulary"):
    load("decoder_only", CausalLM(), vocabulary=other)


def test_caches_of_different_vocabularies_are_refused(load, cached):
  other = cached([np.arange(10, 90)], codec=ByteCodec(125))
  folder, manifest = other.opened.folder, other.opened.manifest
  identity = {"name": "bytes", "vocab_size": 384}
  vocabulary = {**manifest.vocabulary, "identity": identity}
  dataclasses.replace(manifest, vocabulary=vocabulary).write(folder)
  with pytest.raises(UserError, match="VOCABULARY .bytes. is not the vocabulary"):
    load("decoder_only", CausalLM(), replay_corpus=TokenCache(str(folder)))


def test_documents_that_are_too_short_for_an_example(load, cached):
  with pytest.raises(UserError, match="span_corruption gives no example"):
    load("encoder_decoder", SpanCorruption(cross_documents=False), corpus=cached([np.array([7])]))


def test_a_second_cache_is_replayed(load, cached, documents):
  data = load("decoder_only", CausalLM(), 20, replay_corpus=cached(documents[:9]), replay_share=0.1)
  assert data.component_names == ("new", "old")
  components = data.rows.features(np.arange(640))["decoder_component_ids"][:, 0]
  assert np.bincount(components).tolist() == pytest.approx([576, 64], abs=1)


def test_streams_and_the_shuffle_buffer_have_no_meaning(load):
  plain = next(load("decoder_only", CausalLM()).train())
  other = next(load("decoder_only", CausalLM(), streams=3, shuffle_buffer_size=1).train())
  np.testing.assert_equal(plain, other)


def test_a_mixture_of_caches_with_a_limit(load, cached, documents):
  """The small corpus may be read twice; then all rows come from the other one."""
  small, large = cached(documents[:4]), cached(documents[4:])
  mixture = Mixture({"small": small, "large": large}, {"small": 1, "large": 1}, epochs={"small": 2})
  data = load("decoder_only", CausalLM(), 16, corpus=mixture)
  assert data.component_names == ("large", "small")
  count = data.rows.components[1].examples.count
  rows = 16 * (-(-6 * count // 16))
  components = data.rows.features(np.arange(rows))["decoder_component_ids"][:, 0]
  assert (components == 1).sum() == 2 * count
  assert (components[5 * count :] == 0).all()
  batches = data.train()
  for _ in range(4):
    next(batches)
  assert batches.epochs()["small"] == pytest.approx(32 / count, rel=0.05)
  assert load("decoder_only", CausalLM()).train().epochs() == {}


@pytest.mark.parametrize(
  "objectives, most_twice",
  [
    ([CausalLM(), CausalLM()], 0.0),
    ([CausalLM(cross_documents=False)] * 3, 0.0),
    # Windows of 64 and of about 110 tokens: those at the edges of the spans may overlap.
    ([SpanCorruption(noise_density=0.15), SpanCorruption(noise_density=0.5)], 0.03),
  ],
)
@pytest.mark.parametrize("epochs", [pytest.param(1, marks=pytest.mark.slow), 1.5])
def test_objectives_share_the_epochs_of_a_corpus(load, corpus, objectives, most_twice, epochs):
  """Each token is read as often as the limit says, no matter by which objective."""
  seq2seq = isinstance(objectives[0], SpanCorruption)
  mixture = Mixture({"text": corpus}, epochs={"text": epochs})
  architecture = "encoder_decoder" if seq2seq else "decoder_only"
  data = load(architecture, Objectives(objectives), corpus=mixture)
  split, rows = corpus.opened.split("train"), sum(data.rows.schedule.most)
  read = np.zeros((split.joined_length,), int)
  components = set()
  for place in data.rows.places(np.arange(rows)):
    components.add(place.component)
    for member in data.rows.members(place):
      start = split.starts(np.array([member.document]))[0]
      read[start + member.start : start + member.end] += 1
  assert components == set(range(len(objectives)))
  text = np.concatenate(
    [split.starts(np.array([i]))[0] + np.arange(len(split.tokens(i))) for i in range(len(split))]
  )
  read = read[text]
  wrong = (read < np.floor(epochs)) | (read > np.ceil(epochs))
  assert wrong.mean() <= most_twice
  assert read.mean() == pytest.approx(epochs, abs=0.03)


def test_rates_of_tokens(load, cached, documents):
  """Rows of short documents hold less: they are drawn more often for half of the tokens."""
  short, long = cached([document[:20] for document in documents]), cached(documents)
  mixture = Mixture({"a_short": short, "b_long": long}, unit="tokens")
  objective = SpanCorruption(cross_documents=False)
  data = load("encoder_decoder", objective, corpus=mixture, pack=False)
  rows = data.rows.features(np.arange(2000))
  component = rows["decoder_component_ids"].max(axis=1)
  tokens = (rows["encoder_input_tokens"] > 0).sum(1) + (rows["decoder_target_tokens"] > 0).sum(1)
  assert (component == 0).sum() > 2 * (component == 1).sum()
  assert tokens[component == 0].sum() == pytest.approx(tokens[component == 1].sum(), rel=0.1)
