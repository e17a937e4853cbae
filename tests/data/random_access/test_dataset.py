"""The data of a run on a token cache: any number of processes, any place to resume, two ways."""

import json

import numpy as np
import pytest

from t5x_style.data.corpora import Mixture as Corpora
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
from t5x_style.data.objectives.text_to_text import TextToText
from t5x_style.data.objectives.ul2 import UL2
from t5x_style.errors import UserError
from tests.data import batch_checks

OBJECTIVES = [
  ("decoder_only", CausalLM()),
  ("decoder_only", PrefixLM(cross_documents=False)),
  ("decoder_only", FillInMiddle(cross_documents=False)),
  ("decoder_only", SpanCorruption(cross_documents=False)),
  ("decoder_only", UL2()),
  ("decoder_only", Mixture([CausalLM(), PrefixLM()], [2, 1])),
  ("encoder_decoder", SpanCorruption()),
  ("encoder_decoder", SpanCorruption(mean_span_to=8, cross_documents=False)),
  ("encoder_decoder", PrefixLM(cross_documents=False)),
  ("encoder_decoder", UL2(cross_documents=False)),
  ("encoder_decoder", TextInfilling(permute_sentences=True, cross_documents=False)),
  ("encoder_only", MaskedLM(cross_documents=False)),
  ("encoder_only", MaskedLM(whole_word=True)),
  ("encoder_only", MaskedDiffusion()),
  ("encoder_only", NextSentence()),
  ("encoder_only", SentenceOrder()),
]
CASES = [
  pytest.param(architecture, objective, id=f"{number}-{architecture}-{objective.name}")
  for number, (architecture, objective) in enumerate(OBJECTIVES)
]


@pytest.mark.parametrize("architecture, objective", CASES)
def test_batches_resume_and_evaluation(architecture, objective, load):
  data = batch_checks.check_resume_and_evaluation(
    lambda: load(architecture, objective), lambda state: state
  )
  assert data.identity() == json.loads(json.dumps(data.identity()))


def batch_of(load, number, processes, **changes):
  """One global batch, as `processes` processes give it."""
  parts = []
  for process in range(processes):
    batches = load("decoder_only", CausalLM(), 15, 0, process, processes, **changes).train()
    place = json.loads(batches.get_state()["stream_00000"])
    batches.set_state({"stream_00000": json.dumps({**place, "batch": number}).encode()})
    parts.append(next(batches))
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_three_processes_then_five_read_every_window_once(load, corpus):
  """A job of three processes that continues with five, over an epoch: its tokens are counted."""
  whole = load("decoder_only", CausalLM(), 15)
  count = whole.rows.components[0].examples.count
  batches = -(-count // 15)
  split = corpus.opened.split("train")
  seen = np.zeros(split.joined_length, int)
  rows = []
  for processes, first, end in ((3, 0, batches // 2), (5, batches // 2, batches)):
    for process in range(processes):
      data = load("decoder_only", CausalLM(), 15, 0, process, processes)
      numbers = np.concatenate([data.row_numbers(batch) for batch in range(first, end)])
      rows += numbers.tolist()
      units = data.rows.components[0].examples.pieces.units
      for place in data.rows.places(numbers[numbers < count]):
        starts, lengths = units.ranges(np.array([place.unit]), np.array([place.epoch]))
        seen[(starts[0] + np.arange(lengths[0])) % len(seen)] += 1
  assert sorted(rows) == list(range(batches * 15))
  assert (seen == 1).all()
  one = batch_of(load, 7, 1)
  for processes in (3, 5):
    np.testing.assert_equal(batch_of(load, 7, processes), one)


def test_evaluation_is_one_pass_and_pads_with_weight_zero(load, corpus):
  data = load("decoder_only", CausalLM())
  batches = data.evaluation(None)
  tokens = np.concatenate([b["decoder_target_tokens"] for b in batches])
  weights = np.concatenate([b["decoder_loss_weights"] for b in batches])
  assert (weights[tokens == 0] == 0).all()
  split = corpus.opened.split("validation")
  stream = split.tokens_between(0, split.joined_length)[0]
  assert sorted(tokens[tokens > 0].tolist()) == sorted(stream.tolist())
  first = load("decoder_only", CausalLM(), 4, 0, 0, 2).evaluation(1)[0]
  second = load("decoder_only", CausalLM(), 4, 0, 1, 2).evaluation(1)[0]
  np.testing.assert_equal(batches[0], {k: np.concatenate([first[k], second[k]]) for k in first})
  # Another seed of the run changes no held-out batch.
  np.testing.assert_equal(load("decoder_only", CausalLM(), seed=9).evaluation(1)[0], batches[0])


def test_evaluation_of_a_mixture_ends_with_its_first_component(load):
  data = load("encoder_decoder", Mixture([SpanCorruption(), PrefixLM()], [3, 1]))
  batches = data.evaluation(None)
  components = np.concatenate([b["decoder_component_ids"][:, 0] for b in batches])
  real = np.concatenate([b["decoder_loss_weights"].any(axis=1) for b in batches])
  counts = [component.examples.count for component in data._held_out[0].rows.components]
  drawn = np.bincount(components[real], minlength=2)
  assert (drawn <= counts).all() and (drawn == counts).any()


def test_a_cache_without_validation(load, cached, documents):
  data = load("decoder_only", CausalLM(), corpus=cached(documents[:5]))
  with pytest.raises(UserError, match="'validation' of the token cache of test has no example"):
    data.evaluation(1)


def test_each_corpus_and_objective_needs_validation_rows(load, cached, corpus, documents):
  mixed = Corpora({"with": corpus, "without": cached(documents[:5])})
  with pytest.raises(UserError, match="'validation' of the token cache of without has no example"):
    load("decoder_only", CausalLM(), corpus=mixed).evaluation(1)
  # One token and EOS are a window of joined documents, and no document to corrupt alone.
  short = cached(documents[:5], validation=[documents[0][:1]])
  objective = Mixture([SpanCorruption(), SpanCorruption(cross_documents=False)])
  with pytest.raises(UserError, match="of the token cache of span_corruption_2 has no example"):
    load("encoder_decoder", objective, corpus=short).evaluation(1)


def test_answers_share_rows(load, cached, documents):
  """Documents with targets: each is an example, whose target is its own."""
  short = [document[:20] for document in documents]
  corpus = cached(short, targets=True)
  data = load(
    "encoder_decoder",
    TextToText(),
    corpus=corpus,
    feature_lengths={"inputs": 64, "targets": 16},
  )
  count = data.rows.components[0].examples.count
  assert count < 20 and data.exact_match and data.component_names == ()
  rows = data.rows.features(np.arange(count))
  found = []
  for inputs, i_ids, targets, t_ids in zip(
    rows["encoder_input_tokens"],
    rows["encoder_segment_ids"],
    rows["decoder_target_tokens"],
    rows["decoder_segment_ids"],
    strict=True,
  ):
    assert i_ids.max() == t_ids.max()
    for number in range(1, i_ids.max() + 1):
      found.append((inputs[i_ids == number].tolist(), targets[t_ids == number].tolist()))
  expected = [([*text.tolist(), 1], [i % 200 + 3, 4, 1]) for i, text in enumerate(short)]
  assert sorted(found) == sorted(expected)


def test_a_model_of_the_run_reads_its_vocabulary(load, tmp_path):
  from etils import epath

  from t5x_style.codecs import vocabulary_folder

  data = load("decoder_only", CausalLM())
  data.store_vocabulary(epath.Path(tmp_path))
  stored = vocabulary_folder.read(epath.Path(tmp_path / "vocabulary"))
  ids = next(data.train())["decoder_target_tokens"][0]
  assert stored.codec.decode_visible(ids) == data.decode(ids)
