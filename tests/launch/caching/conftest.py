"""Makes caches without Beam: the steps are done in this process, one piece after the other."""

import contextlib
import types

import pytest

from launch.caching import corpus_documents, make, request, steps
from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.data.tokenizers import vocabularies


@pytest.fixture
def making(monkeypatch, tmp_path):
  """(corpus, ...) -> the manifest of its cache in tmp_path/"cache"; `.order` changes the order."""

  @contextlib.contextmanager
  def in_this_process(asked, step):
    for number in call.order(steps.left(asked.folder, step)):
      steps.do(number, str(asked.folder), step)
    yield types.SimpleNamespace(poll=lambda: 0, returncode=0)

  def call(corpus, folder="cache", deduplicate=False, shards=None, vocabulary=None):
    vocabulary = vocabulary or vocabularies.byte_vocabulary(0)
    place = tmp_path / folder
    return make.make(request.of(corpus, vocabulary, place, deduplicate, shards, 1, []))

  call.order = list
  monkeypatch.setattr(make, "_pipeline", in_this_process)
  monkeypatch.setattr(corpus_documents, "_PIECE_BYTES", 1)
  monkeypatch.setattr(make, "_beam_is_installed", lambda: True)
  return call


@pytest.fixture
def codec():
  return ByteCodec(0)
