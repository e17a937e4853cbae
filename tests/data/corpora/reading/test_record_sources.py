"""Records that are streamed: small and exact positions, shuffled parts, warnings with counts."""

import gzip
import json
import warnings

import pytest
import seqio

from t5x_style.data import corpora, iterator
from t5x_style.data.corpora.reading import kept_open, record_files, record_sources
from t5x_style.errors import UserError


def write_lines(path, lines, pack=bytes):
  path.write_bytes(pack(b"".join(json.dumps(line).encode() + b"\n" for line in lines)))


@pytest.mark.parametrize("kept", [0, 512])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_position_is_small_and_exact(tmp_path, numbered, monkeypatch, pack, kept):
  """Whatever is kept open, and whatever else reads the files."""
  monkeypatch.setattr(kept_open, "MOST", kept)
  for i in range(4):
    lines = [{"text": f"{i} {line}"} for line in numbered(400, bits=8000)]
    write_lines(tmp_path / f"{i}.jsonl", lines, pack)
  source = corpora.Jsonl(str(tmp_path), validation_fraction=0).source()

  def new():
    return iterator.Stream(iterator.with_options(source.get_dataset("train", seed=3)))

  first, other = new(), new()
  for _ in range(300):
    assert next(first) == next(other)
  state = first.get_state()
  assert len(state) < 2**21
  expected = [next(first)["text"] for _ in range(1300)]
  second = new()
  second.set_state(state)
  assert [next(second)["text"] for _ in range(1300)] == expected
  assert len(set(expected)) == 1300


def test_one_file_is_read_from_many_places(tmp_path, numbered):
  """So examples that are sorted, e.g. by their labels, do not come sorted."""
  texts = numbered(6000)
  labels = ["first"] * 3000 + ["second"] * 3000
  lines = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
  write_lines(tmp_path / "a.jsonl", lines)
  corpus = corpora.Jsonl(str(tmp_path), target_field="label", validation_fraction=0)
  source = corpus.source()
  assert len(source.list_shards("train")) > 8
  dataset = source.get_dataset("train", seed=1)
  examples = list(iterator.arrays(dataset))
  assert 700 < sum(example["target"] == b"first" for example in examples[:2000]) < 1300
  assert sorted(e["text"].decode() for e in examples) == sorted(texts)
  assert corpus.targets() == {"train": {"first": 3000, "second": 3000}}
  shards = [source.get_dataset("train", shard_info=seqio.ShardInfo(i, 2)) for i in range(2)]
  assert sum(len(list(iterator.arrays(shard))) for shard in shards) == 6000


def test_what_is_left_out_later_is_counted_and_warned_of(tmp_path, numbered, monkeypatch):
  """Beyond the records that are looked at first; again when they are ten times as many."""
  monkeypatch.setattr(record_files, "_CHECKED_BYTES", 0)
  monkeypatch.setattr(record_files, "_LEAST_CHECKED", 10_000)
  lines = [{"text": line} for line in numbered(4000)]
  for i in range(2000, 2030):
    lines[i] = {"txt": "x"}
  lines[3000] = {"text": "half \ud83d"}
  write_lines(tmp_path / "a.jsonl", lines)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    source = corpora.Jsonl(str(tmp_path), validation_fraction=0).source()
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):  # A second epoch counts nothing again.
      assert len(list(iterator.arrays(source.get_dataset("train", seed=0)))) == 3970
  messages = [str(warning.message) for warning in caught]
  left_out = [message for message in messages if "are left out" in message]
  assert 1 <= len(left_out) <= 2 and "have no field 'text'. The last one is" in left_out[0]
  (changed,) = (message for message in messages if "halves of characters" in message)
  assert changed.endswith(f"the first is {tmp_path}/a.jsonl:3001.")


def test_damage_in_the_middle_is_named_while_training(tmp_path, numbered, monkeypatch):
  monkeypatch.setattr("t5x_style.data.corpora.reading.text_checks._UNPACKED_BYTES", 0)
  monkeypatch.setattr(record_files, "_CHECKED_BYTES", 0)
  members = []
  for i in range(3):
    write_lines(tmp_path / "a", [{"text": f"{i} {line}"} for line in numbered(2000)], gzip.compress)
    members.append((tmp_path / "a").read_bytes())
  content = bytearray(b"".join(members))
  content[len(content) // 2] ^= 0x55
  (tmp_path / "a.jsonl.gz").write_bytes(content)
  source = corpora.Jsonl(str(tmp_path / "*.gz"), validation_fraction=0).source()
  running = iterator.arrays(source.get_dataset("train", seed=0))
  count = 0
  with pytest.raises(UserError, match=r"a.jsonl.gz: its gzip data is .* after [\d,]+ bytes of its"):
    for _ in running:
      count += 1
  assert count > 2000


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_file_that_changes_while_it_is_read(tmp_path, numbered, name):
  import pyarrow
  from pyarrow import parquet

  texts = numbered(3000)

  def write(texts):
    if name == "a.jsonl":
      write_lines(tmp_path / name, [{"text": text} for text in texts])
    else:
      parquet.write_table(pyarrow.table({"text": texts}), tmp_path / name, row_group_size=500)

  write(texts)
  source = corpora.Records(str(tmp_path), validation_fraction=0).source()
  write(texts[::-1])
  with pytest.raises(UserError, match=f"{name} has changed since the run started: it has"):
    list(iterator.arrays(source.get_dataset("train", seed=0)))


def test_parts_depend_on_the_size_of_the_corpus(tmp_path):
  for count in (0, 1000, 4000):
    write_lines(tmp_path / "a.jsonl", [{"text": "x" * 1000}] * count)
    files = record_files.RecordFiles(
      {"train": [str(tmp_path / "a.jsonl")]}, record_files.Fields("text"), 0.1, "JSON_FIELD"
    )
    parts = record_sources.parts_by_split(files)
    assert parts["train"] == parts["validation"]
    assert len(parts["train"]) == max(1, round(count * 1013 / 65_536))
