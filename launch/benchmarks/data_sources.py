"""Reading the same documents from files of every format, for launch.benchmark data.

The files are written to a folder that is removed afterwards, so they are in the memory of the
operating system: what is measured is the processors' work, not a disk.
"""

import bz2
import contextlib
import gzip
import importlib
import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from t5x_style.data import corpora, text_samples
from t5x_style.data.corpora.base import Corpus
from t5x_style.data.tensorflow_setup import tf

_DOCUMENT_BYTES, _TOTAL_BYTES = 2000, 100_000_000
_SLOW_SHARE = 4  # bzip2 gets so much less: it takes ten times as long.


class Format(NamedTuple):
  """A format of files.

  Attributes:
    label: its name.
    write: writes documents to a folder.
    corpus: returns the corpus of such a folder.
    package: has to be installed; None: the package itself suffices.
    share: one in this many documents is written.
  """

  label: str
  write: Callable[[Path, Iterable[str]], None]
  corpus: Callable[[Path], Corpus]
  package: str | None = None
  share: int = 1


def documents(corpus: Corpus) -> list[str]:
  """Returns documents of one line of about 2,000 bytes, cut from the text of a corpus."""
  found: list[str] = []
  texts = list(text_samples.of_source(corpus.source(), "train", _TOTAL_BYTES))
  size = 0
  while size < _TOTAL_BYTES:
    for text in texts:
      line = " ".join(text.split())
      for start in range(0, len(line), _DOCUMENT_BYTES):
        found.append(f"{len(found)} {line[start : start + _DOCUMENT_BYTES]}")
        size += len(found[-1])
  return found


def reading(format_: Format, texts: Sequence[str], folder: Path) -> dict[str, Any]:
  """Writes documents and measures one pass over them, in the order of the files.

  Returns:
    Megabytes of text and documents per second, and the seconds until the first document.
  """
  kept = texts[:: format_.share]
  folder.mkdir()
  with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    format_.write(folder, kept)  # Some writers show their progress.
  start = time.perf_counter()
  dataset = format_.corpus(folder).source().get_dataset("train", shuffle=False)
  for _ in dataset.take(1):
    pass
  first = time.perf_counter() - start
  start = time.perf_counter()
  sizes = dataset.map(lambda document: tf.strings.length(document["text"])).batch(1024)
  count = total = 0
  for batch in sizes.prefetch(2).as_numpy_iterator():
    count, total = count + len(batch), total + int(batch.sum())
  seconds = time.perf_counter() - start
  if count != len(kept) or total != sum(len(text.encode()) for text in kept):
    raise AssertionError(f"{format_.label}: read {count} documents, not {len(kept)}")
  return {
    "megabytes_per_second": total / seconds / 1e6,
    "documents_per_second": count / seconds,
    "seconds_to_first": first,
  }


def missing(format_: Format) -> str:
  """Returns what is not installed for a format; "" if nothing is missing."""
  if format_.package:
    try:
      importlib.import_module(format_.package)
    except ImportError:
      return f"{format_.package} is not installed"
  return ""


def _jsonl(texts: Iterable[str]) -> bytes:
  return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def _text_lines(folder: Path, texts: Iterable[str]) -> None:
  (folder / "texts.txt").write_text("".join(f"{text}\n" for text in texts))


def _json_lines(folder: Path, texts: Iterable[str]) -> None:
  (folder / "texts.jsonl").write_bytes(_jsonl(texts))


def _json_lines_gzip(folder: Path, texts: Iterable[str]) -> None:
  (folder / "texts.jsonl.gz").write_bytes(gzip.compress(_jsonl(texts), 6))


def _json_lines_bzip2(folder: Path, texts: Iterable[str]) -> None:
  (folder / "texts.jsonl.bz2").write_bytes(bz2.compress(_jsonl(texts)))


def _json_lines_zstandard(folder: Path, texts: Iterable[str]) -> None:
  from backports import zstd

  (folder / "texts.jsonl.zst").write_bytes(zstd.compress(_jsonl(texts)))


def _parquet(folder: Path, texts: Iterable[str]) -> None:
  import pyarrow
  import pyarrow.parquet

  table = pyarrow.table({"text": list(texts)})
  pyarrow.parquet.write_table(table, folder / "texts.parquet", row_group_size=1024)


def _arrow(folder: Path, texts: Iterable[str]) -> None:
  import datasets

  datasets.Dataset.from_dict({"text": list(texts)}).save_to_disk(folder / "saved")


def _example(text: str) -> bytes:
  value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))
  return tf.train.Example(features=tf.train.Features(feature={"text": value})).SerializeToString()


def _tf_record(folder: Path, texts: Iterable[str]) -> None:
  with tf.io.TFRecordWriter(str(folder / "texts.tfrecord")) as writer:
    for text in texts:
      writer.write(_example(text))


def _array_record(folder: Path, texts: Iterable[str]) -> None:
  from array_record.python import array_record_module

  writer = array_record_module.ArrayRecordWriter(
    str(folder / "texts.array_record"), "group_size:64"
  )
  for text in texts:
    writer.write(_example(text))
  writer.close()


def _tfds(folder: Path, texts: Iterable[str]) -> None:
  import tensorflow_datasets as tfds

  tfds.dataset_builders.store_as_tfds_dataset(
    "benchmark",
    version="1.0.0",
    features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
    split_datasets={"train": tf.data.Dataset.from_tensor_slices({"text": list(texts)})},
    data_dir=str(folder),
  )


def _records(folder: Path) -> Corpus:
  return corpora.Records(str(folder), validation_fraction=0.0)


def _json(folder: Path) -> Corpus:
  return corpora.Jsonl(f"{folder}/*", validation_fraction=0.0)


FORMATS = (
  Format(
    "text lines",
    _text_lines,
    lambda folder: corpora.TextFiles(f"{folder}/*", documents="line", validation_fraction=0.0),
  ),
  Format("JSON lines", _json_lines, _json),
  Format("JSON lines, gzip", _json_lines_gzip, _json),
  Format("JSON lines, Zstandard", _json_lines_zstandard, _json, "backports.zstd"),
  Format("JSON lines, bzip2", _json_lines_bzip2, _json, share=_SLOW_SHARE),
  Format("Parquet", _parquet, _records, "pyarrow"),
  Format("Arrow, datasets.save_to_disk", _arrow, _records, "datasets"),
  Format("TFRecord", _tf_record, _records, "google_crc32c"),
  Format("ArrayRecord", _array_record, _records),
  Format(
    "TFDS",
    _tfds,
    lambda folder: corpora.Tfds("benchmark:1.0.0", str(folder), validation_split=None),
  ),
)
