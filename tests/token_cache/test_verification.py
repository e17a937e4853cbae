"""A cache with a missing, cut, changed or swapped file is refused, and the file is named."""

import os
import shutil

import numpy as np
import pytest

from t5x_style import token_cache
from t5x_style.errors import UserError
from t5x_style.token_cache import manifest, verification
from tests import token_caches

SHARDS = [f"train-{k:05d}-of-00003" for k in range(3)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  random = np.random.default_rng(0)
  documents = [random.integers(3, 259, 3000) for _ in range(60)]
  folder = tmp_path_factory.mktemp("whole") / "cache"
  token_caches.make(folder, {"train": documents}, shards=3)
  return folder


@pytest.fixture
def folder(whole, tmp_path):
  return shutil.copytree(whole, tmp_path / "cache")


def refused(folder, match):
  with pytest.raises(UserError, match=match) as error:
    token_cache.open(folder)
  return str(error.value)


def test_a_whole_cache_is_opened(folder):
  cache = token_cache.open(folder)
  seen = []
  verification.check_content(folder, cache.manifest, seen.append)
  files = {x.relative_to(folder).as_posix() for x in folder.rglob("*") if x.is_file()}
  assert {facts.name for facts in seen} == files - {"manifest.json"} and len(files) == 9


def test_a_missing_file(folder):
  (folder / f"{SHARDS[1]}.array_record").unlink()
  message = refused(folder, f"is damaged.*\n  {SHARDS[1]}.array_record is missing")
  assert message.count("\n") == 1 and "make it again" in message


def test_a_file_that_was_cut(folder):
  file = folder / f"{SHARDS[2]}.array_record"
  size = file.stat().st_size
  os.truncate(file, size - 1)
  refused(folder, rf"{file.name} has {size - 1:,} bytes, and {size:,} were written")


@pytest.mark.parametrize("kind", ["array_record", "index"])
def test_shards_in_each_other_s_place(folder, kind):
  """Both have the same size."""
  a, b = (folder / f"{name}.{kind}" for name in SHARDS[:2])
  assert a.stat().st_size == b.stat().st_size
  a.rename(folder / "x")
  b.rename(a)
  (folder / "x").rename(b)
  message = refused(folder, "has other content than was written, perhaps that of another file")
  assert a.name in message and b.name in message


def test_a_changed_byte_anywhere_is_found_by_the_whole_check(folder):
  file = folder / f"{SHARDS[0]}.array_record"
  content = bytearray(file.read_bytes())
  content[20_000] ^= 1
  file.write_bytes(content)
  cache = token_cache.open(folder)  # No sample is there.
  with pytest.raises(UserError, match=f"{SHARDS[0]}.array_record has other.*SHA-256 differs"):
    verification.check_content(folder, cache.manifest)


def test_an_index_that_does_not_fit_its_records(folder):
  """As a faulty writer would leave it, with the right checksums."""
  cache = token_cache.open(folder)
  file = folder / f"{SHARDS[0]}.index"
  index = np.load(file)
  index[1, -1] += 1
  with file.open("wb") as out:
    np.save(out, index)
  (first, *others) = cache.manifest.splits["train"]
  first = first._replace(index_file=verification.facts_of(file, folder))
  changed = manifest.Manifest(**{**vars(cache.manifest), "splits": {"train": (first, *others)}})
  with pytest.raises(UserError, match=f"{SHARDS[0]} of .*its index does not fit its records"):
    verification.check_content(folder, changed)
