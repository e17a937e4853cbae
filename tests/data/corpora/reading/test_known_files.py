"""Files that change while a run reads them: touched, grown, cut, replaced, deleted."""

import gzip
import os
import warnings

import pytest

from t5x_style.data import corpora, iterator
from t5x_style.data.corpora.reading import known_files
from t5x_style.data.corpora.reading.known_files import KnownFiles
from t5x_style.errors import UserError


@pytest.fixture
def file(tmp_path):
  """A file of 300,000 bytes, more than its three samples."""
  path = tmp_path / "folder" / "a.txt"
  path.parent.mkdir()
  path.write_bytes(b"".join(b"line %05d\n" % i for i in range(25_000)))
  return path


def replaced(path, content):
  """Writes a new file and renames it over the old one, as editors and rsync do."""
  path.with_suffix(".new").write_bytes(content)
  path.with_suffix(".new").rename(path)


def test_a_file_that_was_only_touched_or_copied_is_the_same(file, recwarn):
  known = KnownFiles([str(file)])
  known.check(str(file))
  os.utime(file, (1, 1))
  known.check(str(file))
  replaced(file, file.read_bytes())
  known.check(str(file))
  assert known.changed() == {} and not recwarn.list


def test_no_files_are_known_of_a_corpus_that_is_only_in_buckets():
  known = KnownFiles([], sampled=False)
  known.check_all()
  assert (known.listing, known.changed()) == ({}, {})


def test_a_file_that_has_grown_is_read_up_to_its_former_size(file):
  before = file.read_bytes()
  known = KnownFiles([str(file)])
  with file.open("ab") as f:
    f.write(b"more\n")
  with pytest.warns(
    UserWarning, match=r"a.txt has grown from 275,000 to 275,005 .* truncate -s 275"
  ):
    known.check(str(file))
  with file.open("ab") as f:
    f.write(b"even more\n")
  with warnings.catch_warnings():
    warnings.simplefilter("error")  # It warns once.
    known.check(str(file))
  assert known.size(str(file)) == len(before)
  with known_files.KnownPart(str(file), known) as part:
    assert part.readall() == before
    part.seek(len(before) - 5)
    assert part.read(100) == before[-5:]
    assert part.read(100) == b""


@pytest.mark.parametrize(
  "change, message",
  {
    "cut": (lambda path: os.truncate(path, 1000), "has 1,000 bytes, and had 275,000"),
    "other text of the same size": (
      lambda path: replaced(path, path.read_bytes()[::-1]),
      "has another text",
    ),
    "longer, but another text": (lambda path: replaced(path, b"x" * 300_000), "has another text"),
  }.values(),
)
def test_a_file_that_has_changed_is_refused(file, change, message):
  known = KnownFiles([str(file)])
  change(file)
  with pytest.raises(UserError, match=f"a.txt has changed since the run started: it {message}"):
    known.check(str(file))
  assert list(known.changed()) == [str(file)]


def test_changes_are_found_without_reading_and_reported_once(file):
  known = KnownFiles([str(file)])
  file.unlink()
  assert known.changed() == {str(file): "it cannot be read (No such file or directory)"}
  with pytest.warns(UserWarning, match="a.txt has changed .* Then this follows."):
    known.warn_of_changes("Then this follows.")
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    known.warn_of_changes("Then this follows.")


def test_the_listing_names_files_below_their_common_folder(file):
  other = file.parent / "deeper" / "b.txt"
  other.parent.mkdir()
  other.write_text("text")
  listing = KnownFiles([str(file), str(other)]).listing
  assert {name: size for name, (size, _) in listing.items()} == {
    "a.txt": 275_000,
    "deeper/b.txt": 4,
  }
  checksums = [checksum for _, checksum in listing.values()]
  moved = file.parent.rename(file.parent.parent / "moved")
  again = KnownFiles([str(moved / "a.txt"), str(moved / "deeper" / "b.txt")]).listing
  assert [checksum for _, checksum in again.values()] == checksums
  assert len(set(checksums)) == 2


@pytest.mark.parametrize(
  ("documents", "packed"),
  [
    ("file", False),
    ("file", True),
    *(pytest.param("line", packed, marks=pytest.mark.slow) for packed in (False, True)),
  ],
)
def test_text_is_read_only_as_the_run_found_it(tmp_path, documents, packed):
  second = tmp_path / "1.txt"
  lines = [b"line %05d\n" % i for i in range(40_000)]
  pack = gzip.compress if packed else bytes
  content = pack(b"".join(lines))
  for path in (tmp_path / "0.txt", second):
    path.write_bytes(content)

  def read(changed):
    """Returns the text that is read if the second file changes after the run has started."""
    second.write_bytes(content)
    source = corpora.TextFiles(f"{tmp_path}/*.txt", documents, validation_fraction=0).source()
    second.write_bytes(changed)
    running = iterator.arrays(source.get_dataset("train", shuffle=False))
    return [document["text"] for document in running]

  expected = read(content)
  for changed in (content[: len(content) // 2], pack(b"".join(lines[::-1]))):
    with pytest.raises(UserError, match="1.txt has changed since the run started"):
      read(changed)
  with pytest.warns(UserWarning, match="1.txt has grown"):
    assert read(content + pack(b"one more line\n")) == expected


def test_one_warning_is_enough_for_many_files(tmp_path):
  files = [tmp_path / f"{i}.txt" for i in range(30)]
  for file in files:
    file.write_text("some text")
  known = KnownFiles([str(file) for file in files])
  for file in files:
    file.write_text("cut")
  with pytest.warns(UserWarning) as warned:
    known.warn_of_changes("The run ends.")
    known.warn_of_changes("The run ends.")
  (one,) = warned
  assert "0.txt has changed" in str(one.message)
  assert "29 other files have changed, too. The run ends." in str(one.message)


def test_large_files_are_sampled_at_both_ends_and_in_the_middle(tmp_path):
  file = tmp_path / "a"
  file.write_bytes(bytes(10**6))
  size = 10**6
  digests = {known_files.digest({"train": [str(file)]})}
  for place in (0, size // 2, size - 1):
    content = bytearray(size)
    content[place] = 1
    file.write_bytes(content)
    digests.add(known_files.digest({"train": [str(file)]}))
  assert len(digests) == 4
