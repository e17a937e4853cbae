"""Shards hold each document once, in a mixed order, whatever the pieces of work were."""

import hashlib
import json
import random

import numpy as np
import pytest

from launch.caching import runs, statistics
from t5x_style import token_cache
from tests.launch.caching.listed_corpus import ListedCorpus


def texts(count, seed=0):
  draw = random.Random(seed)
  return [draw.randbytes(draw.randint(1, 60)).hex().encode() for _ in range(count)]


def corpus(documents, a_part=4):
  return ListedCorpus(tuple(documents), a_part)


def read(cache, split):
  found = cache.split(split)
  return [cache.codec.decode(found.tokens(i)).encode() for i in range(len(found))]


def digest(text):
  return hashlib.blake2b(text, digest_size=16).digest()


@pytest.fixture
def cache_of(making, tmp_path):
  def open_it(documents, a_part=4, folder="cache", **options):
    making(corpus(documents, a_part), folder, **options)
    return token_cache.open(tmp_path / folder)

  return open_it


def test_each_document_is_there_once_in_the_shard_of_its_hash(cache_of):
  train, held_out = texts(30), texts(5, seed=1)
  documents = [("train", t, None) for t in train] + [("validation", t, None) for t in held_out]
  cache = cache_of(documents, shards=3)
  assert [x.name for x in cache.manifest.splits["train"]] == [
    f"train-{k:05d}-of-00003" for k in range(3)
  ]
  found = read(cache, "train")
  assert sorted(found) == sorted(train) and found not in (train, sorted(train, key=digest))
  shard_of = [digest(text)[0] * 3 // 256 for text in found]
  assert shard_of == sorted(shard_of) and len(set(shard_of)) == 3
  assert sorted(read(cache, "validation")) == sorted(held_out)
  split = cache.split("train")
  for i, text in enumerate(read(cache, "train")):
    number = train.index(text)
    assert split.source(i) == (f"file{number // 4 * 4 % 3}", number + 1, 0)


def test_the_bytes_do_not_depend_on_the_pieces_and_their_order(making, cache_of):
  documents = [("train", t, None) for t in texts(40) + texts(10)]
  one = cache_of(documents, a_part=50, folder="one", shards=2)
  making.order = lambda numbers: numbers[::-1]
  other = cache_of(documents, a_part=50, folder="other", shards=2)
  assert one.manifest.content == other.manifest.content
  many = cache_of(documents, a_part=4, folder="many", shards=2)  # Other files, so another order.
  assert sorted(read(one, "train")) == sorted(read(many, "train"))
  counts = [[x.documents for x in c.manifest.splits["train"]] for c in (one, many)]
  assert counts[0] == counts[1]


def test_copies_of_a_text_are_no_neighbours(cache_of):
  copied, others = texts(1)[0], texts(400, seed=1)
  documents = [("train", t, None) for t in [*[copied] * 20, *others]]
  found = read(cache_of(documents, a_part=50), "train")
  places = np.flatnonzero([text == copied for text in found])
  assert len(places) == 20
  # 20 random places of 420 span about 400, and few of them are neighbours.
  assert np.ptp(places) > 200 and (np.diff(places) == 1).sum() < 5
  first, last = found[:210], found[210:]
  assert 4 < first.count(copied) < 16 > last.count(copied) > 4


def test_duplicates_are_dropped_and_counted(cache_of):
  train, held_out = texts(12), texts(3, seed=1)
  documents = [("train", t, None) for t in [*train, *train[:5], train[0], held_out[1]]]
  documents += [("validation", t, None) for t in [*held_out, held_out[0]]]
  kept = cache_of(documents, folder="kept")
  assert len(kept.split("train")) == 19 and len(kept.split("validation")) == 4
  cache = cache_of(documents, folder="dropped", deduplicate=True)
  assert sorted(read(cache, "train")) == sorted(train)
  assert sorted(read(cache, "validation")) == sorted(held_out)
  counts = cache.manifest.statistics["splits"]
  assert (counts["train"]["duplicates"], counts["train"]["also_held_out"]) == (6, 1)
  assert counts["validation"]["duplicates"] == 1
  # The first of equal documents is kept.
  first = read(cache, "train").index(train[0])
  assert cache.split("train").source(first).line == 1


def test_the_same_text_with_another_target_is_no_duplicate(cache_of):
  documents = [("train", b"same", b"one"), ("train", b"same", b"two"), ("train", b"same", b"one")]
  split = cache_of(documents, deduplicate=True).split("train")
  assert sorted(split.target(i) for i in range(len(split))) == ["one", "two"]
  assert split.tokens(0).tolist() == split.tokens(1).tolist() == [c + 3 for c in b"same"]
  assert [bytes((split.target_tokens(i) - 3).tolist()).decode() for i in range(2)] == [
    split.target(i) for i in range(2)
  ]


def test_statistics(cache_of):
  documents = [("train", b"a" * n, None) for n in (1, 1, 2, 3, 4, 5, 100)]
  counts = cache_of(documents).manifest.statistics["splits"]["train"]
  assert (counts["documents"], counts["tokens"], counts["text_bytes"]) == (7, 116, 116)
  assert counts["lengths"] == {"1": 2, "2": 1, "4": 2, "8": 1, "128": 1}


def test_counts_are_added():
  parts = [{"n": 1, "lengths": {"2": 1, "16": 4}}, {"n": 2, "lengths": {"4": 2, "2": 1}}]
  assert statistics.total(parts) == {"n": 3, "lengths": {"2": 2, "4": 2, "16": 4}}


def test_a_run_gives_the_documents_of_a_range(tmp_path):
  entries = [
    runs.Entry(h, 0, 0, i, 0, np.array([i], "<u2"), None, b"", 1, 0)
    for i, h in enumerate([2**64 - 1, 5, 2**63, 0])
  ]
  run = runs.write(tmp_path, "run", "train", entries)
  assert (run.documents, run.stored_bytes) == (4, 8)
  assert sorted(x.name for x in tmp_path.iterdir()) == ["run.content", "run.keys"]
  for low, high, lines in ((0, 5, [3]), (5, 2**63, [1]), (2**63, 2**64, [2, 0])):
    found = runs.OpenRun(tmp_path, run, low, high)
    assert found.keys[runs.LINE].tolist() == lines
    tokens = [int.from_bytes(found.content(int(o), 2), "little") for o in found.keys[runs.OFFSET]]
    assert tokens == lines
  json.dumps(run)
