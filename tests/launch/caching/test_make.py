"""A cache that was begun is resumed, and nothing that is there is overwritten or lost."""

import json
import os

import pytest

from launch.caching import plan, steps
from t5x_style import token_cache
from t5x_style.data import corpora
from t5x_style.data.tokenizers import huggingface_tokenizers, vocabularies
from t5x_style.errors import StorageError, UserError
from tests.launch.caching.listed_corpus import ListedCorpus

DOCUMENTS = tuple(("train", f"document {i}".encode(), None) for i in range(20))


def corpus(**changes):
  return ListedCorpus(**{"documents": DOCUMENTS, **changes})


@pytest.fixture
def interrupted(making, monkeypatch):
  """(step, count, ...) -> a cache that ended after this many pieces of a step."""

  def end_after(step, count, **options):
    left = steps.left

    def some(folder, current):
      return left(folder, current)[: count if current == step else None]

    def end(numbers):
      ending = ended.pop() if ended else False
      yield from numbers
      if ending:
        raise KeyboardInterrupt

    ended = [True] if step == steps.TOKENIZE else [True, False]
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
      patched.setattr(steps, "left", some)
      making.order = end
      making(corpus(), **options)
    making.order = list

  return end_after


@pytest.mark.parametrize(("step", "count"), [(steps.TOKENIZE, 2), (steps.MERGE, 1)])
def test_a_second_start_does_only_what_is_left(making, interrupted, tmp_path, step, count):
  expected = making(corpus(), "whole", shards=3)
  interrupted(step, count, shards=3)
  with pytest.raises(UserError, match="is not finished: the command that makes it was interrupted"):
    token_cache.open(tmp_path / "cache")
  folders = plan.folders(tmp_path / "cache")
  place = folders["work" if step == steps.TOKENIZE else "shards"]
  before = {x.name: x.stat().st_mtime_ns for x in place.glob("*.json")}
  assert len(before) == count
  begun = []
  making.order = lambda numbers: [begun.append(numbers), *numbers][1:]
  made = making(corpus(), shards=3)
  total = 5 if step == steps.TOKENIZE else 3
  assert len(begun[0]) == total - count
  assert made.content == expected.content
  assert sorted(os.listdir(tmp_path / "cache")) == sorted(os.listdir(tmp_path / "whole"))
  token_cache.open(tmp_path / "cache")


def test_what_killed_workers_left_is_removed(making, interrupted, tmp_path):
  interrupted(steps.MERGE, 1, shards=3)
  for name in (".train-00001-of-00003.array_record.123.tmp", ".train-00001-of-00003.index.123.tmp"):
    (tmp_path / "cache" / name).write_bytes(b"half")
  making(corpus(), shards=3)
  assert not [x.name for x in (tmp_path / "cache").iterdir() if x.name.startswith(".")]


def test_a_finished_cache_is_left_alone(making, tmp_path):
  first = making(corpus())
  times = {x: x.stat().st_mtime_ns for x in (tmp_path / "cache").iterdir()}
  assert making(corpus()) == first
  assert {x: x.stat().st_mtime_ns for x in (tmp_path / "cache").iterdir()} == times
  for other in (
    {"corpus": corpus(documents=DOCUMENTS[1:])},
    {"corpus": corpus(), "deduplicate": True},
    {"corpus": corpus(), "vocabulary": vocabularies.byte_vocabulary(7)},
  ):
    with pytest.raises(UserError, match="holds a token cache that was made from another corpus"):
      making(**other)
  assert {x: x.stat().st_mtime_ns for x in (tmp_path / "cache").iterdir()} == times


def test_a_finished_cache_that_is_damaged_is_not_taken_for_finished(making, tmp_path):
  making(corpus())
  (tmp_path / "cache/train-00000-of-00001.index").unlink()
  with pytest.raises(UserError, match=r"train-00000-of-00001\.index is missing"):
    making(corpus())


def test_an_unfinished_cache_is_not_resumed_with_other_settings(making, interrupted):
  interrupted(steps.TOKENIZE, 1)
  with pytest.raises(UserError, match="begun with another corpus"):
    making(corpus(documents=DOCUMENTS[1:]))
  with pytest.raises(UserError, match='another options.*"deduplicate": false.*instead of.*true'):
    making(corpus(), deduplicate=True)


def test_other_files_are_not_touched(making, tmp_path):
  (tmp_path / "cache").mkdir()
  (tmp_path / "cache/mine.txt").write_text("x")
  with pytest.raises(UserError, match=r"holds other files, such as 'mine\.txt'"):
    making(corpus())
  (tmp_path / "file").write_text("x")
  with pytest.raises(UserError, match="is a file"):
    making(corpus(), "file")


def test_what_a_worker_cannot_read_is_said_and_the_rest_is_kept(making, tmp_path):
  fails = tmp_path / "fails"
  fails.write_text("8")
  broken = corpus(fails=str(fails))
  with pytest.raises(UserError, match="file2: it cannot be read"):
    making(broken)
  fails.write_text("nothing")
  assert making(broken).content == making(corpus(), "whole").content


def test_a_full_disk_is_said(making, monkeypatch):
  def full(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(plan, "hash_of", full)
  with pytest.raises(StorageError, match="make room and start the same command again"):
    making(corpus())


def test_two_commands_do_not_make_one_cache(making, tmp_path, monkeypatch):
  tried = []

  def second(numbers):
    if not tried:
      tried.append(True)
      with pytest.raises(UserError, match="another process is making"):
        making(corpus())
    return numbers

  making.order = second
  making(corpus())
  assert tried


def test_documents_without_a_token_are_left_out_and_counted(making, tmp_path):
  made = making(corpus(documents=(("train", b"", None), ("train", b"\xff a", None), *DOCUMENTS)))
  assert made.statistics["left_out"] == {"have no tokens": [1, "file0:1"]}
  (reason,) = made.statistics["changed"]
  assert "not UTF-8" in reason and made.statistics["changed"][reason] == [1, "file0:2"]
  with pytest.raises(UserError, match="no document with a token; 1 have no tokens, the first is"):
    making(corpus(documents=(("train", b"", None),)), "empty")


def test_a_corpus_without_texts_is_refused(making, tmp_path):
  making(corpus())
  for other in (corpora.TokenCache(str(tmp_path / "cache")), corpora.Mixture({"a": corpus()})):
    with pytest.raises(UserError, match=f"CORPUS is a {type(other).__name__}, which has no texts"):
      making(other, "again")
  with pytest.raises(UserError, match="CORPUS is not set"):
    making(None, "again")


def test_shards_are_as_many_as_the_documents_need():
  run = plan.Run("a", "train", 1_200_000, 10)
  (low, _, high) = plan.shards([run], None)
  assert (low.low, high.high) == (0, 2**64) and low.name == "train-00000-of-00003"
  assert [x.split for x in plan.shards([run, run._replace(split="validation")], 1)] == [
    "train",
    *["validation"] * 3,
  ]
  assert len(plan.shards([run._replace(documents=1, stored_bytes=2**28 + 1)], None)) == 2
  assert len(plan.shards([run._replace(documents=20_000_001)], 1)) == 3  # 10 million in each


def test_settings_are_json(making, tmp_path, interrupted):
  interrupted(steps.TOKENIZE, 1)
  found = plan.read_settings(tmp_path / "cache")
  assert found["corpus"]["name"] == "listed" and json.dumps(found)


def test_text_that_the_vocabulary_drops_is_warned_of(making, tmp_path):
  tokenizers = pytest.importorskip("tokenizers")
  bpe = tokenizers.Tokenizer(tokenizers.models.BPE({"a": 0, "b": 1, "</s>": 2}, []))
  bpe.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  bpe.save(str(tmp_path / "tokenizer.json"))
  silent = huggingface_tokenizers.hf_tokenizer(str(tmp_path), special_tokens={"eos": "</s>"})
  corpus = ListedCorpus((("train", b"ab ba", None), ("train", b"ab cd", None)))
  with pytest.warns(UserWarning, match=r"20.0% .* is dropped, most often 'cd'.*tokenizer.json"):
    assert making(corpus, vocabulary=silent)
