"""The task of the standard library: pieces that do not name their package, files in one split."""

from t5x_style.data import corpora
from t5x_style.data.corpora import python_stdlib, stdlib_packages


def test_pieces_do_not_say_what_they_are():
  code = "\n".join([f"line {i}" if i % 10 else "import xml.dom as XML" for i in range(1000)])
  pieces = list(stdlib_packages.pieces(code, "xml"))
  # Lines that name the package are left out, and are counted.
  assert all(code.splitlines()[line - 1] == piece.splitlines()[0] for piece, line in pieces)
  found = [piece for piece, _ in pieces]
  assert 12 <= len(found) <= 24
  assert all(len(piece.splitlines()) == 8 and "xml" not in piece.lower() for piece in found)
  assert "line 1\n" in found[0] and "line 97" in found[-1]  # from all over the file
  assert list(stdlib_packages.pieces("one\ntwo", "xml")) == []


def test_every_package_is_in_both_splits_and_no_file_is():
  corpus = corpora.StdlibPackages()
  for split, counts in corpus.targets().items():
    assert sorted(counts) == sorted(stdlib_packages.PACKAGES), split
    assert max(counts.values()) < 0.5 * sum(counts.values())
  texts = {split: set() for split in ("train", "validation")}
  for split, found in texts.items():
    for example in corpus.source().get_dataset(split, shuffle=False).as_numpy_iterator():
      found.add((example["text"], example["target"].decode()))
  assert len(texts["train"]) > 1000 and len(texts["validation"]) > 100
  base = python_stdlib.folder()
  paths = [p for p in python_stdlib.text_files(base) if p.startswith("email/") and p[-3:] == ".py"]
  for path in paths:
    split = python_stdlib.split_of(path, 20)
    for piece, _ in stdlib_packages.pieces((base / path).read_text(), "email"):
      assert (piece.encode(), "email") in texts[split]
