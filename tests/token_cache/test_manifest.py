"""What is no finished token cache of this version is refused, with the reason."""

import json

import numpy as np
import pytest

from t5x_style import token_cache
from t5x_style.errors import UserError
from t5x_style.token_cache import manifest
from tests import token_caches


@pytest.fixture
def folder(tmp_path):
  token_caches.make(tmp_path / "cache", {"train": [np.array([5, 6])]}, shards=1)
  return tmp_path / "cache"


def edit(folder, **changes):
  file = folder / manifest.FILE
  file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_it_is_read_as_it_was_written(folder):
  found = manifest.read(folder)
  again = manifest.Manifest(**vars(found))
  again.write(folder)
  assert manifest.read(folder) == found
  assert found.vocabulary["eos_id"] == 1 and found.splits["train"][0].documents == 1


def test_places_without_a_cache(tmp_path, folder):
  for place, reason in (
    (tmp_path / "none", "there is no token cache .*none; make it"),
    (folder / manifest.FILE, "is a file, and a token cache is a folder"),
    (tmp_path, r"is no token cache: it has no manifest\.json, only cache"),
    ("gs://bucket/cache", "gs://bucket/cache is no local path.*gcsfuse"),
  ):
    with pytest.raises(UserError, match=reason):
      token_cache.open(place)


def test_an_unfinished_cache(folder):
  (folder / manifest.FILE).unlink()
  (folder / manifest.UNFINISHED).mkdir()
  with pytest.raises(UserError, match="is not finished.*Start the same command again"):
    token_cache.open(folder)


def test_other_versions_and_formats(folder):
  edit(folder, version=manifest.VERSION + 1)
  with pytest.raises(UserError, match="has version 2 of the format, and this package reads up to"):
    token_cache.open(folder)
  edit(folder, format="another")
  with pytest.raises(UserError, match="its format is 'another'"):
    token_cache.open(folder)


def test_a_damaged_manifest(folder):
  edit(folder, targets=True)
  with pytest.raises(UserError, match="has been changed since it was written"):
    token_cache.open(folder)
  for text in ('{"format": ', "[]", '{"format": "x"}'):
    (folder / manifest.FILE).write_text(text)
    with pytest.raises(UserError, match="is damaged, or not that of a token cache"):
      token_cache.open(folder)


def test_another_vocabulary_is_refused(folder):
  cache = token_cache.open(folder)
  cache.check_vocabulary({"name": "bytes"})
  cache.check_vocabulary({"name": "another name of the file"})
  with pytest.raises(
    UserError, match=r"VOCABULARY \(x\.model\) is not .* sha256 is '12', there None"
  ):
    cache.check_vocabulary({"name": "x.model", "sha256": "12"})
