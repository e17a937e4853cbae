"""Rows of several corpora, each with its own held-out batches; replay in continued pre-training."""

import collections
import json

import numpy as np
import pytest

from t5x_style.data import corpus_mixture, loader
from t5x_style.data.corpora import Mixture as Corpora
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


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.25, 0.0])
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


@pytest.fixture(scope="module")
def load_mixed(load_both, corpora):
  """Opens the data of a run on a mixture of letters and digits."""

  def load(*process, streams=1, objective=None, **settings):
    named = dict(zip(("letters", "numbers"), corpora.values(), strict=True))
    data = {"corpus": Corpora(named, **settings), "replay_corpus": None, "streams": streams}
    return load_both(*process, objective=objective, **data)

  return load


def documents_of(corpus):
  """Returns the training documents of a corpus, without TensorFlow's help in counting them."""
  dataset = corpus.source().get_dataset("train", shuffle=False)
  return [document["text"] for document in dataset.as_numpy_iterator()]


def rows_read(batches, most):
  """Returns the target tokens and the component of each row of at most `most` batches."""
  rows, components = [], []
  for _ in range(most):
    try:
      batch = next(batches)
    except UserError as error:
      return np.concatenate(rows), np.concatenate(components), str(error)
    rows.append(batch["decoder_target_tokens"])
    components.append(batch["decoder_component_ids"][:, 0])
  return np.concatenate(rows), np.concatenate(components), ""


def test_a_mixture_draws_the_rows_that_a_replay_at_the_same_rates_draws(load_mixed, both):
  mixed = load_mixed(rates={"letters": 3, "numbers": 1})
  assert mixed.component_names == ("letters", "numbers")
  assert mixed.description == "75% letters, 25% numbers, causal_lm"
  batches, wanted = mixed.train(), both.train()
  for _ in range(5):
    np.testing.assert_equal(next(batches), next(wanted))
  np.testing.assert_equal(mixed.evaluation(2), both.evaluation(2))


def test_a_corpus_ends_after_its_epochs_and_the_other_gets_its_share(load_mixed, corpora):
  data = load_mixed(epochs={"numbers": 2})
  identity = data.identity()
  assert identity["corpus"]["name"] == "letters_numbers"
  assert [part.get("epochs") for part in identity["components"]] == [None, 2]
  assert json.loads(json.dumps(identity)) == identity
  batches = data.train()
  rows, components, _ = rows_read(batches, 400)
  np.testing.assert_array_equal(components == 1, is_digits(rows))
  # All tokens of two epochs, joined with EOS, but for the last window if it is not full.
  texts = documents_of(corpora["digits"])
  windows = -(-2 * sum(len(text) + 1 for text in texts) // 16)
  assert abs((components == 1).sum() - windows) <= 1
  last = np.flatnonzero(components == 1)[-1]
  before = (components[:last] == 1).mean()
  assert abs(before - 0.5) < 4 * np.sqrt(0.25 / last)
  assert batches.epochs()["numbers"] == 1.0  # the second, counted from 0
  assert batches.epochs()["letters"] > 1


@pytest.mark.slow
@pytest.mark.parametrize("streams", [1, 2])
def test_positions_before_at_and_after_the_end_of_a_corpus_resume(load_mixed, streams):
  settings = {"epochs": {"numbers": 0.25}, "streams": streams}
  batches = load_mixed(**settings).train()
  saved, rows = {}, []
  for step in range(90):
    if step in (3, 25, 80):
      saved[step] = (batches.get_state(), batches.epochs())
    rows.append(next(batches))
  ended = np.flatnonzero([(batch["decoder_component_ids"] == 1).any() for batch in rows])[-1]
  assert 25 < ended < 80
  for step, (state, epochs) in saved.items():
    resumed = load_mixed(**settings).train()
    resumed.set_state(state)
    assert resumed.epochs() == epochs
    for batch in rows[step:]:
      np.testing.assert_equal(next(resumed), batch)


def test_objectives_share_the_documents_of_an_epoch(load_both, corpora):
  """With a limit of 1 each document is read by one of them."""
  data = load_both(
    corpus=Corpora({"numbers": corpora["digits"]}, epochs={"numbers": 1}),
    replay_corpus=None,
    objective=Mixture([CausalLM()] * 2),
    batch_size=1,
    shuffle_buffer_size=1,
  )
  rows, components, error = rows_read(data.train(), 2000)
  assert "CORPUS_EPOCHS" in error
  read = []
  for component in (0, 1):
    tokens = rows[components == component].ravel()
    documents = bytes(((tokens[tokens > 0] - 3).clip(-1) + 1).tolist()).split(b"\0")[:-1]
    assert documents
    read += [bytes(byte - 1 for byte in document) for document in documents]
  assert sorted(read) == sorted(documents_of(corpora["digits"]))


@pytest.mark.slow
def test_a_run_ends_with_a_message_when_all_corpora_have_ended(load_mixed, corpora):
  data = load_mixed(epochs={"letters": 1, "numbers": 0.5}, objective=Mixture([CausalLM()] * 2))
  batches = data.train()
  rows, _, error = rows_read(batches, 10_000)
  assert "have been read as often as CORPUS_EPOCHS allows" in error
  read = collections.Counter(is_digits(rows).tolist())
  for name, epochs in (("letters", 1), ("digits", 0.5)):
    texts = documents_of(corpora[name])
    tokens = sum(len(text) + 1 for text in texts) * epochs
    # Both objectives together; which documents are in a part of an epoch is drawn.
    spread = 4 * np.sqrt(len(texts)) * 225
    assert abs(16 * read[name == "digits"] - tokens) < spread
  with pytest.raises(UserError, match="CORPUS_EPOCHS"):
    next(batches)
  assert batches.get_state()  # It is saved before the run ends.


@pytest.mark.slow
def test_rates_of_tokens(load_both, new_corpus, tmp_path):
  """Rows of short documents, which are not packed, hold fewer tokens, so more of them are drawn."""
  made = {}
  for name, text in (("letters", b"abcd" * 4), ("numbers", b"01234")):
    folder = tmp_path / name
    folder.mkdir()
    made[name] = Named(new_corpus(folder, [text] * 40, [text] * 4), name)
  data = load_both(
    corpus=Corpora(made, rates={"letters": 1, "numbers": 3}, unit="tokens"),
    replay_corpus=None,
    objective=CausalLM(cross_documents=False),
    pack=False,
  )
  batches = data.train()
  tokens = np.concatenate([next(batches)["decoder_target_tokens"] for _ in range(100)])
  digits = (tokens > 0)[is_digits(tokens)].sum() / (tokens > 0).sum()
  assert digits == pytest.approx(0.75, abs=0.04)


def test_shares():
  class Text:
    name, fingerprint = "text", lambda self: ""

  text, objective = Text(), Mixture([CausalLM(), PrefixLM()], [3, 1])
  mixed = Corpora({"a": text, "b": text}, rates={"a": 9, "b": 1}, temperature=2.0, epochs={"b": 4})
  found = corpus_mixture.parts(mixed)
  assert [(part.label, part.share, part.epochs) for part in found] == [
    ("a", 0.75, None),
    ("b", 0.25, 4),
  ]
  replayed = corpus_mixture.parts(mixed, corpus_mixture.Replay(text, 0.2))
  assert [part.label for part in replayed] == ["a", "b", "old"]
  np.testing.assert_allclose([part.share for part in replayed], [0.6, 0.2, 0.2])
  trained = Corpora({"a": text, "b": text}, rates={"a": 1, "b": 0})
  assert corpus_mixture.describe(corpus_mixture.parts(trained)) == "100% a"
  parts = corpus_mixture.components(found, objective)
  assert [part.name for part in parts] == [
    f"{x}/{y}_lm" for x in "ab" for y in ("causal", "prefix")
  ]
  np.testing.assert_allclose([part.share for part in parts], [9 / 16, 3 / 16, 3 / 16, 1 / 16])
  assert [part.epochs for part in parts] == [None, None, 3, 1]
  np.testing.assert_allclose(corpus_mixture.shares_of_rows([1, 1], [10, 30]), [0.75, 0.25])


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"rates": {"letters": 1}}, "CORPUS_RATES = {'letters': 1}, and CORPORA has .*'numbers'"),
    ({"rates": {"letters": 0, "numbers": 0}}, "one above 0 at least"),
    ({"epochs": {"prose": 1}}, "CORPUS_EPOCHS has prose, and CORPORA has letters, numbers"),
  ],
)
def test_mistakes_in_mixtures(load_mixed, settings, message):
  with pytest.raises(UserError, match=message):
    load_mixed(**settings)


def test_mixtures_of_the_same_text_or_with_odd_names(load_both, corpora):
  letters, digits = corpora.values()
  for corpus, message in (
    (Corpora({"a": letters, "b": letters}), "'a' and 'b' are the same text"),
    (Corpora({"a/b": letters}), "names made|names are made"),
    (Corpora({"old": letters}), '"new" or "old"'),
    (Corpora({}), "set one corpus or more"),
  ):
    with pytest.raises(UserError, match=message):
      load_both(corpus=corpus, replay_corpus=None)
  both = Corpora({"a": letters, "b": digits})
  with pytest.raises(UserError, match=r"the same text \(b\)"):
    load_both(corpus=both)
  with pytest.raises(UserError, match="REPLAY_CORPUS is a mixture"):
    load_both(corpus=letters, replay_corpus=both)
  with pytest.raises(UserError, match="is no single source of text"):
    both.source()
