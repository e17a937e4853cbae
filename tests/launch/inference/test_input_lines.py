"""Lines of a file: texts as they are, JSON objects, and what is wrong with them."""

import json

import pytest

from launch.inference.input_lines import InputFile
from launch.process.errors import ConfigurationError


def requests(folder, name, content):
  path = folder / name
  path.write_bytes(content)
  lines = InputFile(str(path))
  found = list(lines.requests())
  assert lines.count == len(found)
  return found


def test_lines_are_texts_as_they_are(tmp_path):
  content = 'a b\r\n\n  \nd\u2028e "quoted"\nlast'.encode() + b"\n\xff\xfe"
  found = requests(tmp_path, "x.txt", content)
  assert [r.text for r in found] == ["a b", "", "", 'd\u2028e "quoted"', "last", ""]
  assert [r.error for r in found] == [
    *["", "The text is empty.", "The text is empty.", "", ""],
    "The line is not UTF-8, from byte 0 on.",
  ]
  assert found[0].fields == {"text": "a b"}


def test_objects_keep_their_fields(tmp_path):
  objects = [
    {"id": 7, "text": "a [MASK]", "mode": "[S]", "more": [1, None]},
    {"prefix": "a ", "suffix": " b"},
  ]
  found = requests(tmp_path, "x.jsonl", b"\n".join(json.dumps(o).encode() for o in objects))
  assert [(r.text, r.mode, r.error) for r in found] == [
    ("a [MASK]", "[S]", ""),
    ("a [MASK] b", None, ""),
  ]
  assert [r.fields for r in found] == objects


@pytest.mark.parametrize(
  ("line", "message"),
  [
    (b'{"text": "a"', "The line is not JSON (Expecting"),
    (b"", "The line is empty."),
    (b"[1, 2]", 'The line is no JSON object such as {"text": "..."}: [1, 2]'),
    (b'{"txt": "a"}', 'The object has no "text", and not both of "prefix" and "suffix", but only'),
    (b'{"prefix": "a"}', 'not both of "prefix" and "suffix", but only prefix'),
    (b'{"text": 3}', '"text" is 3; it has to be a text.'),
    (b'{"text": " "}', "The text is empty."),
    (b'{"text": "a", "mode": 3}', '"mode" is 3; it has to be a mode token'),
    (b'{"text": "\\ud800"}', "half of a surrogate pair"),
    (b"[" * 100_000, "The line is not JSON (maximum recursion"),
    (b"\xe9", "The line is not UTF-8"),
  ],
)
def test_bad_lines(line, message, tmp_path):
  good = b'{"text": "good"}'
  before, bad, after = requests(tmp_path, "x.jsonl", b"\n".join([good, line, good]))
  assert before.text == after.text == "good" and not before.error + after.error
  assert message in bad.error and not bad.text


def test_files_that_cannot_be_read_twice_are_refused(tmp_path):
  (tmp_path / "empty.txt").write_bytes(b"")
  for path, message in {
    tmp_path / "none.txt": "does not exist",
    tmp_path / "empty.txt": "is empty",
    tmp_path: "is no file",
    "/dev/null": "is no file",
  }.items():
    with pytest.raises(ConfigurationError, match=message):
      InputFile(str(path))
