"""The facts of candidates: mistakes in what judges need are found before anything is trained."""

import json

import numpy as np
import pytest

from launch.comparison import describe, held_out
from launch.process.errors import ConfigurationError
from t5x_style.data.tokenizers import vocabularies
from t5x_style.data.tokenizers.base import codec_of
from tests import token_caches

COMPARISON = """
include 'compare.gin'
include 'data/text_files.gin'
CORPUS_FILES = 'train.txt'
VALIDATION_FILES = 'held_out.txt'
CLASSIFICATION = None
PASSAGES = 8
PASSAGE_BYTES = 80
COMPARE_DIR = 'comparison'
"""
FILES = ("models/decoder_only_tiny.gin", "objectives/causal_lm.gin")
INPUTS = "TASK_FEATURE_LENGTHS = {'inputs': 64}"
LENGTHS = "TASK_FEATURE_LENGTHS = {{'targets': {}}}"


@pytest.fixture
def run(tmp_path, monkeypatch):
  """Bindings -> the facts; texts and comparison.gin are in the working directory."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "comparison.gin").write_text(f"# A comparison.\n{COMPARISON}")
  for name in ("train", "held_out", "other"):
    words = " ".join(f"{name}{i} and {i} words, some of which are long" for i in range(400))
    (tmp_path / f"{name}.txt").write_text(words.replace("long", "long.\n\n"))
  (tmp_path / "comparison").mkdir()

  def start(*bindings, length=64, other=()):
    candidates = {"causal": (*FILES, LENGTHS.format(length)), **dict(other)}
    bindings = [f"CANDIDATES = {candidates!r}", *bindings]
    flags = [f"--gin_bindings={text}" for text in bindings]
    where = ["--output=facts.json", "--passages=comparison/passages.jsonl"]
    describe.main(["describe", "--gin_file=comparison.gin", *flags, *where])
    return json.loads((tmp_path / "facts.json").read_text())

  return start


def test_passages_are_made_for_the_candidates(run, tmp_path):
  passages = tmp_path / "comparison/passages.jsonl"
  run()
  first = passages.read_text()
  run()
  assert passages.read_text() == first
  run("PASSAGES = 4", length=48)  # Nothing was judged yet.
  assert passages.read_text() != first
  (tmp_path / "comparison/judged").mkdir()
  (tmp_path / "comparison/judged/causal-0.json").write_text("{}")
  run("PASSAGES = 4", length=48)
  with pytest.raises(
    ConfigurationError, match="do not fit: other tokens of the shortest row, pass"
  ):
    run()


@pytest.mark.parametrize(
  ("binding", "message"),
  [
    ("PAIRS_FILE = 'none.jsonl'", "PAIRS_FILE = 'none.jsonl': there is no such file"),
    ("CLASSIFICATION = ('my_labels',)", "CLASSIFICATION holds 'my_labels': write gin files"),
  ],
)
def test_what_judges_cannot_use_is_refused(run, binding, message):
  with pytest.raises(ConfigurationError, match=message):
    run(binding)


def test_candidates_without_a_size_are_refused(run):
  other = {"open": (*FILES, LENGTHS.format(64), "MINUTES = 5")}
  with pytest.raises(ConfigurationError, match="'open': MINUTES = 5 leaves the size open"):
    run(other=other)


def test_candidates_read_the_same_text(run):
  other = {"other": (*FILES, "CORPUS_FILES = 'other.txt'")}
  with pytest.raises(ConfigurationError, match="'causal' and 'other' read different texts"):
    run(other=other)


@pytest.mark.slow
def test_candidates_on_a_token_cache(run, tmp_path):
  codec = codec_of(vocabularies.sentencepiece())
  text = (tmp_path / "held_out.txt").read_text()
  documents = [np.array(codec.encode(part), np.int32) for part in text.split("\n\n")]
  cache = {"train": documents[:1] * 50, "validation": documents}
  token_caches.make(tmp_path / "cache", cache, codec=codec)
  candidate = (*FILES, "data/token_cache.gin", f"CACHE_DIR = '{tmp_path / 'cache'}'")
  candidate += (LENGTHS.format(64),)
  bindings = [f"CANDIDATES = {{'cached': {candidate!r}}}"]
  facts = run(*bindings)
  read = held_out.corpora(facts["candidates"]["cached"]["identity"])
  assert [corpus["name"] for corpus in read.values()] == ["test"]
  lines = (tmp_path / "comparison/passages.jsonl").read_text().splitlines()
  passages = [json.loads(line)["text"] for line in lines]
  assert len(passages) == 8 and all(passage in text for passage in passages)
  with pytest.raises(ConfigurationError, match="'cached' names no VOCABULARY: a token cache"):
    run(*bindings, "CLASSIFICATION = ('data/stdlib_packages.gin', 'NUM_CLASSES = 10')")


@pytest.mark.slow
def test_what_cannot_be_halved_is_refused_before_the_first_round(run):
  other = {"masked": ("models/encoder_only_tiny.gin", "objectives/masked_lm.gin", INPUTS)}
  run("HALVE_BY = 'completion'")
  with pytest.raises(ConfigurationError, match="'masked' does not learn how a text continues"):
    run("HALVE_BY = 'completion'", other=other)
  run("HALVE_BY = 'pairs'", other=other)
