"""Every byte of a corpus of files is read, or the run ends with the file's name and the reason."""

import gzip
import json
import os
import random
import warnings

import pytest
import tensorflow as tf

from t5x_style.data import corpora, iterator
from t5x_style.data.corpora import text_files, text_reading, text_sources
from t5x_style.errors import UserError

# Within a line: what Python, Unicode or a terminal may take for the end of one, and what others do
# not keep. U+FEFF is a byte order mark at the start of a file only.
TEXTS = [
  "alpha\rbeta gamma",
  "10%\r20%\r\r100% done",
  "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i",
  "\0 nul \ufeff mark \ufffe \U0001f600 \ud7ff",
  "  spaces \t",
  "\u3000",
  "x" * 200_000,
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("T5X_STYLE_CACHE", str(tmp_path / "cache"))


def read(source, split="train", **options):
  dataset = source.get_dataset(split, **{"shuffle": False, **options})
  return [example["text"] for example in iterator.arrays(dataset)]


def silent(pattern, documents="line", **options):
  """The documents of a corpus that has nothing to warn of."""
  options.setdefault("validation_fraction", 0)
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    return read(corpora.TextFiles(str(pattern), documents, **options).source())


def error(pattern, documents="line", **options):
  with pytest.raises(UserError) as raised:
    silent(pattern, documents, **options)
  return str(raised.value)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "the last line has no end"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_line_is_all_that_is_between_line_feeds(tmp_path, end, last, mark):
  lines = [*TEXTS, "", " ", *TEXTS]
  content = (mark + "".join(line + end for line in lines) + last).encode()
  (tmp_path / "a.txt").write_bytes(content)
  filled = [line.encode() for line in [*TEXTS, *TEXTS, last] if line]
  assert silent(tmp_path / "a.txt") == filled
  assert silent(tmp_path / "a.txt", "file") == [content.removeprefix(mark.encode())]


def test_every_form_reads_the_same_text(tmp_path):
  (tmp_path / "lines.txt").write_bytes("\n".join(TEXTS).encode())
  (tmp_path / "lines.gz").write_bytes(gzip.compress("\n".join(TEXTS).encode()))
  for number, text in enumerate(TEXTS):
    (tmp_path / f"{number}.doc").write_bytes(text.encode())
  filled = [text for text in TEXTS if text.strip()]  # JSON lines of space are left out and counted
  (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in filled))
  expected = [text.encode() for text in TEXTS]
  assert silent(tmp_path / "lines.txt") == silent(tmp_path / "lines.gz") == expected
  assert silent(tmp_path / "*.doc", "file") == expected
  records = corpora.Jsonl(str(tmp_path / "a.jsonl"), validation_fraction=0).source()
  assert sorted(read(records)) == sorted(text.encode() for text in filled)


def packed(lines):
  return gzip.compress("".join(f"{line}\n" for line in lines).encode())


def numbered(count, bits=400):
  """Lines that are not compressed well."""
  draw = random.Random(0)
  return [f"line {i} {draw.getrandbits(bits):x}" for i in range(count)]


def test_gzip_data_is_known_by_its_bytes(tmp_path):
  lines = numbered(3000)
  members = packed(lines[:1000]) + packed([]) + packed(lines[1000:]) + b"\0" * 512
  (tmp_path / "a.txt.gz").write_bytes(members)
  (tmp_path / "b.txt").write_bytes(members)
  expected = [line.encode() for line in lines]
  assert silent(tmp_path / "a.txt.gz") == silent(tmp_path / "b.txt") == expected
  assert silent(tmp_path / "?.txt*", "file") == [b"".join(line + b"\n" for line in expected)] * 2


def cut(content):
  return content[: len(content) // 2]


def cut_in_the_trailer(content):
  return content[:-3]


def flip(content):
  changed = bytearray(content)
  changed[len(content) // 2] ^= 0x55
  return bytes(changed)


def append(content):
  return content + b"more text"


@pytest.mark.parametrize("documents", ["line", "file"])
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("damage", [cut, cut_in_the_trailer, flip, append])
def test_damaged_gzip_data(tmp_path, monkeypatch, damage, at_once, documents):
  """At the start where it is small, else when it is read, through all that tf.data does to it."""
  (tmp_path / "good.gz").write_bytes(packed(numbered(10)))
  (tmp_path / "bad").write_bytes(damage(packed(numbered(5000))))
  corpus = corpora.TextFiles(f"{tmp_path}/*d*", documents, validation_fraction=0)
  if at_once:
    with pytest.raises(UserError) as raised:
      corpus.source()
  else:
    monkeypatch.setattr(text_reading, "_UNPACKED_BYTES", 0)
    dataset = corpus.source().get_dataset("train", seed=0)
    stream = iterator.Stream(iterator.with_options(dataset.shuffle(8).batch(2).prefetch(2)))
    with pytest.raises(UserError) as raised:
      for _ in range(10_000):
        next(stream)
  message = str(raised.value)
  assert message.startswith(f"{tmp_path}/bad: its gzip data ")
  assert f"gzip -t {tmp_path}/bad " in message and "good.gz" not in message


def test_what_is_named_gz_and_is_none(tmp_path):
  for content, what in ((b"some text\n", "holds no gzip data"), (b"", "is empty")):
    (tmp_path / "a.txt.gz").write_bytes(content)
    assert f"a.txt.gz: it is named .gz but {what}" in error(tmp_path / "a.txt.gz")


@pytest.mark.parametrize("documents", ["line", "file"])
def test_files_of_other_kinds_are_all_named_before_training(tmp_path, documents):
  for i in range(15):
    (tmp_path / f"{i:02d}.txt").write_bytes("some text\n".encode("utf-16"))
  (tmp_path / "16.txt").write_bytes(b"PAR1\x15\x04")
  (tmp_path / "b c.txt").write_text("good\n")
  message = error(f"{tmp_path}/*.txt", documents)
  lines = message.split("\n")
  assert lines[0].startswith(f"{tmp_path}/00.txt: it is text in UTF-16 and not in UTF-8.")
  assert f"iconv -f UTF-16 -t UTF-8 {tmp_path}/00.txt" in lines[0] and "CORPUS_FILES" in lines[0]
  assert len(lines) == 13 and lines[-1] == "and 4 more files."


def test_what_is_no_text_at_the_end_or_in_gzip_data(tmp_path):
  (tmp_path / "a.txt").write_bytes(b"text\n" * 50_000 + "some text\n".encode("utf-16-le") * 9000)
  assert "a.txt: it is " in (message := error(tmp_path / "a.txt")) and "from about byte" in message
  (tmp_path / "b.tgz").write_bytes(gzip.compress(b"PK\x03\x04" + bytes(99)))
  assert "b.tgz: it is a ZIP archive" in error(tmp_path / "b.tgz", "file")
  (tmp_path / "c.gz").write_bytes(gzip.compress(packed(["text"])))
  assert "c.gz: it is gzip data, packed twice. Unpack it once" in error(tmp_path / "c.gz")
  (tmp_path / "d.gz").write_bytes(gzip.compress("some text\n".encode("utf-16")))
  convert = f"gzip -dc {tmp_path}/d.gz > {tmp_path}/d, then: Convert it: iconv -f UTF-16 -t UTF-8"
  assert f"{convert} {tmp_path}/d; or leave" in error(tmp_path / "d.gz")
  (tmp_path / "e.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\n")
  assert "git lfs pull" in error(tmp_path / "e.txt")


@pytest.mark.parametrize("documents", ["line", "file"])
def test_wrong_bytes_are_told_once_with_file_and_place(tmp_path, documents):
  good = (b"text in ASCII " * 70 + b"\n") * 300
  (tmp_path / "at_the_end.txt").write_bytes(good + b"caf\xe9\n")
  (tmp_path / "deep_within.txt").write_bytes(good + b"\xff" + good * 3)
  (tmp_path / "good.txt").write_bytes(good)
  corpus = corpora.TextFiles(f"{tmp_path}/*.txt", documents, validation_fraction=0)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    source = corpus.source()
  (message,) = (str(warning.message) for warning in caught)
  place = len(good) + 3
  assert message.startswith(f"{tmp_path}/at_the_end.txt: byte {place:,} (0xe9) is no UTF-8")
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert b"\n".join([*read(source), b""]).count(b"ASCII") == 300 * 70 * 6
    read(source)
  (message,) = (str(warning.message) for warning in caught)
  assert message.startswith(f"{tmp_path}/deep_within.txt: byte {len(good):,} (0xff) is no UTF-8")


def test_names_that_are_no_utf8(tmp_path):
  """On Linux names are bytes."""
  names = [os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9_%d" % i) for i in range(20)]
  for i, name in enumerate(names):
    with open(name, "w") as file:
      file.write(f'{{"text": "{i}"}}')
  for corpus in (
    corpora.TextFiles(f"{tmp_path}/*", validation_fraction=0.3),
    corpora.TextFiles(f"{tmp_path}/*", "line", validation_fraction=0.3),
    corpora.TextFiles(names, validation_pattern=names[3]),
    corpora.Jsonl(f"{tmp_path}/caf*", validation_fraction=0.3),
  ):
    source = corpus.source()
    train, validation = read(source, shuffle=True, seed=0), read(source, "validation")
    assert train and validation and len({*train, *validation}) == 20
    assert len(corpus.fingerprint()) == 64
  with open(names[0], "wb") as file:
    file.write(b"\x28\xb5\x2f\xfd")
  message = error(f"{tmp_path}/caf*")
  assert message.startswith(names[0]) and message.encode("utf-8", "backslashreplace")


def test_a_file_under_several_names_is_read_once(tmp_path, monkeypatch):
  for i in range(4):
    (tmp_path / f"{i}.txt").write_text(f"text {i}")
  (tmp_path / "link.txt").symlink_to(tmp_path / "2.txt")
  monkeypatch.chdir(tmp_path)
  corpus = corpora.TextFiles(["*.txt", f"{tmp_path}/1.txt", "./0.txt"], validation_fraction=0)
  assert read(corpus.source()) == [b"text 0", b"text 1", b"text 2", b"text 3"]
  corpus = corpora.TextFiles("*.txt", validation_pattern=[f"{tmp_path}/link.txt", "./3.txt"])
  assert read(corpus.source()) == [b"text 0", b"text 1"]
  assert sorted(read(corpus.source(), "validation")) == [b"text 2", b"text 3"]


def test_what_can_be_read_only_once_is_refused(tmp_path):
  os.mkfifo(tmp_path / "pipe.txt")
  assert "pipe.txt, matched by CORPUS_FILES, is a pipe" in error(tmp_path / "*.txt")


@pytest.mark.parametrize("documents", ["line", "file"])
def test_a_file_that_goes_away_while_it_is_read(tmp_path, documents):
  for i in range(100):
    (tmp_path / f"{i:02d}.txt").write_text("some text\n" * 40)
  source = corpora.TextFiles(f"{tmp_path}/*.txt", documents, validation_fraction=0).source()
  running = iterator.arrays(source.get_dataset("train", shuffle=False))
  next(running)
  (tmp_path / "99.txt").unlink()
  with pytest.raises(UserError, match="99.txt: it cannot be read .No such file"):
    list(running)


def test_remote_files_are_read_alike(tmp_path):
  """TensorFlow opens them by their URL, as it does those of buckets."""
  lines = numbered(3000)
  (tmp_path / "a.txt").write_text("\ufeff" + "\r\n".join(lines))
  (tmp_path / "b.txt.gz").write_bytes(packed(lines))
  expected = [line.encode() for line in lines]
  assert silent(f"file://{tmp_path}/a.txt") == silent(f"file://{tmp_path}/b.*") == expected
  assert len(silent(f"file://{tmp_path}/*", "file")) == 2
  (tmp_path / "b.txt.gz").write_bytes(cut(packed(lines)))
  assert "b.txt.gz: its gzip data ends too early" in error(f"file://{tmp_path}/b.*")


LONG = ["x y " * 100_000, "a\rb" * 100_000, "天\r" * 100_000, "ascii " + "é" * 200_000]


@pytest.mark.parametrize("documents", ["line", "file", "gzip", "json"])
@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_long_texts_are_read_as_several_documents(tmp_path, monkeypatch, documents, text):
  """Memory is in proportion to the longest document; nothing of the text is lost or changed."""
  monkeypatch.setattr(text_reading, "LONGEST_DOCUMENT", 100_000)
  content = (json.dumps({"text": text}) if documents == "json" else text).encode()
  file = tmp_path / "a.txt"
  file.write_bytes(gzip.compress(content) if documents == "gzip" else content)
  corpus = corpora.TextFiles(str(file), "line", validation_fraction=0)
  if documents == "file":
    corpus = corpora.TextFiles(str(file), "file", validation_fraction=0)
  if documents == "json":
    corpus = corpora.Jsonl(str(file), validation_fraction=0)
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    pieces = [piece.decode() for piece in read(corpus.source())]  # each is UTF-8
  if documents != "json":  # Records are dealt out to shards.
    assert "".join(pieces) == text
  assert sorted("".join(pieces)) == sorted(text) and len(pieces) > 1
  assert max(len(piece.encode()) for piece in pieces) < 200_000
  assert " " not in text or all(piece.endswith(" ") for piece in pieces[:-1]) or "é" in text
  (message,) = (str(warning.message) for warning in caught)
  assert str(file) in message and "read as several" in message


def test_texts_that_are_too_long_to_be_held(tmp_path, monkeypatch):
  monkeypatch.setattr(text_files, "LARGEST_DOCUMENT", 100_000)
  (tmp_path / "b.gz").write_bytes(packed(['{"text": "short"}', "x" * 200_000]))
  assert "b.gz: its text is larger than" in error(tmp_path / "b.gz", "file")
  with pytest.raises(UserError, match="b.gz: the line that begins before byte"):
    corpora.Jsonl(str(tmp_path / "b.gz")).source()


@pytest.mark.parametrize("kept_open", [0, 2, 512])
def test_a_position_in_lines_is_small_and_exact(tmp_path, monkeypatch, kept_open):
  """However many files are kept open, and whatever else reads them."""
  monkeypatch.setattr(text_sources, "_KEPT_OPEN", kept_open)
  for i in range(6):
    lines = [f"{i} {line}" for line in numbered(400, bits=8000)]
    (tmp_path / f"{i}.gz").write_bytes(packed(lines))
  source = corpora.TextFiles(f"{tmp_path}/*.gz", "line", validation_fraction=0).source()

  def new():
    return iterator.Stream(iterator.with_options(source.get_dataset("train", seed=3)))

  first, other = new(), new()
  for _ in range(700):
    assert next(first) == next(other)
  state = first.get_state()
  assert len(state) < 2**20
  expected = [next(first)["text"] for _ in range(1700)]
  second = new()
  second.set_state(state)
  assert [next(second)["text"] for _ in range(1700)] == expected
  assert len(set(expected)) == 1700


def test_damaged_records_are_no_fault_of_the_program(tmp_path):
  path = str(tmp_path / "records")
  with tf.io.TFRecordWriter(path) as writer:
    for _ in range(5):
      writer.write(b"x" * 1000)
  content = bytearray((tmp_path / "records").read_bytes())
  content[2500] ^= 1
  (tmp_path / "records").write_bytes(content)
  dataset = tf.data.TFRecordDataset(path).map(lambda text: {"text": text})
  with pytest.raises(UserError, match=r"records .* is damaged \(corrupted record at 2044\)"):
    list(iterator.arrays(dataset))
