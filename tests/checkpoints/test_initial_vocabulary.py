"""A checkpoint to start from whose ids mean something else."""

import dataclasses
import warnings

import pytest
from etils import epath

from t5x_style.checkpoints import initial_vocabulary, restoring
from t5x_style.codecs import vocabulary_folder
from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.errors import UserError
from t5x_style.training import setup
from tests import tiny


class _Reversed(ByteCodec):
  """A vocabulary in which every byte has another id."""

  def _piece_bytes(self):
    return super()._piece_bytes()[::-1]


def identity_of(codec):
  """An identity as data/tokenizers/vocabularies.py computes it."""
  own = {"name": codec.name, "vocab_size": codec.vocab_size, "kind": type(codec).__name__}
  return own | {"extra_ids": len(codec.sentinel_ids), "specials": list(codec.borrowed)}


def with_vocabulary(config, codec):
  """Returns the configuration of a run whose random tokens are ids of a vocabulary."""

  def load(**settings):
    data = config.dataset(**settings)
    own = data.identity()
    data.codec, data.identity = codec, lambda: own | {"vocabulary": identity_of(codec)}
    return data

  return dataclasses.replace(config, dataset=load)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """The MODEL_DIR of a run with a vocabulary of bytes and ten sentinels."""
  folder = tmp_path_factory.mktemp("trained")
  codec = ByteCodec(10)
  tiny.train(with_vocabulary(tiny.config("decoder_only", folder, train_steps=1), codec))
  vocabulary_folder.write(epath.Path(folder) / "vocabulary", codec, identity_of(codec))
  return folder


@pytest.fixture
def data(tmp_path):
  """codec -> the dataset of a run with this vocabulary."""
  config = tiny.config("decoder_only", tmp_path)
  return lambda codec: setup.prepare(with_vocabulary(config, codec)).dataset


def warned(path, dataset):
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    initial_vocabulary.check(str(path), dataset)
  return [str(x.message) for x in caught]


def test_the_same_vocabulary_is_right_and_so_are_others_programs_checkpoints(trained, data):
  assert warned(trained, data(ByteCodec(10))) == []
  assert warned("hf:somewhere", data(ByteCodec(10))) == []
  assert warned(trained.parent / "nothing", data(ByteCodec(10))) == []


def test_sentinels_that_moved_are_named(trained, data):
  """With three more extra ids the last one is sentinel 0 again, and the old one is sentinel 3."""
  (text,) = warned(trained, data(ByteCodec(13)))
  assert "10 of 269 ids mean something else" in text
  assert "id 268 was '<extra_id_0>' and is '<extra_id_3>'" in text
  (text,) = warned(trained, data(ByteCodec(10, ["[R]"])))
  assert "1 of 269 ids" in text and "id 259 was '<extra_id_9>' and is '[R]'" in text


def test_another_vocabulary_is_refused(trained, data, tmp_path):
  with pytest.raises(UserError, match=r"another vocabulary: 2\d\d of 269 ids mean something else"):
    initial_vocabulary.check(str(trained), data(_Reversed(10)))
  config = tiny.config("decoder_only", tmp_path, initial_checkpoint_path=str(trained))
  prepared = setup.prepare(with_vocabulary(config, _Reversed(10)))
  for start in (restoring.open_run, restoring.check_start):
    with pytest.raises(UserError, match="was trained with another vocabulary"):
      start(prepared)


def test_without_its_folder_only_facts_are_compared(trained, data, tmp_path):
  checkpoints = tmp_path / "moved" / "checkpoints"
  checkpoints.parent.mkdir()
  checkpoints.symlink_to(trained / "checkpoints")
  (text,) = warned(tmp_path / "moved", data(ByteCodec(13)))
  assert "extra_ids was 10 and is 13; vocab_size was 269 and is 272. Its ids may mean" in text
