"""A token cache of the standard library without TensorFlow: its tokens spell the files."""

from launch.benchmarks import stdlib_cache
from t5x_style import token_cache
from t5x_style.data.corpora import python_stdlib


def test_the_tokens_spell_the_files(tmp_path):
  tokens = stdlib_cache.make(tmp_path / "cache", most_bytes=100_000)
  cache = token_cache.open(tmp_path / "cache")
  codec, seen = stdlib_cache._codec(), 0
  for split in ("train", "validation"):
    documents = cache.split(split)
    assert len(documents) > 0
    for number in range(len(documents)):
      ids, source = documents.tokens(number), documents.source(number)
      assert python_stdlib.split_of(source.file) == split
      text = (python_stdlib.folder() / source.file).read_text(encoding="utf-8")
      assert codec.decode(ids) == codec.decode(codec.encode(text))
      seen += len(ids)
  assert seen == tokens > 20_000
