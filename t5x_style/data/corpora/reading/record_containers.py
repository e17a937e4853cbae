"""TFRecord and ArrayRecord files, whose records are tf.train.Examples or JSON objects."""

from __future__ import annotations

import contextlib
import functools
import io
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.data.corpora.reading import file_patterns, json_lines, text_reading
from t5x_style.data.corpora.reading.known_files import KnownFiles
from t5x_style.data.corpora.reading.record_reader import Range, Record
from t5x_style.data.corpora.reading.record_texts import Fields, LeftOutError, Note
from t5x_style.errors import UserError

_BUFFER = 2**17
_READ_AT_ONCE = 2**20  # bytes of records
_AGAIN = "Get the file again, or leave it out of CORPUS_FILES and VALIDATION_FILES."


class Containers:
  """What both formats have in common."""

  what, unit = "records", "record"
  objects = "tf.train.Examples or JSON objects"
  grow = False

  def __init__(self) -> None:
    self._json = json_lines.JsonLines()

  def check(self, file: str, fields: Fields, macro: str) -> None:
    """Every record has fields of its own."""

  def example(self, raw: bytes, fields: Fields, note: Note) -> Mapping[str, Any] | None:
    """Returns the features of a tf.train.Example, or the fields of a JSON object."""
    if raw.lstrip()[:1] == b"{":
      return self._json.example(raw, fields, note)
    from google.protobuf import message

    try:
      features = _example_class().FromString(raw).features.feature
    except message.DecodeError:
      features = None
    if not features:
      raise LeftOutError(f"are no {self.objects}", malformed=True)
    found: dict[str, Any] = dict.fromkeys(features)
    for name in (fields.text, fields.target):
      if name in found:
        found[name] = _value(features[name])
    return found

  def advice(self, file: str, raw: bytes) -> str:
    """Says what files may hold."""
    del file, raw
    return (
      "CORPUS_FILES must match files whose records are tf.train.Examples with the text as bytes, "
      "or JSON objects."
    )


def _value(feature: Any) -> Any:
  """Returns the one value of a feature; a list of several, or of none."""
  for kind in ("bytes_list", "int64_list", "float_list"):
    if feature.HasField(kind):
      values = getattr(feature, kind).value
      return values[0] if len(values) == 1 else list(values)
  return []


class TFRecords(Containers):
  """TFRecord files, also compressed; a position is an offset in the unpacked file."""

  def ranges(self, file: str, size: int) -> list[Range]:
    """Returns the whole file: where its records begin is not known before it is read."""
    del size
    for _ in self.records(file, Range(0, 1), Fields("")):  # Is it such a file?
      pass
    return [Range(0, None, file_patterns.size(file))]

  def records(
    self, file: str, where: Range, fields: Fields, known: KnownFiles | None = None
  ) -> Iterator[Record]:
    """Yields the records that begin in a range."""
    del fields
    advice = [text_reading.WHILE_RUNNING] * bool(known)
    with (
      text_reading.naming(file, *advice),
      text_reading.open_data(file, known, _BUFFER) as stream,
    ):
      stream.seek(where.start)
      position = where.start
      while where.end is None or position < where.end:
        raw = _next_record(stream, file, position)
        if raw is None:
          return
        yield Record(position, position := position + len(raw) + 16, raw)

  def number(self, file: str, position: int) -> int:
    """Returns the number of the record at a position, from 1; reads all before."""
    return 1 + sum(1 for _ in self.records(file, Range(0, position), Fields("")))

  def place(self, file: str, position: int) -> str:
    """Names a record, for messages."""
    return f"{file}, the record at byte {position:,}"


def begins_tfrecord(head: bytes) -> bool:
  """Returns whether 12 bytes are the length of a record, less than 4 GiB, and its checksum."""
  return len(head) == 12 and head[4:8] == bytes(4) and _is_checksum(head[8:], head[:8])


def _is_checksum(checksum: bytes, content: bytes) -> bool:
  try:
    import google_crc32c
  except ImportError as error:
    raise UserError(
      "TFRecord files are checked with a package that is not installed: pip install google-crc32c."
    ) from error
  crc = google_crc32c.value(content)
  return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF) == checksum


def _next_record(stream: io.BufferedReader, file: str, position: int) -> bytes | None:
  """Returns the next record; None at the end of the file.

  Raises:
    UserError: it is damaged.
  """
  head = stream.read(12)
  if not head:
    return None
  where = f"{file}: the record at byte {position:,}"
  if len(head) == 12 and not _is_checksum(head[8:], head[:8]):
    raise UserError(f"{where} is damaged: the checksum of its length differs. {_AGAIN}")
  length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else 0
  if length > text_reading.LARGEST_DOCUMENT:
    raise UserError(f"{where} has {length:,} bytes, too many for one document. {_AGAIN}")
  raw, checksum = stream.read(length), stream.read(4)
  if len(head) < 12 or len(raw) < length or len(checksum) < 4:
    raise UserError(f"{where} ends too early, so a part of the file is missing. {_AGAIN}")
  if not _is_checksum(checksum, raw):
    raise UserError(f"{where} is damaged: its checksum differs. {_AGAIN}")
  return raw


class ArrayRecords(Containers):
  """ArrayRecord files; a position is the number of a record, from 0."""

  def ranges(self, file: str, size: int) -> list[Range]:
    """Returns ranges of records."""
    with _naming(file):
      total = _opened(file).num_records()
    held = file_patterns.size(file)
    count = max(1, min(total, round(held / size)))
    return [
      Range(i * total // count, (i + 1) * total // count, held // count) for i in range(count)
    ]

  def records(
    self, file: str, where: Range, fields: Fields, known: KnownFiles | None = None
  ) -> Iterator[Record]:
    """Yields the records of a range."""
    del fields
    with _naming(file):
      reader = _opened(file)
      total = reader.num_records()
    at_once = max(1, _READ_AT_ONCE * total // max(1, file_patterns.size(file)))
    end = total if where.end is None else where.end
    for start in range(where.start, end, at_once):
      if known and not file_patterns.is_remote(file):
        known.check(file)
      with _naming(file, f", record {start + 1:,} or one of the {at_once:,} after it"):
        found = reader.read(start, min(start + at_once, end))
      for position, raw in enumerate(found, start):
        yield Record(position, position + 1, raw)

  def number(self, file: str, position: int) -> int:
    """Returns the number of a record, from 1."""
    del file
    return position + 1

  def place(self, file: str, position: int) -> str:
    """Names a record, for messages."""
    return f"{file}, record {position + 1:,}"


def _opened(file: str) -> Any:
  """Opens an ArrayRecord file; raises UserError if it cannot be read."""
  from array_record.python import array_record_module

  if file_patterns.is_remote(file) and not file.startswith("gs://"):
    raise UserError(
      f"{file}: ArrayRecord files are read from a local disk or gs:// only; copy them there."
    )
  options = "readahead_buffer_size:0,max_parallelism:0"
  reader = array_record_module.ArrayRecordReader(file, options=options)
  if not (reader.num_records() or reader.ok()):  # Of a file that was cut it says nothing else.
    raise UserError(f"{file}: its end is missing or damaged. {_AGAIN}")
  return reader


@contextlib.contextmanager
def _naming(file: str, place: str = "") -> Iterator[None]:
  """Turns errors of ArrayRecord's reader into a UserError."""
  try:
    yield
  except UserError:
    raise
  except (RuntimeError, ValueError, IndexError, OSError) as error:
    reason = (str(error) or type(error).__name__).splitlines()[0][:200]
    raise UserError(f"{file}{place}: it cannot be read ({reason}). {_AGAIN}") from error


@functools.cache
def _example_class() -> Any:
  """Returns the class of tf.train.Example, whose definition is part of the format of TFRecords."""
  from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

  field = descriptor_pb2.FieldDescriptorProto
  file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")

  def message(name: str, *fields: tuple[str, int, int, str]) -> Any:
    found = file.message_type.add(name=name)
    for number, (label, kind, repeated, type_name) in enumerate(fields, 1):
      found.field.add(
        name=label,
        number=number,
        type=kind,
        label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
        type_name=type_name or None,
      )
    return found

  message("BytesList", ("value", field.TYPE_BYTES, 1, ""))
  message("FloatList", ("value", field.TYPE_FLOAT, 1, ""))
  message("Int64List", ("value", field.TYPE_INT64, 1, ""))
  lists = {"bytes_list": "BytesList", "float_list": "FloatList", "int64_list": "Int64List"}
  one = message("Feature", *((name, field.TYPE_MESSAGE, 0, f".t.{x}") for name, x in lists.items()))
  one.oneof_decl.add(name="kind")
  for each in one.field:
    each.oneof_index = 0
  every = message("Features", ("feature", field.TYPE_MESSAGE, 1, ".t.Features.FeatureEntry"))
  entry = every.nested_type.add(name="FeatureEntry")
  entry.options.map_entry = True
  entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
  entry.field.add(
    name="value",
    number=2,
    type=field.TYPE_MESSAGE,
    label=field.LABEL_OPTIONAL,
    type_name=".t.Feature",
  )
  message("Example", ("features", field.TYPE_MESSAGE, 0, ".t.Features"))
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))
