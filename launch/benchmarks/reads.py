"""Random reads of ArrayRecord files: group sizes, compression, threads, Grain, and token caches.

Records hold token ids with the frequencies of Zipf's law, 2 bytes each; the files are in the page
cache. The columns are records a second: one at a time, by one and two threads; eight that follow
each other; one at a time by reader.read([number]), whose time grows with the groups of the file.
Windows of the documents of a token cache, joined by EOS, are measured in tokens.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python import array_record_module

from t5x_style.token_cache import shard_writer
from t5x_style.token_cache.shard import Shard
from t5x_style.token_cache.shard_writer import Stored

_RECORDS = ((200, 200_000), (2000, 50_000))  # bytes of a record, records of a file
_GROUPS = (1, 4, 16, 256)
_SECONDS = 0.7  # for a figure
_IDS = 32_000
_WINDOWS = (512, 2048)

LABELS = (
  *(f"group size {g}{packed}" for g in _GROUPS for packed in ("", ", zstd")),
  "Grain's source, group size 1",
  *(f"token cache, windows of {n} tokens" for n in _WINDOWS),
)
COLUMNS = {
  "one": ("one/s", ",.0f"),
  "two_threads": ("2 threads", ",.0f"),
  "eight": ("8 in a row", ",.0f"),
  "listed": ("[one]/s", ",.0f"),
  "tokens": ("M tokens/s", ".1f"),
  "open_ms": ("open ms", ".1f"),
  "megabytes": ("MB", ".1f"),
}

Read = Callable[[np.random.Generator], int]  # returns how many records it read


def measure() -> Iterator[dict[str, Any]]:
  """Yields the rows."""
  for size, count in _RECORDS:
    group = f"{count:,} records of {size:,} bytes"
    with tempfile.TemporaryDirectory() as folder:
      for row in _of_size(Path(folder), size, count):
        yield {"group": group, **row}


def _of_size(folder: Path, size: int, count: int) -> Iterator[dict[str, Any]]:
  random = np.random.default_rng(0)
  ids = np.minimum(random.zipf(1.2, count * size // 2), _IDS).astype("<u2").reshape(count, -1)
  for group in _GROUPS:
    for packing, packed in (("uncompressed", ""), ("zstd:3", ", zstd")):
      file = folder / f"{group}{packed}"
      writer = array_record_module.ArrayRecordWriter(str(file), f"group_size:{group},{packing}")
      for row in ids:
        writer.write(row.tobytes())
      writer.close()
      yield {"label": f"group size {group}{packed}", **_file(file, count)}
  yield {"label": "Grain's source, group size 1", **_grain(folder / "1", count)}
  dtype = np.dtype("<u2")
  documents = (Stored(row, None, 0, number) for number, row in enumerate(ids))
  facts = shard_writer.write(folder, "cache", documents, dtype)
  files = folder / facts.record_file.name, folder / facts.index_file.name
  for length in _WINDOWS:
    yield {
      "label": f"token cache, windows of {length} tokens",
      "tokens": _windows(Shard(*files, dtype, 1, False), length),
    }


def _file(file: Path, count: int) -> dict[str, float]:
  start = time.perf_counter()
  reader = array_record_module.ArrayRecordReader(str(file), options="readahead_buffer_size:16M")
  opened = time.perf_counter() - start
  listing = array_record_module.ArrayRecordReader(
    str(file), options="readahead_buffer_size:0,max_parallelism:0"
  )

  def read(number: int) -> Read:
    def some(random: np.random.Generator) -> int:
      first = int(random.integers(count - number))
      return len(reader.read(first, first + number))

    return some

  return {
    "one": _rate(read(1)),
    "two_threads": _rate(read(1), threads=2),
    "eight": _rate(read(8)),
    "listed": _rate(lambda random: len(listing.read([int(random.integers(count))]))),
    "open_ms": 1e3 * opened,
    "megabytes": file.stat().st_size / 1e6,
  }


def _grain(file: Path, count: int) -> dict[str, float]:
  import grain

  start = time.perf_counter()
  source = grain.sources.ArrayRecordDataSource([str(file)])
  opened = time.perf_counter() - start

  def one(random: np.random.Generator) -> int:
    return 1 if source[int(random.integers(count))] else 0

  return {"one": _rate(one), "two_threads": _rate(one, threads=2), "open_ms": 1e3 * opened}


def _windows(shard: Shard, length: int) -> float:
  """Returns the million tokens a second of windows of the joined stream."""

  def one(random: np.random.Generator) -> int:
    start = int(random.integers(shard.joined - length))
    return len(shard.tokens_between(start, start + length)[0])

  return _rate(one) / 1e6


def _rate(read: Read, threads: int = 1) -> float:
  """Returns how many records are read a second."""
  counts = [0] * threads
  start = time.monotonic()

  def work(number: int) -> None:
    random = np.random.default_rng(number)
    while time.monotonic() - start < _SECONDS:
      counts[number] += read(random)

  workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
  for worker in workers:
    worker.start()
  for worker in workers:
    worker.join()
  return sum(counts) / (time.monotonic() - start)
