"""Functions and their names: the text does not say the name, and files are in one split."""

import pytest

from t5x_style.data import corpora
from t5x_style.data.corpora import python_stdlib, stdlib_functions

CODE = '''
class Point:
  def __init__(self):
    self.x = 1
    self.y = 2

  @property
  def getHTTPStatus_2(self, n):
    """Returns getHTTPStatus_2 of n."""
    return self.getHTTPStatus_2(n - 1)

  def short(self):
    return 1

async def a_b(x):
  c = await a_b(x)
  return a_bc(c)
'''


def test_functions_do_not_say_their_names():
  (first, second) = sorted(stdlib_functions.named_functions(CODE), reverse=True)
  assert first == (
    'def f(self, n):\n  """Returns f of n."""\n  return self.f(n - 1)',
    "get http status 2",
    8,
  )
  assert second == ("async def f(x):\n  c = await f(x)\n  return a_bc(c)", "a b", 15)
  assert list(stdlib_functions.named_functions("def f(:")) == []


def test_a_long_file_gives_functions_from_all_over_it():
  code = "\n".join(f"def name{i}(x):\n  y = x\n  return y" for i in range(100))
  names = [int(words.split()[1]) for _, words, _ in stdlib_functions.named_functions(code)]
  assert names == list(range(0, 100, 5))


@pytest.mark.slow
def test_all_functions_of_a_file_are_in_one_split():
  corpus = corpora.StdlibFunctions()
  pairs = {}
  for split in ("train", "validation"):
    found = corpus.source().get_dataset(split, shuffle=False).as_numpy_iterator()
    pairs[split] = {(x["text"].decode(), x["target"].decode()) for x in found}
  assert len(pairs["train"]) > 10_000 and len(pairs["validation"]) > 2_000
  base = python_stdlib.folder()
  paths = [p for p in python_stdlib.text_files(base) if p.startswith("json/") and p[-3:] == ".py"]
  assert paths
  for path in paths:
    found = stdlib_functions.named_functions((base / path).read_text())
    functions = {(text, words) for text, words, _ in found}
    assert functions <= pairs[python_stdlib.split_of(path, 20)]
