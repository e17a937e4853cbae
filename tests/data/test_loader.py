"""The loader end to end: every objective resumes, two processes equal one, errors come at once."""

import pickle
import subprocess
import sys

import jax
import numpy as np
import pytest
import seqio
import tensorflow as tf

from t5x_style.data import loader
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.fill_in_middle import FillInMiddle
from t5x_style.data.objectives.masked_diffusion import MaskedDiffusion
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.mixture import Mixture
from t5x_style.data.objectives.next_sentence import NextSentence
from t5x_style.data.objectives.prefix_lm import PrefixLM
from t5x_style.data.objectives.sentence_order import SentenceOrder
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.objectives.text_infilling import TextInfilling
from t5x_style.data.objectives.ul2 import UL2, UL2Short
from t5x_style.data.tokenizers import token_text

OBJECTIVES = [
  ("decoder_only", CausalLM()),
  ("decoder_only", PrefixLM()),
  ("decoder_only", FillInMiddle()),
  ("decoder_only", SpanCorruption()),
  ("decoder_only", UL2()),
  ("decoder_only", Mixture([CausalLM(), PrefixLM()], [2, 1])),
  ("encoder_decoder", SpanCorruption()),
  ("encoder_decoder", PrefixLM()),
  ("encoder_decoder", UL2()),
  ("encoder_decoder", UL2Short()),
  ("encoder_decoder", TextInfilling(permute_sentences=True)),
  ("encoder_only", MaskedLM(cross_documents=False)),
  ("encoder_only", MaskedLM(whole_word=True)),
  ("encoder_only", MaskedDiffusion()),
  ("encoder_only", NextSentence()),
  ("encoder_only", SentenceOrder()),
]
# A mixture starts a pipeline for each of its parts: these take long on two cores.
SLOW = {
  "decoder_only-ul2",
  "encoder_decoder-ul2",
  "encoder_decoder-ul2_short",
  "decoder_only-mixture",
  # And these are much like others.
  "decoder_only-span_corruption",
  "decoder_only-fill_in_middle",
  "encoder_decoder-prefix_lm",
  "encoder_decoder-text_infilling",
  "encoder_only-masked_diffusion",
  "encoder_only-next_sentence",
  "encoder_only-sentence_order",
}
NAMES = [f"{architecture}-{objective.name}" for architecture, objective in OBJECTIVES]

CASES = [
  pytest.param(*case, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
  for case, name in zip(OBJECTIVES, NAMES, strict=True)
]
ARCHITECTURES = ["encoder_decoder", pytest.param("decoder_only", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def load(corpus, vocabulary):
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


def equal(a, b):
  return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("architecture, objective", CASES)
def test_batches_resume_and_evaluation(architecture, objective, load):
  data = load(architecture, objective)
  batches = data.train()
  for _ in range(3):
    batch = next(batches)
  assert {
    k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()
  } == data.feature_shapes
  for name, value in batch.items():
    if name.endswith("tokens"):
      assert value.dtype == np.int32 and value.min() >= 0 and value.max() < data.vocab_size
    if name.endswith("loss_weights"):
      assert np.isfinite(value).all() and (value > 0).any()
      targets = batch[name.replace("loss_weights", "target_tokens")]
      assert (targets[value > 0] > 0).all()
      if data.max_targets is not None:
        assert (value > 0).sum(axis=1).max() <= data.max_targets

  state = pickle.loads(pickle.dumps(batches.get_state()))
  after = [next(batches) for _ in range(4)]
  other = load(architecture, objective)
  restored = other.train()
  restored.set_state(state)
  assert all(equal(a, next(restored)) for a in after)

  evaluation = data.evaluation(2)
  assert all(equal(a, b) for a, b in zip(evaluation, other.evaluation(2), strict=True))
  assert evaluation[0].keys() == batch.keys()
  assert data.identity() == other.identity()
  assert not any("packing" in part for part in data.identity()["components"])


def test_seeds_change_order_and_noise(load):
  first, again, other = (
    next(load("encoder_decoder", SpanCorruption(), seed=seed).train()) for seed in (0, 0, 1)
  )
  assert equal(first, again) and not equal(first, other)


@pytest.mark.parametrize("streams", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_share_the_global_batch(streams, load):
  def run(index, count):
    return load("decoder_only", CausalLM(), 4, 0, index, count, streams=streams).train()

  one, two = run(0, 1), [run(0, 2), run(1, 2)]
  for _ in range(2):
    whole = next(one)
    halves = [next(process) for process in two]
    assert equal(whole, {k: np.concatenate([h[k] for h in halves]) for k in whole})
  # Continued by another number of processes, from what each of two saved.
  state = {k: v for process in two for k, v in process.get_state().items()}
  assert len(state) == streams
  whole = next(one)
  for count in (1, 4):
    parts = []
    for index in range(count):
      process = run(index, count)
      process.set_state(state)
      parts.append(next(process))
    assert equal(whole, {k: np.concatenate([part[k] for part in parts]) for k in whole})


def test_a_saved_position_needs_the_same_streams(load):
  state = load("decoder_only", CausalLM()).train().get_state()
  with pytest.raises(ValueError, match="DATA_STREAMS"):
    load("decoder_only", CausalLM(), streams=2).train().set_state(state)


def test_evaluation_covers_the_split_and_pads_with_weight_zero(load):
  data = load("decoder_only", CausalLM())
  batches = data.evaluation(None)
  tokens = np.concatenate([b["decoder_target_tokens"] for b in batches])
  weights = np.concatenate([b["decoder_loss_weights"] for b in batches])
  assert tokens.shape[0] % 4 == 0 and (weights[tokens == 0] == 0).all()
  assert (tokens == 1).sum() == 4  # every document ends once
  first = load("decoder_only", CausalLM(), 4, 0, 0, 2).evaluation(1)[0]
  second = load("decoder_only", CausalLM(), 4, 0, 1, 2).evaluation(1)[0]
  assert equal(batches[0], {k: np.concatenate([first[k], second[k]]) for k in first})


@pytest.mark.slow
def test_component_ids_follow_the_rates(load):
  data = load("encoder_decoder", UL2(rates=(0.5, 0.25, 0.25)), 32)
  assert data.component_names[:2] == ("R_3_15", "R_8_15")
  batches = data.train()
  ids = np.concatenate([next(batches)["decoder_component_ids"][:, 0] for _ in range(40)])
  shares = dict.fromkeys("RSX", 0.0)
  for i, name in enumerate(data.component_names):
    shares[name[0]] += (ids == i).mean()
  for name, rate in (("R", 0.5), ("S", 0.25), ("X", 0.25)):
    assert abs(shares[name] - rate) < 3.5 * np.sqrt(rate * (1 - rate) / len(ids))


def test_bits_per_byte_are_offered_where_they_mean_something(load, vocabulary):
  data = load("decoder_only", CausalLM())
  assert data.token_bytes.shape == (vocabulary.vocab_size,)
  assert data.token_bytes[token_text.ordinary_ids(vocabulary)].min() >= 1
  assert load("encoder_only", MaskedLM()).token_bytes is None
  assert load("decoder_only", Mixture([CausalLM(), PrefixLM()])).token_bytes is None


def test_decode_shows_everything(load, vocabulary):
  data = load("encoder_decoder", SpanCorruption())
  ids = [*vocabulary.encode("def f"), vocabulary.vocab_size - 1, 1, 0, 0]
  assert data.decode(ids) == "def f<extra_id_0></s>"


HOSTILE = [
  b"",
  b"x",
  b"\n" * 5000,
  b"\xff\xfe\xfd" * 100,
  bytes(range(256)) * 4,
  b"[MASK][MASK][CLS][SEP]" * 50,
  b"a" * 100_000,
  "\u0000\u200b\ufeff".encode(),
]


@pytest.mark.parametrize("architecture, objective", [c for c in CASES if "-ul2" not in c.id])
def test_hostile_text_never_ends_a_run(architecture, objective, load, new_corpus, tmp_path):
  corpus = new_corpus(tmp_path, HOSTILE, HOSTILE)
  batches = load(architecture, objective, corpus=corpus).train()
  for _ in range(5):
    batch = next(batches)
    for name, value in batch.items():
      if name.endswith("loss_weights"):
        assert np.isfinite(value).all() and value.sum() > 0


def test_a_corpus_without_an_example_is_an_error(load, new_corpus, tmp_path):
  corpus = new_corpus(tmp_path, [b"", b""], [b""])
  with pytest.raises(ValueError, match="gives no example: its 'train' split"):
    load("decoder_only", CausalLM(), corpus=corpus)


def test_an_empty_validation_split_is_an_error(load, new_corpus, tmp_path):
  corpus = new_corpus(tmp_path, [b"some text to train on"], [b""])
  data = load("decoder_only", CausalLM(), corpus=corpus)
  with pytest.raises(ValueError, match="'validation' of small_causal_lm has no example"):
    data.evaluation(1)


def test_start_up_errors(load):
  with pytest.raises(ValueError, match="BATCH_SIZE = 4 does not divide into 3 processes"):
    load("decoder_only", CausalLM(), 4, 0, 0, 3)
  with pytest.raises(ValueError, match=r"into 3 data streams \(DATA_STREAMS\)"):
    load("decoder_only", CausalLM(), streams=3)
  with pytest.raises(ValueError, match="OBJECTIVE is not set; include a file"):
    load("decoder_only", None)
  with pytest.raises(ValueError, match="feeds decoder_only models, but MODEL is encoder_only"):
    load("encoder_only", CausalLM())
  with pytest.raises(ValueError, match="has no 'inputs'"):
    load("encoder_decoder", SpanCorruption(), feature_lengths=None)


@pytest.fixture(scope="module")
def own_tasks(corpus, vocabulary):
  """Plain SeqIO tasks as a user writes them."""
  feature = seqio.Feature(vocabulary, add_eos=True)

  @seqio.map_over_dataset
  def halves(example):
    middle = tf.strings.length(example["text"]) // 2
    return {
      "inputs": tf.strings.substr(example["text"], 0, tf.minimum(middle, 30)),
      "targets": tf.strings.substr(example["text"], middle, 20),
    }

  for name in ("own_a", "own_b"):
    seqio.TaskRegistry.add(
      name,
      corpus.source(),
      output_features={"inputs": feature, "targets": feature},
      preprocessors=[
        halves,
        seqio.preprocessors.tokenize,
        seqio.preprocessors.append_eos_after_trim,
      ],
    )
  seqio.MixtureRegistry.add("own_mixture", [("own_a", 1), ("own_b", 3)])
  yield  # Tests of other modules may stand between two of this one's: it is set up again then.
  seqio.MixtureRegistry.remove("own_mixture")
  for name in ("own_a", "own_b"):
    seqio.TaskRegistry.remove(name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", ["own_a", pytest.param("own_mixture", marks=pytest.mark.slow)])
@pytest.mark.parametrize("pack", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_users_own_task(architecture, name, pack, own_tasks):
  def run():
    return loader.load(
      architecture,
      4,
      0,
      mixture_or_task_name=name,
      feature_lengths={"inputs": 48, "targets": 32},
      pack=pack,
      shuffle_buffer_size=16,
    )

  data = run()
  assert data.component_names == (("own_a", "own_b") if name == "own_mixture" else ())
  batches = data.train()
  batch = next(batches)
  assert {
    k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()
  } == data.feature_shapes
  assert ("decoder_segment_ids" in batch) == pack
  assert all(("packing" in part) == pack for part in data.identity()["components"])
  weights, targets = batch["decoder_loss_weights"], batch["decoder_target_tokens"]
  assert (targets[weights > 0] > 0).all() and weights.any(axis=1).all()
  if architecture == "decoder_only":
    assert weights.mean() < (targets > 0).mean() and batch["decoder_causal_attention"].any()
  state = batches.get_state()
  after = [next(batches) for _ in range(3)]
  restored = run().train()
  restored.set_state(state)
  assert all(equal(a, next(restored)) for a in after)
  assert len(data.evaluation(2)) >= 1


CHILD = """
import pickle, sys
from t5x_style.data import loader, vocabularies
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.corpora import TextFiles

pattern, state, out = sys.argv[1:]
data = loader.load(
  "encoder_decoder", 4, 0, corpus=TextFiles(pattern, validation_fraction=0.1),
  vocabulary=vocabularies.sentencepiece(), objective=SpanCorruption(),
  feature_lengths={"inputs": 64}, shuffle_buffer_size=32,
)
batches = data.train()
if state != "-":
  batches.set_state(pickle.load(open(state, "rb")))
first = [next(batches) for _ in range(3)]
saved = batches.get_state()
pickle.dump((first, saved, [next(batches) for _ in range(3)]), open(out, "wb"))
"""


@pytest.mark.slow
def test_a_new_process_goes_on_where_the_last_one_stopped(tmp_path):
  for i in range(30):
    (tmp_path / f"{i}.txt").write_text(f"This is the text of file {i}. " * 50)
  pattern = str(tmp_path / "*.txt")

  def run(state, out):
    command = [sys.executable, "-c", CHILD, pattern, state, str(out)]
    subprocess.run(command, check=True, timeout=300)
    return pickle.loads(out.read_bytes())

  _, state, after = run("-", tmp_path / "first.pickle")
  (tmp_path / "state.pickle").write_bytes(pickle.dumps(state))
  first, _, _ = run(str(tmp_path / "state.pickle"), tmp_path / "second.pickle")
  assert all(equal(a, b) for a, b in zip(after, first, strict=True))
