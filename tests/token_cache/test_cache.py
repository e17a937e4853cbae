"""Documents of a token cache are read by index, from any thread and process."""

import concurrent.futures
import multiprocessing
import pickle

import numpy as np
import pytest

from t5x_style.errors import UserError
from tests import token_caches

LENGTHS = (1, 5, 4096, 4097, 8192, 10_000, 1, 300)
EOS = 1


def documents(seed=0, lengths=LENGTHS):
  random = np.random.default_rng(seed)
  return [random.integers(3, 259, n) for n in lengths]


@pytest.fixture
def cache(tmp_path):
  splits = {"train": documents(), "validation": documents(1, (7,))}
  return token_caches.make(tmp_path / "cache", splits, shards=3)


def joined():
  return np.concatenate([np.append(x, EOS) for x in documents()])


def test_documents_are_what_was_written(cache):
  split = cache.split("train")
  assert len(split) == len(LENGTHS) and split.tokens_total == sum(LENGTHS)
  for i, expected in enumerate(documents()):
    found = split.tokens(i)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)
  np.testing.assert_array_equal(cache.split("validation").tokens(0), documents(1, (7,))[0])
  assert split.lengths().tolist() == list(LENGTHS)
  for first in range(9):
    for end in range(first, 9):
      assert split.lengths(first, end).tolist() == list(LENGTHS[first:end])
  assert not split.target_lengths().any()
  with pytest.raises(IndexError, match="document 8 of 8"):
    split.tokens(8)


def test_every_part_of_the_joined_stream_is_that_of_the_documents(cache):
  """Ends and starts at records, at documents, at EOS and at shards, and one token off."""
  split, expected = cache.split("train"), joined()
  assert split.joined_length == len(expected)
  ends = np.cumsum([n + 1 for n in LENGTHS])
  starts = [0, *ends[:-1].tolist()]
  of = np.repeat(np.arange(len(LENGTHS)), [n + 1 for n in LENGTHS])
  edges = {start + k * 4096 + d for start in starts for k in range(3) for d in (-2, -1, 0, 1, 2)}
  places = sorted(x for x in edges | set(ends.tolist()) if 0 <= x <= len(expected))
  for start in places:
    for end in [*(x for x in places if x > start)][:7] + [len(expected)]:
      if end > start:
        tokens, found = split.tokens_between(start, end)
        np.testing.assert_array_equal(tokens, expected[start:end])
        np.testing.assert_array_equal(found, of[start:end])
  with pytest.raises(IndexError):
    split.tokens_between(5, len(expected) + 1)


def test_starts_and_documents_are_found_in_the_stream(cache):
  split = cache.split("train")
  starts = np.cumsum([0, *(n + 1 for n in LENGTHS)])
  assert split.starts(np.arange(len(LENGTHS) + 1)).tolist() == starts.tolist()
  positions = np.array([0, 1, 2, starts[3] - 1, starts[3], split.joined_length - 1])
  assert split.document_at(positions).tolist() == [0, 0, 1, 2, 3, 7]


def test_shards_without_documents_are_skipped(tmp_path):
  cache = token_caches.make(tmp_path / "cache", {"train": documents(0, (3, 4))}, shards=5)
  split = cache.split("train")
  assert [shard.documents for shard in split._shards].count(0) == 3
  tokens, of = split.tokens_between(0, split.joined_length)
  expected = [np.append(x, EOS) for x in documents(0, (3, 4))]
  np.testing.assert_array_equal(tokens, np.concatenate(expected))
  assert of.tolist() == [0] * 4 + [1] * 5
  assert split.starts(np.arange(3)).tolist() == [0, 4, 9]
  assert split.source(1) == ("b.txt", 1, 0)


def test_targets_and_sources(tmp_path):
  cache = token_caches.make(tmp_path / "cache", {"train": documents()}, targets=True)
  split = cache.split("train")
  for i, expected in enumerate(documents()):
    np.testing.assert_array_equal(split.tokens(i), expected)
    assert split.target(i) == f"target {i}" and split.target_tokens(i).tolist() == [i + 3, 4]
    assert split.source(i) == (("a.txt", "b.txt")[i % 2], i // 2 + 1, 0)
  assert split.target_lengths().tolist() == [2] * len(LENGTHS)
  assert split.target_lengths(3, 5).tolist() == [2, 2]
  np.testing.assert_array_equal(split.tokens_between(0, split.joined_length)[0], joined())


def test_without_targets_asking_for_one_is_refused(cache):
  with pytest.raises(UserError, match="have no targets"):
    cache.split("train").target(0)
  with pytest.raises(UserError, match="no split 'test'; it has"):
    cache.split("test")


def _read_all(cache):
  split = cache.split("train")
  return np.concatenate([split.tokens(i) for i in range(len(split))])


def test_threads_and_processes_read_the_same(cache):
  """Also processes that are forked after the files were opened, and pickled caches."""
  expected = np.concatenate(documents())
  np.testing.assert_array_equal(_read_all(cache), expected)
  with concurrent.futures.ThreadPoolExecutor(8) as threads:
    found = [*threads.map(_read_all, [cache] * 16)]
  with multiprocessing.get_context("fork").Pool(2) as processes:
    found += processes.map(_read_all, [cache] * 4)
  found.append(_read_all(pickle.loads(pickle.dumps(cache))))
  for tokens in found:
    np.testing.assert_array_equal(tokens, expected)


def test_the_checksum_changes_with_the_documents(cache, tmp_path):
  same = token_caches.make(
    tmp_path / "same", {"train": documents(), "validation": documents(1, (7,))}, shards=3
  )
  other = token_caches.make(
    tmp_path / "other", {"train": documents(2), "validation": documents(1, (7,))}, shards=3
  )
  assert cache.manifest.content == same.manifest.content != other.manifest.content


def test_the_codec_is_that_of_the_cache(cache):
  assert cache.codec.encode("ab") == [100, 101] and cache.eos_id == cache.codec.eos_id
