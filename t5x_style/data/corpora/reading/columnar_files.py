"""Parquet files, and Arrow files such as those of datasets that Hugging Face saved to disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from t5x_style.data.corpora.reading import file_patterns, remote_files, text_reading
from t5x_style.data.corpora.reading.known_files import KnownFiles
from t5x_style.data.corpora.reading.record_reader import Range, Record
from t5x_style.data.corpora.reading.record_texts import Fields, Note
from t5x_style.errors import UserError

if TYPE_CHECKING:
  import pyarrow as pa
  from pyarrow import parquet

# About this many bytes of texts are decoded at once, and this many rows at most.
_DECODED_BYTES, _MOST_ROWS = 2**20, 1024
_BUFFER = 2**20  # bytes of a column that are read at once
_SHOWN = 12


class Columns:
  """What both formats have in common: rows, whose numbers from 0 are the positions."""

  what, unit, objects = "rows", "row", "rows"
  grow = False

  def check(self, file: str, fields: Fields, macro: str) -> None:
    """Raises UserError if a column is missing or holds no text; it names those that do."""
    import pyarrow as pa

    with _naming(file):
      schema = self._schema(file)
    texts = [column.name for column in schema if _is_text(column.type)]
    for name, field in ((macro, fields.text), ("TARGET_FIELD", fields.target)):
      if field is None:
        continue
      index = schema.get_field_index(field)
      found = None if index < 0 else schema.field(index).type
      label = (
        name == "TARGET_FIELD"
        and found
        and (
          pa.types.is_integer(found) or pa.types.is_boolean(found) or pa.types.is_floating(found)
        )
      )
      if not (found and (_is_text(found) or label)):
        shown = [*map(repr, texts[:_SHOWN]), *["..."] * (len(texts) > _SHOWN)]
        what = f"holds {found} and no text" if found else "does not exist"
        raise UserError(
          f"{file}: the column {name} = {field!r} {what}. Columns with text are "
          f"{', '.join(shown) or 'none'}; set {name} to one of them."
        )

  def example(self, raw: Mapping[str, Any], fields: Fields, note: Note) -> Mapping[str, Any]:
    """Returns the fields of a row."""
    del fields, note
    return raw

  def number(self, file: str, position: int) -> int:
    """Returns the number of a row, from 1."""
    del file
    return position + 1

  def place(self, file: str, position: int) -> str:
    """Names a row, for messages."""
    return f"{file}, row {position + 1:,}"

  def advice(self, file: str, raw: Any) -> str:
    """All rows have fields, so none is malformed."""
    raise NotImplementedError

  def _schema(self, file: str) -> pa.Schema:
    raise NotImplementedError


class Parquet(Columns):
  """Parquet files, which are read row group by row group, only the columns with the fields."""

  def ranges(self, file: str, size: int) -> list[Range]:
    """Returns ranges of whole row groups."""
    with _naming(file), _parquet(file) as opened:
      groups = [opened.metadata.row_group(i) for i in range(opened.metadata.num_row_groups)]
    found, start, row, held = [], 0, 0, 0
    for group in groups:
      if held and held + group.total_byte_size > size:
        found.append(Range(start, row, held))
        start, held = row, 0
      row, held = row + group.num_rows, held + group.total_byte_size
    return [*found, Range(start, row, held)]

  def records(
    self, file: str, where: Range, fields: Fields, known: KnownFiles | None = None
  ) -> Iterator[Record]:
    """Yields the rows of a range as {field: value}."""
    row, index, after = 0, 0, where.start

    def place() -> str:
      return f"{file}, row group {index}, after row {after:,}"

    with _naming(file, place, known), _parquet(file) as opened:
      for index in range(opened.metadata.num_row_groups):
        group = opened.metadata.row_group(index)
        before, row = row, row + group.num_rows
        if row <= where.start or (where.end is not None and before >= where.end):
          continue
        after = max(before, where.start)
        batches = opened.iter_batches(
          _rows_at_once(group), [index], _names(fields), use_threads=False
        )
        for record in _records(_checked(batches, file, known), before, where, fields):
          yield record
          after = record.after

  def place(self, file: str, position: int) -> str:
    """Names a row and its row group, for messages."""
    with contextlib.suppress(Exception), _parquet(file) as opened:
      row = 0
      for index in range(opened.metadata.num_row_groups):
        row += opened.metadata.row_group(index).num_rows
        if position < row:
          return f"{file}, row {position + 1:,} (in row group {index})"
    return super().place(file, position)

  def _schema(self, file: str) -> pa.Schema:
    with _parquet(file) as opened:
      return opened.schema_arrow


class Arrow(Columns):
  """Arrow's IPC files and streams, which are read from their start."""

  def ranges(self, file: str, size: int) -> list[Range]:
    """Returns the whole file: where its rows are is not known before it is read."""
    del size
    return [Range(0, None, file_patterns.size(file))]

  def records(
    self, file: str, where: Range, fields: Fields, known: KnownFiles | None = None
  ) -> Iterator[Record]:
    """Yields the rows of a range as {field: value}."""
    row = 0
    with (
      _naming(file, lambda: f"{file}, after row {row:,}", known),
      _arrow(file, _names(fields)) as batches,
    ):
      for batch in batches:
        before, row = row, row + batch.num_rows
        if where.end is not None and before >= where.end:
          break
        if row > where.start:
          yield from _records(_checked([batch], file, known), before, where, fields)

  def _schema(self, file: str) -> pa.Schema:
    with _arrow(file) as batches:
      return batches.schema


def _names(fields: Fields) -> list[str]:
  return [fields.text, *[fields.target] * (fields.target is not None)]  # type: ignore[list-item]


def _records(batches: Any, row: int, where: Range, fields: Fields) -> Iterator[Record]:
  """Yields those rows of batches, of which the first is number `row`, that are in a range."""
  for batch in batches:
    skipped = max(0, where.start - row)
    if skipped < batch.num_rows:
      names = _names(fields)
      columns = [_values(batch.column(name).slice(skipped)) for name in names]
      for index, values in enumerate(zip(*columns, strict=True), row + skipped):
        if where.end is not None and index >= where.end:
          return
        yield Record(index, index + 1, dict(zip(names, values, strict=True)))
    row += batch.num_rows


def _values(column: pa.Array) -> Sequence[Any]:
  """Returns the values of a column; texts as bytes, since they may not be UTF-8."""
  import pyarrow as pa

  if pa.types.is_dictionary(column.type):
    column = column.dictionary_decode()
  if _is_text(column.type):
    column = column.cast(pa.large_binary())
  return column.to_pylist()


def _is_text(kind: pa.DataType) -> bool:
  import pyarrow as pa

  if pa.types.is_dictionary(kind):
    kind = kind.value_type
  checks = ("is_string", "is_large_string", "is_string_view", "is_binary", "is_large_binary")
  return any(getattr(pa.types, check)(kind) for check in checks)


def _rows_at_once(group: parquet.RowGroupMetaData) -> int:
  size = max(1, group.total_byte_size // max(1, group.num_rows))
  return max(1, min(_MOST_ROWS, _DECODED_BYTES // size))


@contextlib.contextmanager
def _parquet(file: str) -> Iterator[parquet.ParquetFile]:
  from pyarrow import parquet

  with _source(file) as source:
    # Buffers are small, and a column is not read as a whole.
    with parquet.ParquetFile(
      source, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
    ) as opened:
      yield opened


@contextlib.contextmanager
def _arrow(file: str, names: Sequence[str] = ()) -> Iterator[Any]:
  """Opens the batches of a file, with only the columns `names` if there are any."""
  from pyarrow import ipc

  options = ipc.IpcReadOptions()
  if names:
    with _arrow(file) as every:
      fields = [every.schema.get_field_index(name) for name in names]
    options = ipc.IpcReadOptions(included_fields=fields)
  with _source(file) as source:
    as_file = source.read(6) == b"ARROW1"
    source.seek(0)
    if as_file:
      yield _Batches(ipc.open_file(source, options=options))
    else:
      yield ipc.open_stream(source, options=options)


class _Batches:
  """The batches of a file of Arrow, one after another."""

  def __init__(self, opened: Any):
    self._opened, self.schema = opened, opened.schema

  def __iter__(self) -> Iterator[pa.RecordBatch]:
    for index in range(self._opened.num_record_batches):
      yield self._opened.get_batch(index)


@contextlib.contextmanager
def _source(file: str) -> Iterator[Any]:
  """Opens a file for pyarrow; not as a map of memory, which ends the process if a file is cut."""
  import pyarrow as pa

  if not file_patterns.is_remote(file):
    with pa.OSFile(file) as source:
      yield source
    return
  with remote_files.open_file(file) as opened, pa.PythonFile(opened, "r") as source:
    yield source


def _checked(batches: Iterable[Any], file: str, known: KnownFiles | None) -> Iterator[Any]:
  """Yields batches, and checks after each that the file is still as a run knows it."""
  for batch in batches:
    if known and not file_patterns.is_remote(file):
      known.check(file)
    yield batch


@contextlib.contextmanager
def _naming(
  file: str, place: Callable[[], str] | None = None, known: KnownFiles | None = None
) -> Iterator[None]:
  """Turns errors of pyarrow into a UserError; `place` says where it was reading."""
  import pyarrow as pa

  advice = [text_reading.WHILE_RUNNING] * bool(known)
  try:
    with text_reading.naming(file, *advice):
      try:
        yield
      except OSError as error:
        if error.errno is None:  # pyarrow's own
          raise pa.ArrowInvalid(str(error)) from error
        raise
  except pa.ArrowException as error:
    reason = str(error).splitlines()[0]
    raise UserError(
      f"{place() if place else file}: the data is damaged ({reason}). Get the file again, or leave "
      "it out of CORPUS_FILES and VALIDATION_FILES."
    ) from error
