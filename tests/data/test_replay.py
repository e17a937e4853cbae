"""Continued pre-training: rows of two corpora, each with its own held-out batches."""

import json

import numpy as np
import pytest

from t5x_style.data import loader
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.mixture import Mixture
from t5x_style.data.objectives.prefix_lm import PrefixLM
from t5x_style.data.preview import measure
from t5x_style.data.tokenizers import vocabularies
from t5x_style.errors import UserError

BYTES = vocabularies.byte_vocabulary(0)


class Named:
  """A small corpus with a name and a fingerprint of its own."""

  def __init__(self, corpus, name):
    self.source, self.name = corpus.source, name

  def fingerprint(self):
    return f"text of {self.name}"


@pytest.fixture(scope="module")
def corpora(new_corpus, tmp_path_factory):
  """{name: corpus}: "letters" has only letters, "digits" only digits."""
  random, made = np.random.default_rng(0), {}
  for name, alphabet in (("letters", b"abcdefghijklmnop"), ("digits", b"0123456789")):
    texts = [
      bytes(random.choice(list(alphabet), size).tolist()) for size in random.integers(50, 400, 60)
    ]
    corpus = new_corpus(tmp_path_factory.mktemp(name), texts[8:], texts[:8])
    made[name] = Named(corpus, name)
  return made


@pytest.fixture(scope="module")
def load_both(corpora):
  """Opens the data of a run on letters that replays digits."""

  def load(*process, share=0.25, objective=None, batch_size=8, **changes):
    settings = {
      "corpus": corpora["letters"],
      "replay_corpus": corpora["digits"],
      "replay_share": share,
      "vocabulary": BYTES,
      "objective": objective or CausalLM(),
      "feature_lengths": {"targets": 16},
      "shuffle_buffer_size": 64,
    }
    return loader.load("decoder_only", batch_size, 3, *process, **settings | changes)

  return load


@pytest.fixture(scope="module")
def both(load_both):
  return load_both()


@pytest.fixture(scope="module")
def not_replayed(load_both):
  """The data of a run that trains on letters only, and is evaluated on digits too."""
  return load_both(share=0.0)


def is_digits(rows):
  """[rows, length] ids -> bool [rows]: whether the text of each row is digits."""
  low, high = (byte + 3 for byte in b"09")  # Byte b has the id b + 3.
  digits = (rows >= low) & (rows <= high)
  return digits.sum(axis=1) > 0.5 * (rows > 2).sum(axis=1)


def test_rows_come_from_both_corpora_at_the_rate_of_the_share(both):
  assert both.component_names == ("new", "old")
  assert both.description == "letters and 25% digits, causal_lm"
  batches = both.train()
  rows = [next(batches) for _ in range(60)]
  tokens = np.concatenate([batch["decoder_target_tokens"] for batch in rows])
  components = np.concatenate([batch["decoder_component_ids"] for batch in rows])
  assert (components == components[:, :1]).all()
  np.testing.assert_array_equal(components[:, 0] == 1, is_digits(tokens))
  share = (components[:, 0] == 1).mean()
  assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / len(tokens))


def test_held_out_batches_of_each_corpus_are_those_of_a_run_on_it_alone(load_both, both, corpora):
  """So the loss on the old corpus continues the curve of the first training."""
  found = both.evaluation(3)
  alone = [load_both(corpus=c, replay_corpus=None).evaluation(3) for c in corpora.values()]
  wanted = [batch for batches in alone for batch in batches]
  assert len(found) == len(wanted) == 6
  for i, (batch, same) in enumerate(zip(found, wanted, strict=True)):
    assert (batch.pop("decoder_component_ids") == i // 3).all()
    assert batch.keys() == same.keys()
    for name, value in same.items():
      np.testing.assert_array_equal(batch[name], value)


def test_a_share_of_zero_trains_on_the_new_corpus_and_evaluates_on_both(load_both, not_replayed):
  batches, wanted = not_replayed.train(), load_both(replay_corpus=None).train()
  for _ in range(4):
    batch = next(batches)
    assert (batch.pop("decoder_component_ids") == 0).all()
    for name, value in next(wanted).items():
      np.testing.assert_array_equal(batch[name], value)
  components = [batch["decoder_component_ids"][0, 0] for batch in not_replayed.evaluation(2)]
  assert components == [0, 0, 1, 1]


@pytest.mark.parametrize("share", [0.25, pytest.param(0.0, marks=pytest.mark.slow)])
def test_positions_resume_with_streams_and_processes(load_both, share):
  whole = load_both(streams=2, share=share).train()
  parts = [load_both(index, 2, streams=2, share=share).train() for index in range(2)]
  for _ in range(3):
    next(whole)
    for part in parts:
      next(part)
  # Each process saves the positions of its own streams, and one process resumes from both.
  state = {name: value for part in parts for name, value in part.get_state().items()}
  assert sorted(state) == ["stream_00000", "stream_00001"]
  resumed = load_both(streams=2, share=share).train()
  resumed.set_state(state)
  for _ in range(20):  # More than an epoch of either corpus.
    batch, same = next(whole), next(resumed)
    halves = [next(part) for part in parts]
    for name, value in batch.items():
      np.testing.assert_array_equal(same[name], value)
      np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), value)


def test_every_denoiser_has_a_component_of_either_corpus(load_both):
  data = load_both(objective=Mixture([CausalLM(), PrefixLM()], [3, 1]), share=0.2)
  assert data.component_names == (
    "new/causal_lm",
    "new/prefix_lm",
    "old/causal_lm",
    "old/prefix_lm",
  )
  rates = [part["rate"] for part in data.identity()["components"]]
  np.testing.assert_allclose(rates, [0.6, 0.2, 0.15, 0.05])
  seen = [set(batch["decoder_component_ids"][:, 0]) for batch in data.evaluation(4)]
  assert set.union(*seen[:4]) == {0, 1} and set.union(*seen[4:]) == {2, 3}
  new, old = data.pipeline.of_each_corpus()
  assert (new.numbers, old.numbers) == ((0, 1), (2, 3))
  assert [rate for _, rate in old.parts] == [3, 1]
  assert data.pipeline.trained() is data.pipeline


def test_the_identity_holds_both_corpora(both, not_replayed):
  identity = both.identity()
  assert identity["corpus"] == {"name": "letters", "fingerprint": "text of letters"}
  assert identity["replay_corpus"] == {"name": "digits", "fingerprint": "text of digits"}
  assert json.loads(json.dumps(identity)) == identity
  assert not_replayed.identity() != identity


def test_a_preview_shows_both(both, not_replayed):
  for data, share in ((both, 0.25), (not_replayed, 0.0)):
    shown = measure.preview(data, examples=1, rows=64)
    assert [(part.name, part.rate) for part in shown.components] == [
      ("new", 1 - share),
      ("old", share),
    ]
    new, old = (np.array([part.examples[0].targets.ids]) for part in shown.components)
    assert (is_digits(new)[0], is_digits(old)[0]) == (False, True)
    json.dumps(shown.json())


def test_mistakes(load_both, corpora):
  for share in (1.0, -0.1, float("nan")):
    with pytest.raises(UserError, match=r"REPLAY_SHARE = .* is outside \[0, 1\)"):
      load_both(share=share)
  with pytest.raises(UserError, match=r"CORPUS are the same text \(digits\)"):
    load_both(corpus=corpora["digits"])
  with pytest.raises(UserError, match="REPLAY_CORPUS is set, and MIXTURE_OR_TASK_NAME = 'own'"):
    load_both(mixture_or_task_name="own")
  with pytest.raises(UserError, match="CORPUS is not set"):
    load_both(corpus=None)


def test_a_replayed_corpus_without_held_out_text_is_named(load_both, new_corpus, tmp_path):
  corpus = Named(new_corpus(tmp_path, [b"0123" * 100] * 4, []), "no_validation")
  with pytest.raises(UserError, match="'validation' of letters_causal_lm_old has no example"):
    load_both(replay_corpus=corpus).evaluation(2)
