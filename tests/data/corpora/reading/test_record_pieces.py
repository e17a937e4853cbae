"""The files of a cache that is half written: what was saved is kept, all after it is dropped."""

import json

import pytest

from t5x_style.data.corpora.reading.record_cache import RecordWriter

SHARDS = {"train": 3, "validation": 2}


def documents(count):
  return [("validation" if i % 7 == 3 else "train", b"document %d" % i) for i in range(count)]


def written(folder, shards=SHARDS):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(tmp_path):
  """What a writer that was not interrupted writes of 100 documents."""
  (tmp_path / "whole").mkdir()
  writer = RecordWriter(tmp_path / "whole", SHARDS)
  for document in documents(100):
    writer.add(*document)
  writer.close({})
  return written(tmp_path / "whole")


@pytest.mark.parametrize("stops", [[50], [10, 11, 90], [1, 1, 100]])
def test_writers_that_resume_write_what_one_writes(tmp_path, whole, stops):
  folder = tmp_path / "half"
  folder.mkdir()
  for stop in [*stops, 100]:
    writer = RecordWriter(folder, SHARDS)
    start = writer.state or 0
    for document in documents(100)[start:stop]:
      writer.add(*document)
    writer.save(stop)
    if stop < 100:
      writer.add("train", b"not saved any more")
      writer._writers["train"][stop % 3].flush()
  writer = RecordWriter(folder, SHARDS)
  assert writer.state == 100 and writer.documents == {"train": 86, "validation": 14}
  writer.close({})
  assert written(folder) == whole


@pytest.mark.parametrize("damage", ["cut", "no order", "no JSON"])
def test_what_does_not_fit_is_begun_again(tmp_path, damage):
  writer = RecordWriter(tmp_path, SHARDS)
  for document in documents(30):
    writer.add(*document)
  writer.save("state")
  if damage == "cut":
    piece = next(tmp_path.glob("train-00001*"))
    piece.write_bytes(piece.read_bytes()[:-5])
  elif damage == "no order":
    (tmp_path / "order").unlink()
  else:
    (tmp_path / "progress.json").write_text(json.dumps({}))
  again = RecordWriter(tmp_path, SHARDS)
  assert again.state is None and again.documents == {"train": 0, "validation": 0}
  assert not list(tmp_path.iterdir())
