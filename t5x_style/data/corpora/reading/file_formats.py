"""Recognises by its bytes whether a file is UTF-8 text, gzip data, or in a format to convert."""

from __future__ import annotations

import codecs
import re
import unicodedata
from typing import NamedTuple

GZIP = b"\x1f\x8b"
BYTE_ORDER_MARK = codecs.BOM_UTF8

_AS_RECORDS = "Read it with 'data/records.gin' instead"
# Formats of corpora by their first bytes, and how to convert them to text; {} is the file.
_FORMATS = tuple(
  (re.compile(magic, re.DOTALL), name, advice)
  for magic, name, advice in (
    (rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", "Zstandard data", "Unpack it: zstd -d {}"),
    (rb"\x1f\x8b", "gzip data, compressed twice", "Unpack it once with gzip -d"),
    (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", "bzip2 data", "Unpack it: bzip2 -dk {}"),
    (rb"\xfd7zXZ\x00", "xz data", "Unpack it: xz -dk {}"),
    (rb"\x5d\x00\x00.{2}", "LZMA data", "Unpack it: xz -dk {}"),
    (rb"\x04\x22\x4d\x18|\x02\x21\x4c\x18", "LZ4 data", "Unpack it: lz4 -d {}"),
    (rb"LZIP\x01", "lzip data", "Unpack it: lzip -dk {}"),
    (rb"\x1f[\x9d\xa0]", "data of compress", "Unpack it: gzip -dk {}"),
    (rb"\xff\x06\x00\x00sNaPpY", "Snappy data", "Unpack it"),
    (rb"PK(\x03\x04|\x05\x06|\x07\x08)", "a ZIP archive", "Unpack it: unzip {}"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it: 7z x {}"),
    (rb"Rar!\x1a\x07", "a RAR archive", "Unpack it: unrar x {}"),
    (rb".{257}ustar", "a tar archive", "Unpack it: tar -xf {}"),
    (
      rb"version https://git-lfs\.github\.com/",
      "a pointer of Git LFS and not the file itself",
      "Fetch that: git lfs pull",
    ),
    (
      rb"PAR[1E][^\t\n\r -~]",
      "Parquet",
      _AS_RECORDS,
    ),
    (
      rb"(ARROW|FEA)1\x00|\xff{4}.{2}\x00\x00",
      "Arrow data",
      _AS_RECORDS,
    ),
    (rb"ORC[^\t\n\r -~]", "ORC", "Write its text to JSON lines (pandas.read_orc, to_json)"),
    (rb"Obj\x01", "Avro", "Write its text to JSON lines (fastavro)"),
    (rb"\x89HDF\r\n\x1a\n", "HDF5", "Write its text to files of text"),
    (rb"SQLite format 3\x00", "an SQLite database", "Write its text to JSON lines"),
    (rb"\x80[\x02-\x05]", "a Python pickle", "Write its text to JSON lines"),
    (rb"\x93NUMPY", "a NumPy array", "Write its text to JSON lines"),
    (rb"%PDF-", "a PDF", "Write its text to a file: pdftotext {}"),
    (rb"\xd0\xcf\x11\xe0", "a document of Microsoft Office", "Save it as plain text in UTF-8"),
    (rb"\x89PNG\r\n|\xff\xd8\xff", "an image", "Write its text to a file in UTF-8"),
    (rb"\x7fELF", "a program", "Write its text to a file in UTF-8"),
    (rb"(?!\x00{4}).{3}\x00{5}.{4}", "binary records (TFRecord?)", _AS_RECORDS),
  )
)
_MEDIAWIKI = re.compile(rb"\s*<mediawiki\s")
# The longer marks come first, since those of UTF-32 begin with those of UTF-16.
_MARKS = (
  (codecs.BOM_UTF32_LE, "UTF-32"),
  (codecs.BOM_UTF32_BE, "UTF-32"),
  (codecs.BOM_UTF16_LE, "UTF-16"),
  (codecs.BOM_UTF16_BE, "UTF-16"),
)
# Escape sequences of encodings in seven bits, whose bytes are all valid UTF-8.
_SHIFTS = ((b"\x1b$B", "ISO-2022-JP"), (b"\x1b$@", "ISO-2022-JP"), (b"\x1b$)C", "ISO-2022-KR"))
# A file in another encoding or of binary data has more wrong bytes than these, per thousand and in
# total; UTF-8 text with a few errors has fewer.
_WRONG_PER_MILLE, _FEW = 1, 4
_NULS_PERCENT = 5
# Control bytes that texts do not have. (Escapes start terminal colours, manuals have backspaces.)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\b\x1b")) + b"\x7f"
_CHARACTERS = 2048  # enough to recognise UTF-16
_NO_TEXT = ("Cc", "Cs", "Co", "Cn")  # Unicode: controls, surrogates, private and unassigned


class FileProblem(NamedTuple):
  """Why a file is refused: what it is and what to do; {} in the advice stands for its name."""

  what: str
  advice: str


class Markup(NamedTuple):
  """What a text is whose markup a model would learn, and what to do."""

  what: str
  advice: str


class WrongByte(NamedTuple):
  """The first byte that is not UTF-8: its offset in the sample and its value."""

  offset: int
  value: int


def find_problem(sample: bytes, start: bool = True) -> FileProblem | WrongByte | None:
  """Checks whether unpacked bytes of a file are text in UTF-8.

  Args:
    sample: tens of thousands of bytes; may begin and end inside a character.
    start: whether they are the first bytes of the file.

  Returns:
    a FileProblem if the file is something else, a WrongByte if only a few bytes are not UTF-8, or
    None.
  """
  if start:
    for pattern, name, advice in _FORMATS:
      if pattern.match(sample):
        return FileProblem(name, advice)
    for mark, name in _MARKS:
      if sample.startswith(mark):
        return _encoded(name)
  for shift, name in _SHIFTS:
    if shift in sample and sample.isascii():
      return _encoded(name)
  nuls = sample.count(0)
  wrong, characters, first = _wrong_bytes(sample, start)
  many = wrong >= _FEW and 1000 * wrong > _WRONG_PER_MILLE * len(sample)
  many_nuls = 100 * nuls > _NULS_PERCENT * len(sample) and nuls >= min(_FEW, len(sample) / 4)
  if many_nuls or (many and nuls):
    encoding = _wide_encoding(sample)
    return _encoded(encoding) if encoding else _BINARY
  if many and wrong > characters:
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    return _BINARY if 100 * controls > len(sample) else _other_encoding(first)
  return first


def find_markup(start: bytes) -> Markup | None:
  """Returns what a file of text is that has better text inside, by its first bytes.

  It can be read as it is; runs that began with it resume.
  """
  if not _MEDIAWIKI.match(start):
    return None
  return Markup(
    "a dump of MediaWiki, with its markup",
    "Write its text to JSON lines (WikiExtractor, --json) and read those with 'data/jsonl.gin'",
  )


_BINARY = FileProblem("binary data and not text", "Write its text to a file in UTF-8")


def _encoded(name: str) -> FileProblem:
  return FileProblem(
    f"text in {name} and not in UTF-8", f"Convert it: iconv -f {name} -t UTF-8 {{}} > NEW_FILE"
  )


def _other_encoding(first: WrongByte | None) -> FileProblem:
  byte = f" (byte {first.offset:,} is 0x{first.value:02x})" if first else ""
  return FileProblem(
    f"not in UTF-8{byte}",
    "Convert it from its encoding, e.g. iconv -f WINDOWS-1252 -t UTF-8 {} > NEW_FILE",
  )


def _wrong_bytes(sample: bytes, start: bool) -> tuple[int, int, WrongByte | None]:
  """Returns the number of bytes that are not UTF-8, that of characters beyond ASCII, and the first
  wrong byte."""
  skipped = 0
  if not start:  # The sample may begin inside a character.
    inside = len(sample) if len(sample) < 4 else 0
    skipped = next((i for i, byte in enumerate(sample[:4]) if not 0x80 <= byte < 0xC0), inside)
  decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
  text = decoder.decode(sample[skipped:])
  if text.isascii():
    return 0, 0, None
  wrong = re.findall("[\udc80-\udcff]", text)
  characters = len(re.findall("[^\x00-\x7f]", text)) - len(wrong)
  if not wrong:
    return 0, characters, None
  before = text[: text.index(wrong[0])].encode("utf-8", "surrogateescape")
  return len(wrong), characters, WrongByte(skipped + len(before), ord(wrong[0]) - 0xDC00)


def _wide_encoding(sample: bytes) -> str | None:
  """Returns which of UTF-16 and UTF-32 the sample is text in, without a mark at its start."""
  for name, width in (("UTF-32LE", 4), ("UTF-32BE", 4), ("UTF-16LE", 2), ("UTF-16BE", 2)):
    head = sample[: min(len(sample) // width, _CHARACTERS) * width]
    try:
      text = codecs.getincrementaldecoder(name)().decode(head)
    except UnicodeDecodeError:
      continue
    if text and all(c.isspace() or unicodedata.category(c) not in _NO_TEXT for c in text):
      return name
  return None
