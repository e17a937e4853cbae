"""Lines of text files that are documents, in blocks.

A block depends only on the offset it starts at, so positions in a file can be saved exactly.
TensorFlow's own reader of lines drops all carriage returns, and does not notice that the end of
gzip data is missing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from t5x_style.data.corpora.reading import file_patterns, text_reading
from t5x_style.data.corpora.reading.parts import Document, LineNumbers, Part
from t5x_style.data.corpora.reading.text_lengths import Lengths

# Lines are read in blocks of about this many bytes: enough to hide the cost of a call, few enough
# to keep saved positions small, which contain the rest of a block.
BLOCK_BYTES = 65_536
# A hash with this many values decides which lines are held out.
BUCKETS = 1_000_000
# Longer files are read in parts of about this many bytes.
_PART_BYTES = 2**25
_LINE_NUMBERS = LineNumbers()


def next_block(stream: io.BufferedReader) -> bytes:
  """Reads whole lines, or about LONGEST_DOCUMENT bytes of a line; b"" at the end of the file."""
  block = stream.read(BLOCK_BYTES)
  if block and not block.endswith(b"\n"):
    block += text_reading.rest_of_line(stream)
  return block


def lines_of(block: bytes) -> list[bytes]:
  """Returns the lines of a block, without their ends; the last one is b"" if the block ends one."""
  return block.replace(b"\r\n", b"\n").split(b"\n")


def parts(files: Sequence[str], split: str | None) -> Iterator[Part]:
  """Yields the parts of files of lines; large files that are not compressed have several."""
  for file in files:
    starts, size = [0], file_patterns.size(file)
    if size > _PART_BYTES:
      with text_reading.naming(file), text_reading.open_text(file) as stream:
        if not text_reading.packed_as(stream):
          starts = _starts(stream)
    yield from (
      Part(split, file, start, end, (size if end is None else end) - start)
      for start, end in zip(starts, [*starts[1:], None], strict=True)
    )


def _starts(stream: io.BufferedReader) -> list[int]:
  """Returns offsets of blocks: those that are reached from the start, so that all lines are cut
  where a reader of the whole file cuts them."""
  starts = [0]
  while next_block(stream):
    if stream.tell() - starts[-1] >= _PART_BYTES:
      starts.append(stream.tell())
  return starts[:-1] if starts[-1] == stream.tell() > 0 else starts


def read(part: Part, held_out: float | None, lengths: Lengths) -> Iterator[Document]:
  """Yields the lines of a part that are not blank.

  Args:
    held_out: the share of the lines that belongs to "validation", if the part has no split.
    lengths: of the lines that are read.
  """
  with text_reading.naming(part.file), text_reading.open_text(part.file, part.start) as stream:
    number = 1 + _LINE_NUMBERS.before(part.file, part.start)
    while (part.end is None or stream.tell() < part.end) and (block := next_block(stream)):
      for index, line in enumerate(lines_of(block)):
        if line.strip() and line in lengths:
          split = part.split or split_of(line, held_out or 0)
          yield Document(split, line, None, part.file, number + index)
      number += block.count(b"\n")


def split_of(line: bytes, held_out: float) -> str:
  """Returns "validation" for a share of the lines, as tf.strings.to_hash_bucket_fast decides."""
  import farmhash

  bucket = farmhash.Fingerprint64(line) % BUCKETS
  return "validation" if bucket < round(held_out * BUCKETS) else "train"


def read_whole(part: Part, lengths: Lengths) -> Iterator[Document]:
  """Yields the one document of a part that is a file, if it has one of the lengths."""
  assert part.split is not None
  text = text_reading.read_document(part.file)
  if text in lengths:
    yield Document(part.split, text, None, part.file, 0)
