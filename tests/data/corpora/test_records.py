"""Records as a corpus: formats side by side, lengths, targets, fingerprints."""

import json

import pyarrow as pa
from pyarrow import parquet

from t5x_style.data import corpora, iterator


def write(folder, texts):
  """Writes half of the texts as JSON lines and half as Parquet."""
  folder.mkdir()
  half = len(texts) // 2
  lines = [json.dumps({"text": text, "label": len(text)}) for text in texts[:half]]
  (folder / "a.jsonl").write_text("\n".join(lines))
  rest = texts[half:]
  table = pa.table({"text": rest, "label": [len(text) for text in rest]})
  parquet.write_table(table, folder / "b.parquet", row_group_size=7)
  return str(folder)


def test_several_formats_lengths_and_targets(tmp_path):
  texts = ["x" * (i % 30 + 1) for i in range(200)]
  corpus = corpora.Records(
    write(tmp_path / "a", texts),
    target_field="label",
    min_characters=5,
    max_characters=20,
    validation_fraction=0,
  )
  examples = list(iterator.arrays(corpus.source().get_dataset("train", shuffle=False)))
  expected = [text.encode() for text in texts if 5 <= len(text) <= 20]
  assert sorted(example["text"] for example in examples) == sorted(expected)
  assert all(int(example["target"]) == len(example["text"]) for example in examples)


def test_the_fingerprint_follows_texts_and_settings_and_not_the_place(tmp_path):
  texts = [f"text {i}" for i in range(50)]
  folder = write(tmp_path / "a", texts)
  corpus = corpora.Records(folder)
  others = [
    corpora.Records(folder, "label"),
    corpora.Records(folder, target_field="label"),
    corpora.Records(folder, min_characters=1),
    corpora.Records(folder, validation_fraction=0.1),
    corpora.Records(write(tmp_path / "b", [*texts[:-1], "text x"])),
  ]
  assert len({corpus.fingerprint(), *(other.fingerprint() for other in others)}) == 6
  (tmp_path / "a").rename(tmp_path / "moved")
  moved = corpora.Records(str(tmp_path / "moved"))
  assert moved.fingerprint() != others[-1].fingerprint()
  assert moved.fingerprint() == corpora.Records(str(tmp_path / "moved/*")).fingerprint()
