"""The lines about a cache say what is in it, and how to train on it."""

from launch.caching import show
from t5x_style import token_cache
from tests.launch.caching.listed_corpus import ListedCorpus


def test_the_lines(making, tmp_path):
  documents = [("train", b"abc" * n, None) for n in (1, 2, 2, 40)]
  documents += [("train", b"", None), ("validation", b"held out", None)]
  making(ListedCorpus(tuple(documents)), deduplicate=True, shards=2)
  folder = tmp_path / "cache"
  text = "\n".join(show.lines(folder, token_cache.open(folder).manifest))
  for part in (
    "shards: 2 for train, 1 for validation",
    "corpus       listed ",
    "vocabulary   bytes, 259 ids",
    "exact duplicates are left out",
    "train        3 documents, 129 tokens, 129 bytes of text (1.00 a token), 0.0000% unknown",
    "1 duplicates left out",
    "validation   1 documents, 8 tokens",
    "left out     1 documents have no tokens; the first is file1:5",
    "up to         4  ",
    f"--gin_file=data/token_cache.gin --gin.CACHE_DIR=\"'{folder}'\"",
  ):
    assert part in text, part
