"""The loader: every objective gives batches that resume, and mistakes are errors at the start."""

import json
import pickle

import numpy as np
import pytest

from t5x_style.data import corpora, loader
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
from t5x_style.errors import UserError
from tests.data import batch_checks

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


def marks(objective, name):
  """Returns pytest's marks; masking of whole words is much like masking of tokens."""
  return [pytest.mark.slow] if name in SLOW or getattr(objective, "whole_word", False) else []


CASES = [
  pytest.param(*case, id=name, marks=marks(case[1], name))
  for case, name in zip(OBJECTIVES, NAMES, strict=True)
]


@pytest.mark.parametrize("architecture, objective", CASES)
def test_batches_resume_and_evaluation(architecture, objective, load):
  data = batch_checks.check_resume_and_evaluation(
    lambda: load(architecture, objective), lambda state: pickle.loads(pickle.dumps(state))
  )
  assert not any("packing" in part for part in data.identity()["components"])


def test_seeds_change_order_and_noise(load):
  first, again, other = (
    next(load("encoder_decoder", SpanCorruption(), seed=seed).train()) for seed in (0, 0, 1)
  )
  np.testing.assert_equal(first, again)
  assert not np.array_equal(first["encoder_input_tokens"], other["encoder_input_tokens"])


def test_evaluation_covers_the_split_and_pads_with_weight_zero(load):
  data = load("decoder_only", CausalLM())
  batches = data.evaluation(None)
  tokens = np.concatenate([b["decoder_target_tokens"] for b in batches])
  weights = np.concatenate([b["decoder_loss_weights"] for b in batches])
  assert tokens.shape[0] % 4 == 0 and (weights[tokens == 0] == 0).all()
  assert (tokens == 1).sum() == 4  # every document ends once
  first = load("decoder_only", CausalLM(), 4, 0, 0, 2).evaluation(1)[0]
  second = load("decoder_only", CausalLM(), 4, 0, 1, 2).evaluation(1)[0]
  np.testing.assert_equal(batches[0], {k: np.concatenate([first[k], second[k]]) for k in first})


def test_the_description_names_the_corpus_and_the_objectives(load):
  single = load("decoder_only", CausalLM())
  name = single.identity()["corpus"]["name"]
  assert single.description == f"{name}, causal_lm"
  mixture = load("decoder_only", Mixture([CausalLM(), PrefixLM(), CausalLM()], [1, 1, 1]))
  assert mixture.description == f"{name}, causal_lm, prefix_lm"


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


def test_a_changed_corpus_is_noticed_when_a_position_is_saved(vocabulary, tmp_path):
  """If JSON lines change that were copied, a run warns; if the copy does, it ends."""
  lines = "".join(json.dumps({"text": f"{i} " * 300}) + "\n" for i in range(40))
  (tmp_path / "a.jsonl").write_text(lines)
  data = loader.load(
    "decoder_only",
    4,
    0,
    corpus=corpora.Jsonl(f"{tmp_path}/a.jsonl", cache_dir=str(tmp_path / "cache"), copy=True),
    vocabulary=vocabulary,
    objective=CausalLM(),
    feature_lengths={"targets": 64},
  )
  assert {name: size for name, (size, _) in data.files().items()} == {"a.jsonl": len(lines)}
  batches = data.train()
  next(batches)
  batches.get_state()
  (tmp_path / "a.jsonl").write_text(lines[:1000])
  with pytest.warns(UserWarning, match="a.jsonl has changed .* it has 1,000 bytes"):
    batches.get_state()
  records = next((tmp_path / "cache").glob("*/train-00001*"))
  records.write_bytes(records.read_bytes() * 2)
  with pytest.raises(UserError, match="train-00001-of-00016.tfrecord has changed since the run"):
    batches.get_state()
