"""For every objective: documents of a row see each other, or they do not (CROSS_DOCUMENTS)."""

import functools
import string

import jax
import numpy as np
import pytest

from t5x_style.data import converters
from t5x_style.data.objectives import base
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.classification import Classification
from t5x_style.data.objectives.fill_in_middle import FillInMiddle
from t5x_style.data.objectives.masked_diffusion import MaskedDiffusion
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.mixture import Mixture
from t5x_style.data.objectives.next_sentence import NextSentence
from t5x_style.data.objectives.prefix_lm import PrefixLM
from t5x_style.data.objectives.sentence_order import SentenceOrder
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.objectives.text_infilling import TextInfilling
from t5x_style.data.objectives.text_to_text import TextToText
from t5x_style.data.objectives.ul2 import UL2, UL2Short
from t5x_style.models import Transformer, TransformerConfig

LETTERS = string.ascii_lowercase
JOINING = [
  *("decoder_only", CausalLM()),
  *("decoder_only", FillInMiddle(rate=0.7)),
  *("decoder_only", PrefixLM(mode="[S]")),
  *("decoder_only", SpanCorruption()),
  *("decoder_only", UL2()),
  *("encoder_decoder", SpanCorruption(noise_density=0.4)),
  *("encoder_decoder", PrefixLM()),
  *("encoder_decoder", TextInfilling()),
  *("encoder_decoder", UL2()),
  *("encoder_decoder", UL2Short(budgets={"X": {"inputs": 40}})),
  *("encoder_decoder", Mixture(objectives=[TextInfilling(), PrefixLM()])),
  *("encoder_only", MaskedLM()),
  *("encoder_only", MaskedDiffusion()),
]
CASES = list(zip(JOINING[::2], JOINING[1::2], strict=True))
NAMES = [f"{objective.name}, {architecture}" for architecture, objective in CASES]
# One of each way of keeping documents apart, and of each architecture; the others take longer.
QUICK = (
  "fill_in_middle, decoder_only",
  "span_corruption, encoder_decoder",
  "masked_diffusion, encoder_only",
)
every_case = pytest.mark.parametrize(
  "case",
  [
    pytest.param(number, id=name, marks=() if name in QUICK else pytest.mark.slow)
    for number, name in enumerate(NAMES)
  ],
)
NOT_JOINING = (SentenceOrder, NextSentence, Classification, TextToText)


@pytest.fixture(scope="module")
def of_letters(tmp_path_factory, new_corpus):
  """Documents of 4 to 60 letters, each of one letter only, so that tokens tell their document."""
  random = np.random.default_rng(0)
  texts = [
    " ".join(letter * random.integers(1, 5) for _ in range(random.integers(2, 16))).encode()
    for letter in LETTERS * 8
  ]
  return new_corpus(tmp_path_factory.mktemp("letters"), texts, texts[:26])


@pytest.fixture(scope="module")
def letter_of(vocabulary):
  """Returns the letter that each id spells, [V]; "" for the ids that spell none or several."""
  pieces = [vocabulary.decode([i]).strip() for i in range(vocabulary.vocab_size)]
  return np.array([x[0] if x and set(x) <= set(x[0]) & set(LETTERS) else "" for x in pieces])


@pytest.fixture(scope="module")
def rows(of_letters, load):
  """Returns the first batch of 24 rows: {feature: array}, and their dataset."""

  @functools.cache
  def make(case, cross):
    architecture, objective = CASES[case]
    dataset = load(architecture, objective, 24, corpus=of_letters, cross_documents=cross)
    batch = {name: np.asarray(x) for name, x in next(dataset.train()).items()}
    return batch, dataset

  return make


def sides(batch):
  return [side for side in ("encoder", "decoder") if f"{side}_input_tokens" in batch]


def segments_of(batch, side):
  return batch[f"{side}_segment_ids"]


@every_case
def test_a_segment_is_a_document(case, rows, letter_of):
  """All letters of a segment, in what is read and in what is predicted, are of one document."""
  batch, _ = rows(case, False)
  several = 0
  for row in range(24):
    found: dict[int, set[str]] = {}
    for side in sides(batch):
      ids = segments_of(batch, side)[row]
      real = batch[converters.PADDED_TOKENS[side]][row] > 0
      assert ((ids > 0) == real).all()
      for name in (f"{side}_input_tokens", f"{side}_target_tokens"):
        if name not in batch:
          continue
        for token, segment in zip(letter_of[batch[name][row]], ids, strict=True):
          if token:
            found.setdefault(int(segment), set()).add(str(token))
    randomised = CASES[case][1].name == "masked_lm"  # It puts other tokens, of any letter.
    if not randomised:
      assert all(len(letters) == 1 for letters in found.values()), found
    several += len(found) > 1
  assert several > 12


@every_case
def test_positions_restart_in_each_document(case, rows):
  batch, _ = rows(case, False)
  for side in sides(batch):
    ids, positions = segments_of(batch, side), batch[f"{side}_positions"]
    for row in range(24):
      expected = [list(ids[row, :i]).count(ids[row, i]) for i in range(ids.shape[1])]
      np.testing.assert_array_equal(positions[row], np.where(ids[row] > 0, expected, 0))


def hidden_states(architecture, batch, positions="relative"):
  layers = {
    "encoder_decoder": {"num_encoder_layers": 2, "num_decoder_layers": 2},
    "decoder_only": {"num_decoder_layers": 2},
    "encoder_only": {"num_encoder_layers": 2},
  }[architecture]
  sizes = {"vocab_size": 8320, "emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 16}
  model = Transformer(TransformerConfig(**sizes, **layers, positions=positions))
  inputs = {k: v for k, v in batch.items() if k.startswith(("encoder_", "decoder_"))}
  apply, params = _compiled(model, tuple(sorted((k, v.shape) for k, v in inputs.items())))
  return np.asarray(apply(params, inputs))


@functools.cache
def _compiled(model, shapes):
  batch = {name: np.zeros(shape, np.int32) for name, shape in shapes}
  params = jax.jit(model.init)(jax.random.key(0), batch)
  return jax.jit(lambda params, batch: model.apply(params, batch).hidden), params


def with_other_tokens(batch, where):
  """Returns the batch with other tokens where `where` {side: bool [B, L]} says."""
  changed = dict(batch)
  for side, chosen in where.items():
    name = f"{side}_input_tokens"
    changed[name] = np.where(chosen, 1000 + (batch[name] + 7) % 5000, batch[name]).astype(np.int32)
  return changed


@every_case
def test_a_change_in_one_document_changes_no_other(case, rows):
  architecture, _ = CASES[case]
  batch, _ = rows(case, False)
  read = {side: segments_of(batch, side) for side in sides(batch)}
  before = hidden_states(architecture, batch)
  predicting = read["decoder" if "decoder" in read else "encoder"]
  for document in (1, 2):
    after = hidden_states(
      architecture,
      with_other_tokens(batch, {side: ids == document for side, ids in read.items()}),
    )
    differs = np.abs(after - before).max(-1) > 0
    assert not differs[(predicting != document) & (predicting > 0)].any()
    assert differs[predicting == document].mean() > 0.95


@pytest.mark.slow
@every_case
def test_across_documents_a_change_is_seen_by_the_rest_of_the_row(case, rows):
  architecture, _ = CASES[case]
  batch, _ = rows(case, True)
  before = hidden_states(architecture, batch)
  side = sides(batch)[0]
  first = np.zeros(batch[f"{side}_input_tokens"].shape, bool)
  first[:, 1] = True
  after = hidden_states(architecture, with_other_tokens(batch, {side: first}))
  predicting = "decoder" if "decoder" in sides(batch) else "encoder"
  last = (batch[converters.PADDED_TOKENS[predicting]] > 0).sum(1) - 1
  assert (np.abs(after - before).max(-1)[np.arange(24), last] > 0).mean() > 0.8


@pytest.mark.slow
@every_case
def test_none_is_what_the_objective_says(case, of_letters, load, rows):
  architecture, objective = CASES[case]
  default = objective.cross_documents
  batch, _ = rows(case, default)
  dataset = load(architecture, objective, 24, corpus=of_letters)
  for name, value in next(dataset.train()).items():
    np.testing.assert_array_equal(value, batch[name], err_msg=name)


def test_old_checkpoints_have_the_same_identity():
  """The setting is written only where it is no default, or where the objective always had it."""
  for _, objective in CASES:
    written = {k: v for part in objective.components() for k, v in part[1].identity().items()}
    always = objective.name in ("causal_lm", "masked_lm")
    assert ("cross_documents" in written) == always, objective
    apart = objective.with_cross_documents(False)
    for _, part, _ in apart.components():
      assert part.identity()["cross_documents"] is False


def test_every_objective_is_tried():
  # By name: another test of the same process may have imported a module a second time.
  known = {x.__qualname__: x for x in base.known() if x.__module__.startswith("t5x_style")}
  not_joining = {objective.__qualname__ for objective in NOT_JOINING}
  assert known.keys() == {type(objective).__qualname__ for _, objective in CASES} | not_joining
  for name, objective in known.items():
    assert (objective.how_apart == "always") == (name in not_joining)


def test_sentence_pairs_need_both_documents():
  with pytest.raises(ValueError, match="CROSS_DOCUMENTS = False: next_sentence asks whether"):
    NextSentence().with_cross_documents(False)
  assert SentenceOrder().with_cross_documents(False) == SentenceOrder()


def test_an_objective_of_a_user_that_does_not_say_how_is_refused():
  class Own(SpanCorruption):
    name = ""
    how_apart = None

  with pytest.raises(ValueError, match="does not say how documents are kept apart"):
    Own().with_cross_documents(False)


@pytest.mark.slow
@every_case
def test_short_documents_share_rows(case, rows):
  batch, dataset = rows(case, False)
  predicting = "decoder" if "decoder" in sides(batch) else "encoder"
  tokens = batch[converters.PADDED_TOKENS[predicting]]
  assert (tokens > 0).mean() > 0.3
  held_out = dataset.evaluation(1)[0]
  assert segments_of(held_out, predicting).max() > 1


@pytest.mark.slow
def test_alone_in_a_row_without_packing(of_letters, load):
  dataset = load(
    "encoder_decoder",
    SpanCorruption(),
    24,
    corpus=of_letters,
    cross_documents=False,
    pack=False,
  )
  batch = next(dataset.train())
  assert "encoder_segment_ids" not in batch
  eos = dataset.vocabulary.eos_id
  assert (np.asarray(batch["encoder_input_tokens"] == eos).sum(1) == 1).all()
  assert (np.asarray(batch["decoder_target_tokens"] == eos).sum(1) == 1).all()
