"""The output file: what an earlier process wrote stays, a torn record goes, nothing is mixed."""

import json

import pytest

from launch.inference.output_file import OutputFile
from launch.process.errors import ConfigurationError

SETTINGS = {"input": "abc", "task": "fill", "beams": 1, "mesh": None}


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def written(path, records, settings=SETTINGS):
  file = OutputFile(str(path), settings)
  file.add(records)
  file.close()


def test_records_are_appended_where_an_earlier_process_ended(tmp_path):
  path = tmp_path / "out.jsonl"
  written(path, [{"a": 1}, {"error": "x"}])
  file = OutputFile(str(path), SETTINGS)
  assert (file.done, file.errors) == (2, 1)
  file.add([{"text": "é\u2028"}, {"text": "\ud800"}])
  file.close()
  assert [json.loads(line) for line in path.read_text().split("\n")[:-1]] == [
    *[{"a": 1}, {"error": "x"}, {"text": "é\u2028"}],
    {"text": "\ud800"},
  ]


@pytest.mark.parametrize("torn", [b'{"a": ', b'{"a": 3}', b"\x00\x00\x00", b'{"a": 3\n', b"3\n"])
def test_a_record_that_was_not_written_whole_is_cut_off(torn, tmp_path):
  path = tmp_path / "out.jsonl"
  written(path, [{"a": 1}, {"a": 2}])
  with path.open("ab") as file:
    file.write(torn)
  written(path, [{"a": 3}])
  assert lines(path) == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_a_process_that_died_before_its_first_record_leaves_nothing_behind(tmp_path):
  path = tmp_path / "out.jsonl"
  OutputFile(str(path), SETTINGS).close()
  written(path, [{"a": 1}], {**SETTINGS, "beams": 4})  # Nothing was written with other settings.
  assert lines(path) == [{"a": 1}]


def test_another_input_or_other_settings_are_refused(tmp_path):
  path = tmp_path / "out.jsonl"
  written(path, [{"a": 1}])
  with pytest.raises(ConfigurationError) as caught:
    OutputFile(str(path), {**SETTINGS, "beams": 4, "input": "def"})
  assert "  input: 'abc' then, 'def' now\n  beams: 1 then, 4 now" in str(caught.value)
  assert lines(path) == [{"a": 1}]


def test_files_of_others_are_not_touched(tmp_path):
  path = tmp_path / "out.jsonl"
  path.write_text('{"a": 1}')
  with pytest.raises(ConfigurationError, match="is not overwritten"):
    OutputFile(str(path), SETTINGS)
  path.unlink()
  written(path, [{"a": 1}, {"a": 2}])
  content = path.read_text().replace('{"a": 1}', '{"a": 1')
  path.write_text(content)
  with pytest.raises(ConfigurationError, match="line 1 is no record of this command, and others"):
    OutputFile(str(path), SETTINGS)
  assert path.read_text() == content
  for place, message in ((tmp_path, "is no file"), (tmp_path / "no" / "x", "does not exist")):
    with pytest.raises(ConfigurationError, match=message):
      OutputFile(str(place), SETTINGS)


def test_only_one_process_writes(tmp_path):
  path = str(tmp_path / "out.jsonl")
  first = OutputFile(path, SETTINGS)
  with pytest.raises(ConfigurationError, match="is being written by another process"):
    OutputFile(path, SETTINGS)
  first.close()
  OutputFile(path, SETTINGS).close()


def test_a_full_disk_leaves_whole_records(tmp_path, no_room):
  path = tmp_path / "out.jsonl"
  file = OutputFile(str(path), SETTINGS)
  file.add([{"a": 1}])
  with no_room(40), pytest.raises(OSError, match=r"out\.jsonl"):
    file.add([{"a": "x" * 100}])
  assert lines(path) == [{"a": 1}]
  file.add([{"a": 2}])
  assert lines(path) == [{"a": 1}, {"a": 2}]
