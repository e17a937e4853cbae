"""How many tokens a text has."""

import types

import numpy as np

from launch.sizing import text_size


class Dataset:
  """Files of these sizes, and batches in which each token is four bytes of text."""

  def __init__(self, **sizes):
    self._files = {name.replace("_", "."): [size, "checksum"] for name, size in sizes.items()}

  def files(self):
    return self._files

  def evaluation(self, count):
    return [{"decoder_input_tokens": np.array([[5, 6, 7, 0], [5, 0, 0, 0]])}]

  def decode(self, ids):
    return "\N{GREEK SMALL LETTER ALPHA}b " * len(ids)  # 2 + 1 + 1 bytes


def test_bytes_of_plain_files_are_divided_by_those_of_a_token():
  assert text_size.tokens(None, Dataset(a_txt=4000, b_jsonl=400)) == 1100


def test_sizes_that_say_nothing_are_left_out():
  assert text_size.tokens(None, Dataset(a_txt=4000, b_gz=400)) is None
  assert text_size.tokens(None, Dataset()) is None


def test_a_token_cache_counts_its_tokens():
  split = types.SimpleNamespace(tokens_total=123)
  cache = types.SimpleNamespace(opened=types.SimpleNamespace(split=lambda name: split))
  assert text_size.tokens(cache, Dataset()) == 123
