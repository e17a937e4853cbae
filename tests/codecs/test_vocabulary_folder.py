"""The folder of a vocabulary: damaged, of a later version, written again."""

import json
import os

import pytest
from etils import epath

from t5x_style.codecs import vocabulary_folder
from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.data.tokenizers import vocabularies
from t5x_style.data.tokenizers.base import codec_of
from t5x_style.errors import UserError


@pytest.fixture
def folder(tmp_path):
  folder = epath.Path(tmp_path / "vocabulary")
  vocabulary_folder.write(folder, codec_of(vocabularies.sentencepiece()), {"name": "x"})
  return folder


def test_the_same_vocabulary_is_not_written_again(folder):
  before = {file.name: os.stat(file).st_mtime_ns for file in folder.iterdir()}
  assert sorted(before) == ["vocabulary.json", "vocabulary.model"]
  vocabulary_folder.write(folder, codec_of(vocabularies.sentencepiece()), {"name": "x"})
  assert {file.name: os.stat(file).st_mtime_ns for file in folder.iterdir()} == before
  vocabulary_folder.write(folder, ByteCodec(3), {"name": "bytes"})
  assert vocabulary_folder.read(folder).codec.vocab_size == 262


def test_no_folder_is_no_vocabulary(tmp_path):
  assert vocabulary_folder.read(epath.Path(tmp_path / "none")) is None


def test_damage_is_named(folder):
  model = folder / "vocabulary.model"
  content = model.read_bytes()
  model.write_bytes(content[:-1] + b"?")
  with pytest.raises(UserError, match=r"vocabulary\.model' is not the file that was saved"):
    vocabulary_folder.read(folder)
  model.unlink()
  with pytest.raises(UserError, match=r"is damaged \(FileNotFoundError.*vocabulary=FILE"):
    vocabulary_folder.read(folder)
  model.write_bytes(content)
  description = folder / "vocabulary.json"
  values = json.loads(description.read_text())
  description.write_text(json.dumps(values | {"kind": "morse"}))
  with pytest.raises(UserError, match="of the kind 'morse'; this version of the package knows"):
    vocabulary_folder.read(folder)
  description.write_text("{")
  with pytest.raises(UserError, match="is damaged"):
    vocabulary_folder.read(folder)
